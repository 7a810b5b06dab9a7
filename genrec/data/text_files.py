"""Text files from users: packed or not, in any encoding, perhaps with a few bad bytes.

`open_text` returns a file of plain UTF-8 lines: the file itself if it is that already, else a copy in a temporary
folder that is deleted with the `TextFile`. The copy has the same lines, so line numbers are those of the original.
`notes` reports what was recognised, and `faults` lists the lines that cannot be read as they are.

This module reads bytes and lines, and does not know cells or columns. A file's packing is recognised by its first bytes
and never by its suffix. The encoding is a guess unless the file is UTF-8 or begins with a byte order mark: a text of
few letters fits many encodings. So the guess is printed with an example of the text that it gives.

A UTF-8 file with one bad byte is still read as UTF-8. If it were read as Windows-1252, every other accented letter
would be wrong. So the encoding is the one that holds for more of the lines with bytes beyond ASCII.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrec.data.encoding_guess import guess_encoding
from genrec.data.packing import BLOCK, packing_of, refuse_streams
from genrec.data.report import shorten
from genrec.errors import DataError

LAYERS = 3
"""How often an unpacked file is checked for packing again: a file may be packed twice."""

SAMPLE = 1 << 16
"""Bytes of lines beyond ASCII from which an encoding is guessed."""

CONTROLS_IN_TABLES = b"\0\t\n\v\f\r\x01\x02\x1a\x1b\x1c\x1d\x1e\x1f"
"""The control characters of tables: delimiters (also Hive's), line ends, the end-of-file of DOS, shifts of alphabet."""

CONTROL_TO_REFUSE = 0.03
"""A file is not text if its first bytes have a larger share of control characters than this."""

FAULTS_TO_REFUSE = 0.2
"""A file is not text if a larger share of its lines than this has zero bytes."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings; that of UTF-32 begins with that of UTF-16, so it comes first."""

STRANGERS = (
    (b"PAR1", "a Parquet file; rename it to {name}.parquet"),
    (b"SQLite format 3\0", "an SQLite database; export the table as CSV"),
    (b"%PDF", "a PDF document; give a table as CSV"),
    (b"\x89PNG", "a picture; give a table as CSV"),
    (b"\xff\xd8\xff", "a picture; give a table as CSV"),
    (b"ARROW1", "an Arrow or Feather file; write it as Parquet"),
    (b"Obj\x01", "an Avro file; write it as Parquet"),
    (b"\x89HDF", "an HDF5 file; write the table as Parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV UTF-8"),
    (b"\x80\x04\x95", "a Python pickle, which genrec never opens; write the table as Parquet"),
    (b"\x80\x05\x95", "a Python pickle, which genrec never opens; write the table as Parquet"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it and give the file in it"),
    (b"Rar!\x1a", "a RAR archive; unpack it and give the file in it"),
    (b"\x1f\x9d", "packed with compress; unpack it and give the file in it"),
    (b"]\0\0", "packed with lzma; unpack it and give the file in it"),
    (b"version https://git-lfs", "the pointer of a file in Git LFS and not the file; get it with git lfs pull"),
    (b"<!", "a web page and no table; look whether the download failed"),
    (b"<html", "a web page and no table; look whether the download failed"),
    (b"<?xml", "XML and no table; look whether the download failed, or convert it to CSV"),
)
"""The first bytes of files that are not text, and what to do with such files."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of UTF-8 lines, and how it became one.

    Attributes:
        path: the file as the user named it.
        readable: the same lines as UTF-8 without zero bytes; `path` itself if nothing had to be changed.
        lines: the number of lines.
        quoted: whether it has quote marks.
        escaped: whether it has backslash-u escapes.
        faults: for each line with bytes that are not text in its encoding, a description of them.
        notes: sentences on what was recognised, for the user.
    """

    path: Path
    readable: Path
    lines: int
    quoted: bool
    escaped: bool
    faults: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _folder: Any = None


@dataclass(frozen=True, slots=True)
class _Look:
    """The results of one pass over a file's bytes."""

    lines: int
    quoted: bool
    escaped: bool
    zeros: bool
    utf8: bool
    returns: bool
    start: bytes


def open_text(path: Path, encoding: str | None = None) -> TextFile:
    """Recognise how a file is packed and encoded, and make it readable.

    Args:
        path: the file.
        encoding: the encoding of its text, if the user gave it.

    Raises:
        DataError: the file cannot be read, is damaged, or is not text.
    """
    if encoding is not None:
        encoding = checked_encoding(encoding)
    refuse_streams(path)
    try:
        with ExitStack() as stack:
            folder = None
            source, notes = path, []
            for layer in range(LAYERS):
                packed, unpack = packing_of(source, path)
                if unpack is None:
                    break
                folder = folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="genrec-"))
                source = Path(folder) / f"unpacked-{layer}"
                unpack(source)
                notes.append(f"{path.name} is packed with {packed}; what is in it was read")
            look = _look(source)
            _refuse_strangers(path, look, encoding)
            faults: dict[int, str] = {}
            found, note = _encoding(source, look, encoding)
            if note:
                notes.append(f"{path.name} {note}")
            readable = source
            if found != "utf-8" or not look.utf8 or look.zeros or look.returns:
                folder = folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="genrec-"))
                readable = Path(folder) / "readable"
                faults = _rewrite(source, readable, found, returns=look.returns)
                look = _look(readable)
                _refuse_mostly_broken(path, faults, look.lines)
            # From here on the folder lives as long as the TextFile that holds it.
            keep = _Folder(stack.pop_all()) if folder else None
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding or 'text'} ({error}); name its encoding with --encoding") from error
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is packed and damaged ({error}); get it again, or unpack what can be saved") from error
    except OSError as error:
        raise _told(path, error) from error
    return TextFile(path, readable, look.lines, look.quoted, look.escaped, faults, tuple(notes), keep)


def _told(path: Path, error: OSError) -> DataError:
    """Return the message on a file that the system or the unpacking program could not read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = tempfile.gettempdir()
        return DataError(f"there is no room in {place} to unpack {path}; free some, or set TMPDIR to another place")
    if error.strerror is None:  # an Arrow error on unpacking
        return DataError(f"{path} is packed and damaged ({error}); get it again")
    return DataError(f"cannot read {path}: {error.strerror}; give an existing file")


def checked_encoding(name: str) -> str:
    """Return Python's name of an encoding.

    Raises:
        DataError: there is no such text encoding.
    """
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding:
        raise DataError(f"there is no encoding {name!r}; expected one such as utf-8, utf-16, cp1252, gb18030 or big5")
    # With a byte order mark or without: both spellings mean UTF-8.
    return {"utf-8-sig": "utf-8", "utf_8_sig": "utf-8"}.get(found.name, found.name)


class _Folder:
    """Deletes a temporary folder when its last user is gone."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __del__(self) -> None:
        self._stack.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # only this process keeps the folder alive; a copy in another process does not


def _look(path: Path) -> _Look:
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, quoted, escaped, zeros, utf8, last, start, returns = 0, False, False, False, True, b"\n", b"", 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            start = start or block[:1024]
            zeros = zeros or b"\0" in block
            if utf8:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    utf8 = False
            lines += block.count(b"\n")
            if lines <= 1:
                returns += block.count(b"\r")
            quoted = quoted or b'"' in block
            escaped = escaped or b"\\u" in block
            last = block[-1:]
    if utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    old = returns > 1 and (lines == 0 or (lines == 1 and last == b"\n"))
    return _Look(lines + (last != b"\n"), quoted, escaped, zeros, utf8, old or (lines == 0 and returns > 0), start)


def _refuse_strangers(path: Path, look: _Look, given: str | None) -> None:
    for magic, what in STRANGERS:
        if look.start.removeprefix(codecs.BOM_UTF8).lstrip(b" \r\n").startswith(magic):
            raise DataError(f"{path} is {what.format(name=path.stem)}")
    if look.start[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive; unpack it and give the file in it")
    if look.start[8:12] == b"DUCK":
        raise DataError(f"{path} is a DuckDB database; export the table as Parquet")
    if given:
        return
    odd = sum(byte < 32 and byte not in CONTROLS_IN_TABLES for byte in look.start)
    marked = look.start.startswith(tuple(mark for mark, _ in MARKS)) or bool(_utf16(look.start))
    if odd > CONTROL_TO_REFUSE * len(look.start) and not marked:
        raise DataError(
            f"{path} is not a text file in an encoding that is known (its first bytes are control characters); name "
            "its encoding with --encoding, or give UTF-8 text or Parquet"
        )


def _encoding(path: Path, look: _Look, given: str | None) -> tuple[str, str]:
    """Return the file's encoding, and a note on it; the note is empty for plain UTF-8."""
    if given is not None:
        return given, ""
    for mark, name in MARKS:
        if look.start.startswith(mark):
            return name, "" if name == "utf-8" else f"is {name.upper()}, by the mark at its start"
    if look.zeros and (name := _utf16(look.start)):
        return name, f"has a zero in every other byte and was read as {name.upper()}; --encoding names another"
    if look.utf8:
        return "utf-8", ""
    sample = _beyond_ascii(path)
    valid = [_is_utf8(line) for line in sample]
    if sum(valid) * 2 >= len(valid) or _is_cut(sample):
        return "utf-8", ""  # UTF-8 with bad bytes, which are reported line by line
    text = b"\n".join(sample)
    guess = guess_encoding(text)
    if guess is None:
        return "utf-8", ""
    shown = next((line for line in text.decode(guess, "replace").split("\n") if not line.isascii()), "")
    return guess, f"is not UTF-8 and was read as {guess} ({shorten(shown.strip(), 40)!r}); --encoding names another"


def _utf16(start: bytes) -> str:
    """Return whether the text is UTF-16 without its mark: if it is mostly ASCII, every other byte is zero."""
    half = len(start) // 2
    first, second = start[0::2].count(0), start[1::2].count(0)
    if half >= 2 and second > 0.4 * half and first < 0.05 * half:
        return "utf-16-le"
    if half >= 2 and first > 0.4 * half and second < 0.05 * half:
        return "utf-16-be"
    return ""


def _beyond_ascii(path: Path) -> list[bytes]:
    """Return the first lines with bytes beyond ASCII."""
    found, size = [], 0
    with path.open("rb") as file:
        for line in file:
            if not line.isascii():
                found.append(line.rstrip(b"\r\n"))
                size += len(line)
                if size > SAMPLE:
                    break
    return found


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_cut(sample: list[bytes]) -> bool:
    """Return whether the only fault is a truncated last letter, as a killed writer leaves it."""
    if len(sample) != 1:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample[0])
    except UnicodeDecodeError:
        return False
    return sample[0][-1:] >= b"\xc2" or len(sample[0]) > 1


def _rewrite(source: Path, target: Path, encoding: str, *, returns: bool) -> dict[int, str]:
    """Write a file's lines as UTF-8 without zero bytes; return the fault of each faulty line."""
    faults: dict[int, str] = {}
    with target.open("w", encoding="utf-8", newline="") as file:
        for number, (text, fault) in enumerate(_decoded(source, encoding, returns=returns), start=1):
            if fault:
                faults[number] = fault
            if "\0" in text:
                faults.setdefault(number, "a zero byte")
                text = text.replace("\0", "")
                text = text if text.strip() else "\ufffd" + text  # a line of only zeros is not blank
            file.write(text.encode("utf-8", "replace").decode("utf-8"))
    return faults


def _decoded(source: Path, encoding: str, *, returns: bool) -> Iterator[tuple[str, str]]:
    """Yield each line with its line end, and the bytes in it that are not text in the encoding."""
    if encoding.replace("_", "-").startswith(("utf-16", "utf-32")) or returns:
        # Their line ends take several bytes, or lines end in a single carriage return.
        with source.open(encoding=encoding, errors="replace", newline=None if returns else "\n") as lines:
            for text in lines:
                yield text, f"bytes that are not {encoding.upper()}" if "\ufffd" in text else ""
        return
    with source.open("rb") as file:
        for line in file:
            try:
                yield line.decode(encoding), ""
            except UnicodeDecodeError as error:
                what = f"byte {line[error.start]:#04x} is not {encoding.upper()}"
                yield line.decode(encoding, "replace"), what


def _refuse_mostly_broken(path: Path, faults: Mapping[int, str], lines: int) -> None:
    if (lines > 5 and len(faults) > FAULTS_TO_REFUSE * lines) or (faults and len(faults) == lines):
        first = min(faults)
        raise DataError(
            f"{path} is not a text file in an encoding that is known ({len(faults):,} of {lines:,} lines hold what is "
            f"no text; line {first}: {faults[first]}); name its encoding with --encoding, or give UTF-8 text or Parquet"
        )
