"""The folder's README: its excerpts are what its own example writes."""

import re
import textwrap
from importlib.resources import files

import pytest

README = files("nequip_like.nn.native").joinpath("README.md")


@pytest.mark.skipif(not README.is_file(), reason="a wheel has no READMEs of folders")
def test_excerpts_are_what_the_example_writes():
    text = README.read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    code = "\n".join([names["passes"], *names["convolutions"]])
    excerpts = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    assert len(excerpts) == 2
    for excerpt in excerpts:  # they begin at the margin, whatever their depth in the code
        assert any(textwrap.indent(excerpt, " " * depth) in code for depth in range(0, 20, 4)), excerpt
