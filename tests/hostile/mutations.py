"""Seeded damage to files, and what may come of reading them: an answer, or one error of the package."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nequip_like.errors import NequipLikeError

# How many damaged inputs each parser gets; tests/hostile/test_budget.py adds them up.
BUDGET = {
    "extxyz bytes": 1000,
    "extxyz tokens": 1500,
    "extxyz grammar": 300,
    "formats of other programs": 120,
    "trajectories": 500,
    "databases": 250,
    "npz": 300,
    "deepmd": 300,
    "runner bytes": 200,
    "runner words": 200,
    "archives": 300,
    "aselmdb": 200,
    "nequip": 200,
    "fairchem": 200,
    "mace": 200,
    "configs": 120,
    "checkpoints": 500,
    "model files": 500,
    "artifacts": 600,
    "nequip checkpoints": 200,
    "nequip packages": 200,
    "metrics": 400,
    "downloads": 40,
}
_SECONDS = 5.0  # for one input
_TOKENS = (
    "nan", "inf", "-inf", "1e400", "-1e400", "1e308", "1e-320", "-1", "0", "00", "1.5", "999999999999", "9" * 400, "T",
    "F", "X", "Qq", "é", "\x00", "\ufeff", '"', "'", "{", "[[[[[[", "=", ":", ",", "_JSON", '_JSON="[' + "[" * 3000,
    'a="_JSON [[1,2],[3]]"', "Lattice=", 'Lattice="1 0 0 0 1 0 0 0 1"', 'Lattice="1e-9 0 0 0 1 0 0 0 1"', "pbc=T",
    'pbc="T T T"', 'pbc="T"', "Properties=", "Properties=species:S:1:pos:R:99999999", "Properties=Z:I:1:pos:R:3",
    "Properties=pos:R:3", "Properties=species:R:1:pos:S:3", "energy=", "energy=1+2j", "energy=T", "energy=_JSON",
    'energy="1 2"', 'stress="1 2 3"', 'virial="1 2 3 4 5 6 7 8 9"', "forces=1", "VEC1 1 2 3", "VEC9 a b c", "\n",
    "\n\n", "\t", "1_000", "0x10", "١٢", "__import__('os').system('true')", "${oc.env:HOME}", "move_mask:L:1",
)  # fmt: skip


def share(name: str, batch: int, batches: int) -> range:
    """The seeds of one batch of a parser's inputs; all batches together are its budget."""
    size = BUDGET[name] // batches
    if size * batches != BUDGET[name]:
        raise ValueError(f"{BUDGET[name]} inputs of {name} do not make {batches} batches")
    return range(batch * size, (batch + 1) * size)


class Hang(BaseException):
    """Raised into code that takes too long; no handler of the code under test catches it."""


@contextmanager
def time_limit(seconds: float = _SECONDS) -> Iterator[None]:
    """End what takes too long."""

    def end(signum: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(function: Callable[[], object]) -> bool:
    """Run something; whether it ended in an error of the package. Any other exception goes through."""
    try:
        with time_limit():
            function()
    except NequipLikeError as error:
        if not error.message.strip():
            raise AssertionError("an error without a message") from error
        return True
    return False


def damaged(content: bytes, seed: int) -> bytes:
    """The content with one to four changes of bytes: changed, taken out, put in, repeated, cut off."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        span = rng.choice((1, 1, 2, 8, 64, 512))
        action = rng.randrange(6)
        if action == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            del data[at : at + span]
        elif action == 2:
            data[at:at] = rng.randbytes(span)
        elif action == 3:
            data[at:at] = data[at : at + span]
        elif action == 4:
            data[at : at + span] = bytes(len(data[at : at + span]))
        else:
            del data[rng.randrange(len(data) // 2, len(data) + 1) :]
    return bytes(data)


def retold(text: str, seed: int, tokens: tuple[str, ...] = _TOKENS) -> str:
    """The text with one to three changes of words or lines: replaced, put in, taken out, repeated, exchanged."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        lines = text.split("\n")
        line = rng.randrange(len(lines))
        words = lines[line].split(" ")
        word = rng.randrange(len(words))
        action = rng.randrange(6)
        if action == 0:
            words[word] = rng.choice(tokens)
        elif action == 1:
            words.insert(word, rng.choice(tokens))
        elif action == 2:
            del words[word]
        elif action == 3:
            words.insert(word, words[word])
        lines[line] = " ".join(words)
        if action == 4:
            lines.insert(line, lines[rng.randrange(len(lines))])
        elif action == 5:
            del lines[line]
        text = "\n".join(lines)
    return text
