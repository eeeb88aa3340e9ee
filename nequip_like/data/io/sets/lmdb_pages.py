"""The pages of an LMDB file, looked through before the library maps it into memory.

The library follows numbers that stand in the file without asking where they lead: a file that was cut off or damaged
ends the process instead of raising an exception. Here every page that it can come to is checked: that it lies within
the file, is what it is said to be, and that all that it points to lies within it. The layout is that of LMDB's
``mdb.c`` (data version 1, 64 bits): https://github.com/LMDB/lmdb.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from nequip_like.errors import DataError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("<QHHHH")  # number of the page, padding, flags, begin and end of the free space in it
_META = struct.Struct("<II16xIH42xIHHQQQQQQQ")  # behind the header of a meta page; see _Meta
_NODE = struct.Struct("<HHHH")  # low and high half of a size or page number, flags, size of the key
_NUMBER = struct.Struct("<Q")
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_KINDS = 0x6F  # bits of the flags that say what a page is; the others are of the process that wrote it
_BIG = 0x01  # of a node: its data are on pages of their own
_EMPTY = 0xFFFFFFFFFFFFFFFF
_LARGEST_KEY = 511  # of the library as it is built everywhere


@dataclass(frozen=True)
class _Meta:
    page_size: int
    flags: int
    depth: int
    entries: int
    root: int
    last_page: int
    transaction: int


def check_pages(path: Path) -> None:
    """Refuse a file that the library cannot read without leaving it.

    Args:
        path: One file, as ``lmdb.open(..., subdir=False)`` takes it.

    Raises:
        DataError: If the file is no LMDB database, is damaged or cut off, or has several values of one key.
    """
    # Not truncated meanwhile: whoever shortens the file while it is read ends this process, here as in the library.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            _Walk(content, _choose_meta(content)).check()
        except (_DamageError, struct.error) as error:
            raise DataError(
                f"cannot read {path.absolute()}: {error}",
                "check that it is complete: copy or download it again, or write it again",
            ) from error


class _DamageError(Exception):
    """What is wrong with a file."""


def _choose_meta(content: mmap.mmap) -> _Meta:
    """The newer of the two meta pages, which the library takes."""
    first = _read_meta(content, 0)
    second = _read_meta(content, first.page_size)
    if second.page_size != first.page_size:
        raise _DamageError("its first two pages contradict each other")
    return second if second.transaction > first.transaction else first


def _read_meta(content: mmap.mmap, begin: int) -> _Meta:
    if len(content) < begin + _HEADER.size + _META.size:
        raise _DamageError("it is no LMDB database, or was cut off within its first pages")
    flags = _HEADER.unpack_from(content, begin)[2]
    magic, version, page_size, own_flags, _, table_flags, depth, _, _, _, entries, root, last_page, transaction = (
        _META.unpack_from(content, begin + _HEADER.size)
    )
    if magic != _MAGIC or not flags & _META_PAGE:
        raise _DamageError("it is no LMDB database" if begin == 0 else "its second page is damaged")
    if version != _VERSION or not 512 <= page_size <= 1 << 15 or page_size & (page_size - 1) or own_flags & 1:
        raise _DamageError("its first pages are damaged, or of another version of LMDB")
    return _Meta(page_size, table_flags, depth, entries, root, last_page, transaction)


class _Walk:
    """The way through all pages that a reader can come to."""

    def __init__(self, content: mmap.mmap, meta: _Meta) -> None:
        self.content, self.meta = content, meta
        self.end = min(len(content), (meta.last_page + 1) * meta.page_size)
        self.seen: set[int] = set()

    def check(self) -> None:
        behind = self.end + _HEADER.size
        if self.content[behind : behind + 4] == struct.pack("<I", _MAGIC):
            raise _DamageError("it holds two databases, of which only the first can be read: give each as its own file")
        if self.meta.flags:
            raise _DamageError("its keys are not plain ones, or it is damaged")
        if self.meta.root == _EMPTY:
            return
        entries = 0
        pages = [(self.meta.root, 1)]
        while pages:
            page, depth = pages.pop()
            begin = self._begin(page)
            kind, nodes = self._list_nodes(begin)
            if kind != (_LEAF if depth == self.meta.depth else _BRANCH):
                raise _DamageError(f"page {page} is damaged")
            if kind == _LEAF:
                entries += len(nodes)
                for node in nodes:
                    self._check_leaf_node(begin, node)
            else:
                pages += [(self._read_child(begin, node), depth + 1) for node in nodes]
        if entries != self.meta.entries:
            raise _DamageError(f"it says {self.meta.entries} entries, but has {entries}")

    def _begin(self, page: int) -> int:
        """Where a page begins, if it lies within the file and no other way leads there."""
        begin = page * self.meta.page_size
        if begin + self.meta.page_size > self.end:
            raise _DamageError(f"page {page} is beyond its end: it was cut off")
        if page < 2 or page in self.seen or _HEADER.unpack_from(self.content, begin)[0] != page:
            raise _DamageError(f"page {page} is damaged")
        self.seen.add(page)
        return begin

    def _list_nodes(self, begin: int) -> tuple[int, tuple[int, ...]]:
        """What a page of the tree is, and where in it its nodes begin."""
        page, _, flags, lower, upper = _HEADER.unpack_from(self.content, begin)
        kind = flags & _KINDS
        fewest = 2 if kind == _BRANCH else 1
        count, odd = divmod(lower - _HEADER.size, 2)
        if odd or count < fewest or not lower <= upper <= self.meta.page_size:
            raise _DamageError(f"page {page} is damaged")
        nodes = struct.unpack_from(f"<{count}H", self.content, begin + _HEADER.size)
        if min(nodes) < upper or max(nodes) + _NODE.size > self.meta.page_size:
            raise _DamageError(f"page {page} is damaged")
        return kind, nodes

    def _read_child(self, begin: int, node: int) -> int:
        low, high, highest, key_size = _NODE.unpack_from(self.content, begin + node)
        if node + _NODE.size + key_size > self.meta.page_size:
            raise _DamageError(f"page {begin // self.meta.page_size} is damaged")
        return int(low | high << 16 | highest << 32)

    def _check_leaf_node(self, begin: int, node: int) -> None:
        low, high, flags, key_size = _NODE.unpack_from(self.content, begin + node)
        size = low | high << 16
        data = node + _NODE.size + key_size
        inside = _NUMBER.size if flags == _BIG else size
        if flags not in (0, _BIG) or not 1 <= key_size <= _LARGEST_KEY or data + inside > self.meta.page_size:
            raise _DamageError(f"page {begin // self.meta.page_size} is damaged")
        if flags == _BIG:
            page = _NUMBER.unpack_from(self.content, begin + data)[0]
            first = self._begin(page)
            pages = (size + _HEADER.size - 1) // self.meta.page_size + 1
            *_, big_flags, low, high = _HEADER.unpack_from(self.content, first)
            # More than needed where a shorter value took the place of a longer one.
            if big_flags & _KINDS != _OVERFLOW or low | high << 16 < pages:
                raise _DamageError(f"page {page} is damaged")
            if first + _HEADER.size + size > self.end:
                raise _DamageError(f"page {page} is beyond its end: it was cut off")
