"""What frames of a prepared set hold beside structure and labels, such as ``config_type``: words and numbers.

They stand behind the records of each task in a block of compressed JSON, one list of values for each name, and are read
when somebody asks for them: a run does for its test sets, to tell errors by groups of frames.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from nequip_like.data.io.annotations import Annotations
from nequip_like.data.prepared.on_demand import OnDemand


def pack_annotations(annotations: Sequence[Annotations]) -> bytes:
    """Words and numbers of frames as bytes; none at all where there are none. Arrays and nested values are left out.

    Example:
        >>> frames = [Annotations({"config_type": "bulk", "box": np.eye(3)}), Annotations({"step": 4})]
        >>> unpack_annotations(pack_annotations(frames))
        [{'config_type': 'bulk'}, {'step': 4}]
    """
    columns: dict[str, list[Any]] = {}
    for i, frame in enumerate(annotations):
        for name, value in frame.info.items():
            python_value = value.item() if isinstance(value, np.generic) else value
            if isinstance(python_value, str | bool | int | float):
                columns.setdefault(name, [None] * len(annotations))[i] = python_value
    return zlib.compress(json.dumps(columns).encode(), 1) if columns else b""


def unpack_annotations(block: bytes) -> list[dict[str, Any]]:
    """What :func:`pack_annotations` wrote, ``{name: value}`` of each frame."""
    columns = json.loads(zlib.decompress(block))
    frames: list[dict[str, Any]] = [{} for _ in next(iter(columns.values()))]
    for name, values in columns.items():
        for frame, value in zip(frames, values, strict=True):
            if value is not None:
                frame[name] = value
    return frames


class PreparedAnnotations(OnDemand[Annotations]):
    """What some frames of a prepared set hold beside structure and labels.

    Args:
        files: The set.
        indices: Numbers of the frames in it (frames,).
    """

    def __init__(self, files: Any, indices: np.ndarray) -> None:
        self._files, self._indices = files, indices
        self._block: tuple[tuple[int, int], list[dict[str, Any]]] | None = None

    def select(self, indices: Sequence[int] | np.ndarray) -> PreparedAnnotations:
        """Those of some of the frames."""
        return PreparedAnnotations(self._files, self._indices[np.asarray(indices, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._indices)

    def read_entry(self, position: int) -> Annotations:
        """Those of one frame."""
        part, number = self._files.locate(int(self._indices[position]))
        file = self._files.files[part]
        blocks = file.manifest.get("annotations", [])  # earlier versions kept none
        block_number = bisect_right(blocks, number, key=lambda block: block[0]) - 1
        if block_number < 0:
            return Annotations()
        first, start, length = blocks[block_number]
        if self._block is None or self._block[0] != (part, block_number):
            self._block = ((part, block_number), unpack_annotations(file.read_bytes(start, length)))
        frames_of_block = self._block[1]
        return Annotations(frames_of_block[number - first]) if number - first < len(frames_of_block) else Annotations()
