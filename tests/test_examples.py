"""The examples in docstrings: each of them is run, and prints what it says."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import nequip_like

PACKAGE = Path(nequip_like.__file__).parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def docstrings_with_examples(path):
    """How many docstrings of a file have an example; its code is not run for that."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return sum(">>> " in (ast.get_docstring(node) or "") for node in nodes)


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Modules without an example are not imported: some of them need a GPU.
EXAMPLES = {module_name(path): count for path in PACKAGE.rglob("*.py") if (count := docstrings_with_examples(path))}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an example writes
    examples = [test for test in doctest.DocTestFinder().find(importlib.import_module(name)) if test.examples]
    # doctest passes over what a decorator hides from it; here each example that is written is run.
    assert len(examples) == EXAMPLES[name]
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    failures = []
    for example in examples:
        runner.run(example, out=failures.append)
    assert not failures, "".join(failures)
