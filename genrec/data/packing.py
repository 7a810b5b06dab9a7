"""Packed files: the packing program, recognised by a file's first bytes and never by its suffix, and how to unpack."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genrec.data.report import shorten
from genrec.errors import DataError

BLOCK = 1 << 22
"""Bytes read at a time."""


def refuse_streams(path: Path) -> None:
    """Raise if a path is a pipe, a socket or a terminal: it can be read only once, and genrec reads a file twice.

    Raises:
        DataError: the path is one of these.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(
            f"{path} is a pipe or a device and no file, and can be read only once; write it to a file first"
        )


def packing_of(path: Path, shown: Path) -> tuple[str, Callable[[Path], None] | None]:
    """Return a file's packing, by its first bytes, and a function that unpacks it to a path; ("", None) if unpacked.

    Args:
        path: the file.
        shown: the file's name in messages.

    Raises (when unpacking):
        DataError: an archive holds another kind of file, or several.
    """
    with path.open("rb") as file:
        start = file.read(8)
    openers: tuple[tuple[bytes, str, Callable[[Path], Any]], ...] = (
        (b"\x1f\x8b", "gzip", gzip.GzipFile),
        (b"BZh", "bzip2", bz2.BZ2File),
        (b"\xfd7zXZ\0", "xz", lzma.LZMAFile),
        (b"\x28\xb5\x2f\xfd", "zstd", lambda name: _arrow(name, "zstd")),
        (b"\x04\x22\x4d\x18", "lz4", lambda name: _arrow(name, "lz4")),
    )
    for magic, name, opened in openers:
        if start.startswith(magic):
            return name, _copier(path, opened)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip", lambda target: _unzip(path, target, shown)
    return "", None


def _copier(path: Path, opened: Callable[[Path], Any]) -> Callable[[Path], None]:
    def unpack(target: Path) -> None:
        with opened(path) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK)

    return unpack


def _arrow(path: Path, kind: str) -> Any:
    """Open a format that Python 3.11 cannot unpack by itself, with pyarrow, which comes with `datasets`."""
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), kind)


def _unzip(path: Path, target: Path, shown: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = [entry for entry in archive.infolist() if not entry.is_dir()]
        if any(entry.filename == "[Content_Types].xml" for entry in names):
            raise DataError(f"{shown} is an Excel workbook; save the sheet as CSV UTF-8 and give that")
        if any(entry.filename == "mimetype" for entry in names):
            raise DataError(f"{shown} is a workbook of LibreOffice; save the sheet as CSV UTF-8 and give that")
        names = [  # without the extra files that macOS adds
            entry
            for entry in names
            if not any(part.startswith((".", "__MACOSX")) for part in entry.filename.split("/"))
        ]
        if len(names) != 1:
            listed = ", ".join(shorten(entry.filename, 30) for entry in names[:5]) or "nothing"
            raise DataError(f"{shown} is an archive of {len(names)} files ({listed}); unpack it and give the one meant")
        if names[0].flag_bits & 1:
            raise DataError(f"{shown} is locked with a password; unpack it and give the file in it")
        try:
            with archive.open(names[0]) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, BLOCK)
        except (NotImplementedError, RuntimeError) as error:
            raise DataError(f"{shown} cannot be unpacked ({error}); unpack it and give the file in it") from error
