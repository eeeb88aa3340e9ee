"""Archives of files: each file in them is read as if it stood beside the archive.

Files are copied once, in the order of the archive, to a folder of their own that is removed afterwards; of their names
only the last part is used there, so that none can lead elsewhere. Python's ``tarfile`` takes a damaged header for the
end of the archive, and looks at nothing behind the end; here both are errors.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from nequip_like.data.io.sets.zip_files import open_zip
from nequip_like.errors import DataError, first_line

_SPARE = 100_000_000  # bytes of the disk that are left free


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
        title: The archive and its name in it, for messages.
        file: Where it was copied to.
    """

    title: str
    file: Path

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Let errors name the archive in the place of the copy.

        Raises:
            DataError: The one that was raised, with the other name.
        """
        try:
            yield
        except DataError as error:
            raise DataError(self.rename(error.message), self.rename(error.advice)) from error

    def rename(self, text: str) -> str:
        """A text that names the archive in the place of the copy."""
        return text.replace(str(self.file), self.title)


@contextmanager
def unpack(path: Path, is_read: Callable[[Path], bool]) -> Iterator[tuple[list[Member], list[str]]]:
    """Copy the files of an archive to where they can be read, as long as the context lasts.

    Args:
        path: The archive; by its suffix a zip file, or else a tar file, packed or not.
        is_read: Whether a file is of a format that is read; others are left out.

    Returns:
        The files, sorted by name, and notes on what was left out. Hidden files are left out silently.

    Raises:
        DataError: If the archive is damaged, two files in it have one name, none is of a format that is read, or the
            disk has no place for them.
    """
    with tempfile.TemporaryDirectory(prefix="nequip_like-") as place:
        special: list[str] = []
        foreign: list[str] = []
        members: dict[str, Member] = {}
        try:
            list_files = _list_zip if path.suffix.lower() == ".zip" else _list_tar
            for i, (name, size, stream) in enumerate(list_files(path)):
                if name in members:
                    raise DataError(f"{path} holds two files named {name}", "pack it again with one of them")
                if stream is None:
                    special.append(name)
                elif not _is_hidden(name):
                    member = Member(f"{path}/{name}", Path(place, str(i), PurePosixPath(name).name))
                    with member.naming():
                        _copy(stream, size, member.file)
                        if is_read(member.file):
                            members[name] = member
                        else:
                            member.file.unlink()
                            foreign.append(name)
        except DataError:
            raise
        except Exception as error:  # tarfile and zipfile raise anything, from struct.error to RecursionError
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"cannot read {path.absolute()}: {reason}", "check that the archive is complete") from error
        if not members:
            raise DataError(
                f"{path.absolute()} holds no file of a format that is read (of {len(foreign) + len(special)})",
                "give an archive of such files; unpack it if it holds folders that are data sets",
            )
        kinds = ((special, "no plain files (links, devices)"), (foreign, "of no format that is read"))
        notes = [
            f"{path}: files that are {kind} are left out, {len(names)} of them, such as {names[0]}"
            for names, kind in kinds
            if names
        ]
        yield [members[name] for name in sorted(members)], notes


def _list_zip(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, size and content of each file; no content of links."""
    with open_zip(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                yield entry.filename, 0, None
                continue
            with archive.open(entry) as stream:
                yield entry.filename, entry.file_size, stream


def _list_tar(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """As :func:`_list_zip`, in the order of the archive: a packed one can only be read from its begin to its end."""
    with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
        for header in archive:
            if header.size < 0:
                raise tarfile.ReadError(f"{header.name} has less than no bytes")
            if header.isdir():
                continue
            if not header.isreg() or header.issparse():
                yield header.name, 0, None
                continue
            stream = archive.extractfile(header)
            if stream is not None:
                yield header.name, header.size, stream
        _check_end(archive, path)


class _Header(tarfile.TarInfo):
    """A header of a tar file; a damaged one is an error, also behind the first."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Read the bytes of a header."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not buf.strip(b"\0"):  # the zeros that an archive ends with
                raise
            raise tarfile.ReadError(f"it is damaged or cut off ({first_line(error)})") from error


def _check_end(archive: tarfile.TarFile, path: Path) -> None:
    """Refuse an archive behind whose end more follows."""
    rest = archive.fileobj
    while rest is not None and (block := rest.read(1 << 20)):
        if block.strip(b"\0"):
            raise DataError(f"{path} has more behind its end, as two archives that were joined", "give each as its own")


def _copy(stream: IO[bytes], size: int, file: Path) -> None:
    file.parent.mkdir()
    free = shutil.disk_usage(file.parent).free
    if size > free - _SPARE:
        raise DataError(
            f"{file} needs {size / 1e9:.3g} GB to be unpacked, and {tempfile.gettempdir()} has {free / 1e9:.3g} GB",
            "let the variable TMPDIR name a folder with more space",
        )
    with file.open("wb") as copy:
        shutil.copyfileobj(stream, copy)
    if file.stat().st_size != size:
        raise EOFError(f"{file.name} is cut off")


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in parts)
