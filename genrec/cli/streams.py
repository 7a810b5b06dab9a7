"""Robust standard streams: consoles with few characters, pipes that close, streams that are closed.

A character that a console cannot show becomes the nearest plain one, or a question mark; it never ends a job. A stream
that was closed before genrec started is opened to the null device. Otherwise the next file to be opened would get its
file descriptor, and output of a library would be written into that file.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from pathlib import Path

PLAIN = "genrec-plain"
"""The name of the way in which a console is given what it cannot show."""

ASCII = "genrec_ascii"
"""The encoding of a console that shows ASCII only."""

_NEAREST = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u00d7": "x",
    "…": "...", "→": "->", "•": "*", "▲": "+", "▼": "-",
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
}  # fmt: skip


def make_safe() -> None:
    """Make the standard streams take whatever is written to them."""
    _open_shut_ones()
    codecs.register_error(PLAIN, _plainly)
    codecs.register(_ascii_by_another_name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=ASCII if ascii_only else stream.encoding, errors=PLAIN)


def discard(stream: object) -> None:
    """Send what a stream still holds to nowhere, so that closing it at the end cannot fail."""
    try:
        number = stream.fileno()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):  # one that is no file, as in a notebook
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _open_shut_ones() -> None:
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number is this one
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - likewise


def _ascii_by_another_name(name: str) -> codecs.CodecInfo | None:
    """Find the codec `ASCII`, as `codecs.register` wants it.

    Typer's echo holds a stream that says "ascii" for a wrongly configured one, and writes UTF-8 past it.
    """
    if name != ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
        name=ASCII,
    )


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Return the replacement for characters that an encoding lacks, in the form for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(map(_nearest, found)), error.end


def _nearest(character: str) -> str:
    if character in _NEAREST:
        return _NEAREST[character]
    if unicodedata.combining(character):
        return ""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"
