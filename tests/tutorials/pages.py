"""Blocks of code in Markdown pages, which tests run."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"(?P<note><!--[^>]*-->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)  # fmt: skip
FILE_NAME = re.compile(r"# file: (?P<name>\S+)\n")
CONFIG_NAME = re.compile(r"# (?:file: )?(?P<name>\S+\.yaml)\n")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    run: bool

    @property
    def config(self):
        """Name of the file that a yaml block stands for."""
        match = CONFIG_NAME.match(self.text) if self.language == "yaml" else None
        return match["name"] if match else None

    @property
    def file(self):
        """Name of the file that a block of any language stands for."""
        match = FILE_NAME.match(self.text)
        return match["name"] if match else None


def blocks(page):
    content = page.read_text()
    return [
        Block(
            match["language"],
            match["text"],
            content[: match.start("text")].count("\n") + 1,
            "not run:" not in (match["note"] or ""),
        )
        for match in BLOCK.finditer(content)
    ]


def run_python(block, page, names):
    padding = "\n" * (block.line - 1)  # so that a traceback shows the line of the page
    exec(compile(padding + block.text, str(page), "exec"), names)


def run_script(script, folder):
    """Run lines of bash as a user types them, with the commands of this installation."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, f"{script}\n{run.stdout}\n{run.stderr}"
