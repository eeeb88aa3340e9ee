"""The house in numbers: sizes of folders, files and functions, names, docstrings, comments. `make house` runs it.

python benchmarks/house.py                      this checkout
python benchmarks/house.py --beside COMMIT      an earlier commit beside it
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PACKAGE = "nequip_like"
CHECKPOINTS = (
    *("train/checkpoint", "train/resume_points", "training/checkpointing", "training/lightning_internals"),
    *("workflow/resume", "model/checkpoint_format"),
)

# Words that say nothing of the thing they name; as a whole name they are counted.
_GENERIC = """
added after alike any bad before built chosen done each filled found further given good held here it kept known left
listed made meant more moved named new now obj old one other others own owned plain present previous rest right said
same second seen shown some stuff taken that there these thing things this those tmp told turned used wanted what
when where which who whole written wrong
"""
GENERIC = frozenset(_GENERIC.split())

# First words of functions that do something.
_VERBS = """
accumulate adapt add adopt advance allow append apply ask assign attach average avoid backpropagate backward begin
bind bring broadcast build cache calculate call carry cast centre change check choose claim clean clear close
collate collect combine compare compile complete compose compress compute concat configure connect contract convert
convolve copy count create cut decide declare decode defer define delete describe detach detect differentiate
disable discard display distribute divide draw drop dump emit enable encode end ensure enumerate erase estimate
evaluate exclude exec execute expand expect explain export extend extract fail fetch fill filter finalise finalize
find finish fit fix flatten follow forget format forward freeze gather generate get give globalise go group guard
guess hand handle hash have hide hold hook identify ignore import include increment index infer init initialise
initialize insert inspect instantiate interpolate invert join judge keep label launch lay leave limit list load
locate lock log look lookup lower make manipulate map mark mask match measure merge migrate move multiply name
normalise normalize notify observe open order pack pad parse pass patch pick place plan plot pop preload prepare
prepend print probe propagate prune pull push put quote raise rank read rebuild receive record recover reduce refine
refresh refuse register reject release remember remove rename render repair replace replay report request requeue
require reserve reset resolve restore resume return reverse rewrite roll rotate round run sample save say scale scan
schedule search see select send separate serialize set setup shift shorten show shuffle silence simulate skip slice
solve sort split stack start state stop store strain strip substitute subtract sum summarize swap symmetrize sync
synchronize tabulate take tell test tokenize trace track train transform translate transpose traverse trim truncate
try turn undo unite unpack update upgrade use validate verify visit wait walk warn wrap write yield zero
"""
VERBS = frozenset(_VERBS.split())
# Asked, not done: these need no verb.
_PREDICATES = """
accepts admits are can could did does fits has holds is needs should supports takes uses wants was were
"""
PREDICATES = frozenset(_PREDICATES.split())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", metavar="COMMIT", help="measure this commit as well")
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    columns = {"this checkout": measure(root)}
    if arguments.beside:
        with tempfile.TemporaryDirectory() as folder:
            packed = subprocess.run(["git", "archive", arguments.beside], cwd=root, capture_output=True, check=True)
            with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
                archive.extractall(folder, filter="data")
            columns = {arguments.beside: measure(Path(folder))} | columns
    names = list(next(iter(columns.values())))
    width = max(map(len, names))
    print(" " * width, *(f"{title:>24}" for title in columns))
    for name in names:
        print(f"{name:<{width}}", *(f"{values[name]:>24}" for values in columns.values()))


def measure(root: Path) -> dict[str, str]:
    """The table of one checkout: name of each quantity -> its value as text.

    Args:
        root: The checkout.
    """
    files = sorted((root / PACKAGE).rglob("*.py"))
    texts = {file: file.read_text() for file in files}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    lines = {file: text.count("\n") for file, text in texts.items()}
    folders: dict[Path, int] = {}
    for file in files:
        folders[file.parent] = folders.get(file.parent, 0) + (file.name != "__init__.py")
    largest = max(folders, key=lambda folder: folders[folder])
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    bare = [_length(node) - _docstring_lines(node) for node in functions]
    imports = [len(_own_imports(tree, root)) for tree in trees.values()]
    names = [name for tree in trees.values() for name in _bound_names(tree)]
    generic = sum(name.strip("_") in GENERIC for name in names)
    doers = [node.name.strip("_").split("_")[0] for node in functions if _does_something(node)]
    everything = [node.name.strip("_").split("_")[0] for node in functions if not node.name.startswith("__")]
    public = [node for tree in trees.values() for node in _public(tree)]
    documented = [node for node in public if ast.get_docstring(node)]
    total = sum(lines.values())
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    raised = sum(isinstance(node, ast.Raise) for node in nodes)
    examples = sum(">>> " in (ast.get_docstring(node) or "") for node in nodes if _documentable(node))
    docstrings = sum(
        _docstring_lines(node) for tree in trees.values() for node in ast.walk(tree) if _documentable(node)
    )
    return {
        "files / lines": f"{len(files)} / {total}",
        "largest flat folder": f"{largest.relative_to(root / PACKAGE)} {folders[largest]}",
        "file length: median / p90 / max": _spread(list(lines.values())),
        "function length: median / p90 / max": _spread([_length(node) for node in functions]),
        "the same without docstring": _spread(bare),
        "functions per 1,000 lines": f"{1000 * len(functions) / total:.0f}",
        "own imports of a file: median / p90 / max": _spread(imports),
        "public functions and classes with docstring": _percent(len(documented), len(public)),
        "docstring share of lines": _percent(docstrings, total),
        "docstrings with a >>> example": str(examples),
        "whole-line comments per 100 lines": f"{100 * sum(map(_comments, texts.values())) / total:.1f}",
        "  in nn/native": _comment_rate(texts, root / PACKAGE, ("nn/native",)),
        "  in checkpoints and resume": _comment_rate(texts, root / PACKAGE, CHECKPOINTS),
        "raise per 1,000 lines": f"{1000 * raised / total:.1f}",
        "generic names among bound names": _percent(generic, len(names), 1),
        "functions whose name begins with a verb": _percent(sum(word in VERBS for word in everything), len(everything)),
        "  of those that do something": _percent(sum(word in VERBS for word in doers), len(doers)),
    }  # fmt: skip


def _spread(values: list[int]) -> str:
    ranked = sorted(values)
    return f"{median(ranked):.0f} / {ranked[int(0.9 * (len(ranked) - 1))]} / {ranked[-1]}"


def _percent(part: int, whole: int, digits: int = 0) -> str:
    return f"{100 * part / whole:.{digits}f} %"


def _length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _documentable(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)


def _docstring_lines(node: ast.AST) -> int:
    first = node.body[0] if getattr(node, "body", None) else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def _own_imports(tree: ast.AST, root: Path) -> set[str]:
    """Modules of the package that a file imports; each once, by whichever way it is imported."""
    return {
        f"{node.module}.{alias.name}" if _is_module(root, f"{node.module}.{alias.name}") else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE
        for alias in node.names
    }


def _is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def _bound_names(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives to something: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _does_something(node: ast.FunctionDef) -> bool:
    """Whether a function's name should begin with a verb: no property, no hook of a library, no question."""
    decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    word = node.name.strip("_").split("_")[0]
    return not (
        node.name.startswith("__")
        or decorators & {"property", "cached_property", "setter"}
        or word in PREDICATES
        or word == "on"  # hooks of Lightning
        or word[:1].isupper()  # builders that are called by the name of what they build
    )


def _public(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    return [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]


def _comments(text: str) -> int:
    """Lines that hold nothing but a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and token.line.strip().startswith("#") for token in tokens)


def _comment_rate(texts: dict[Path, str], package: Path, prefixes: tuple[str, ...]) -> str:
    chosen = [text for file, text in texts.items() if str(file.relative_to(package)).startswith(prefixes)]
    return f"{100 * sum(map(_comments, chosen)) / max(1, sum(text.count(chr(10)) for text in chosen)):.1f}"


if __name__ == "__main__":
    main()
