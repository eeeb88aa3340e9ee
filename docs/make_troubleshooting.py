"""Write ``docs/troubleshooting.md`` from the table of mistakes that the tests check, ``tests/mistakes``.

Run it after a change of that table::

    python docs/make_troubleshooting.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the table is part of the tests, which are not installed

from tests.mistakes import Mistake  # noqa: E402
from tests.mistakes.configs import CONFIG_MISTAKES  # noqa: E402
from tests.mistakes.data import DATA_MISTAKES  # noqa: E402

PAGE = Path(__file__).parent / "troubleshooting.md"

_HEAD = """\
# Troubleshooting

<!-- Written by docs/make_troubleshooting.py from tests/mistakes. Do not edit. -->

What the commands say, why, and what to do. Each mistake here is made by a test, which compares the message word for
word. After an error nothing was trained: config and data are checked before the first step, and the exit status is 2.
A warning stands below the table of the data; the run goes on. `--debug` shows where in the code an error came up.
"""


def page() -> str:
    """The whole text of ``docs/troubleshooting.md``."""
    parts = [_HEAD, *_section("Configuration", CONFIG_MISTAKES)]
    for kind in ("error", "warning"):
        parts += _section(f"Data: {kind}s", (mistake for mistake in DATA_MISTAKES if mistake.kind == kind))
    return "\n".join(parts)


def _section(title: str, mistakes: Iterable[Mistake]) -> list[str]:
    return [f"## {title}\n", *(_entry(mistake) for mistake in mistakes)]


def _entry(mistake: Mistake) -> str:
    example = mistake.example.rstrip("\n") or "(nothing)"
    lines = [f"### {mistake.title}\n", f"```text\n{example}\n```\n"]
    seen = [f"{mistake.kind}: {mistake.error}", *([f"  -> {mistake.advice}"] if mistake.advice else [])]
    lines.append("You see:\n")
    lines.append("```text\n" + "\n".join(seen).replace("{folder}", "/home/me/run") + "\n```\n")
    if mistake.remedy:
        lines.append(f"{mistake.remedy}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
