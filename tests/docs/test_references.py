"""Cross-references in docstrings lead somewhere, as Sphinx looks them up: by a whole name, or in the same file."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ROLE = re.compile(r":(?:class|func|meth|attr|data|mod|exc):`~?\.?(?:[^<`]*<)?([^>`]+)>?`")


def _definitions(node, prefix):
    """Whole names of what a file or a class defines, and its own."""
    yield prefix.rstrip(".")
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield prefix + child.name
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def _docstrings(node, class_name=""):
    """Docstrings, each with the class that it stands in."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        class_name = node.name if isinstance(node, ast.ClassDef) else class_name
        yield ast.get_docstring(node) or "", class_name
        for child in node.body:
            yield from _docstrings(child, class_name)


def _broken_references(module, tree, defined):
    """Names that are not defined where they are looked for; those of other packages are not looked up."""
    for docstring, class_name in _docstrings(tree):
        for name in _ROLE.findall(docstring):
            target = name.removesuffix("()")
            if "." in target and not target.startswith("nequip_like.") and target[0].islower():
                continue
            if defined.isdisjoint({f"{module}.{class_name}.{target}", f"{module}.{target}", target}):
                yield name


@pytest.fixture(scope="module")
def trees():
    files = sorted((ROOT / "nequip_like").rglob("*.py"))
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return {module: ast.parse(file.read_text()) for module, file in zip(modules, files, strict=True)}


@pytest.fixture(scope="module")
def defined(trees):
    return {name for module, tree in trees.items() for name in _definitions(tree, f"{module}.")}


def test_references_of_docstrings(trees, defined):
    broken = {module: list(_broken_references(module, tree, defined)) for module, tree in trees.items()}
    assert {module: names for module, names in broken.items() if names} == {}


@pytest.mark.parametrize(
    ("reference", "broken"),
    [
        (":class:`~nequip_like.model.potential.Potential`, :class:`torch.optim.Muon`", []),
        (":meth:`Potential.forward`, :func:`_check_plain`", []),
        (":class:`Predictor`", ["Predictor"]),  # of another file
        (":class:`Tensor`", ["Tensor"]),  # imported only
        (":func:`nequip_like.model.build`", ["nequip_like.model.build"]),  # a file that moved
    ],
)
def test_broken_references_are_seen(reference, broken, defined):
    tree = ast.parse(f'"""{reference}"""')
    assert list(_broken_references("nequip_like.model.potential", tree, defined)) == broken
