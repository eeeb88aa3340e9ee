"""Names say what a thing is: the rules of CONTRIBUTING.md, measured as `make house` measures them."""

from __future__ import annotations

import ast
import importlib.util
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nequip_like"
# One name for two things, where each is reached by its module only: entry points of commands, and curves by what they
# are curves of.
DOUBLED = {"main"}


def load_house():
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


house = load_house()


@pytest.fixture(scope="module")
def trees():
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def test_names_are_not_empty_words(trees):
    names = [(path, name) for path, tree in trees.items() for name in house._bound_names(tree)]
    empty = [f"{path}: {name}" for path, name in names if name.strip("_") in house.GENERIC]
    assert len(empty) < 0.015 * len(names), empty


def test_functions_begin_with_a_verb(trees):
    doers = [
        (path, node.name)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and house._does_something(node)
    ]
    verbless = [f"{path}: {name}" for path, name in doers if name.strip("_").split("_")[0] not in house.VERBS]
    assert len(verbless) < 0.4 * len(doers), verbless


def test_one_public_name_means_one_thing(trees):
    places = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in DOUBLED} == {}


def test_rooms_and_files_are_small(trees):
    folders = defaultdict(int)
    for path in trees:
        folders[path.parent] += path.name != "__init__.py"
    assert {str(folder): count for folder, count in folders.items() if count > 15} == {}
    lengths = {str(path): (ROOT / path).read_text().count("\n") for path in trees}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_public_things_have_docstrings(trees):
    missing = [
        f"{path}: {node.name}"
        for path, tree in trees.items()
        for node in house._public(tree)
        if not ast.get_docstring(node)
    ]
    assert missing == []
