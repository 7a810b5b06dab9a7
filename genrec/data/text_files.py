"""Text files as people have them: packed or not, in any encoding, with a bad byte here and there.

`open_text` returns a file of plain UTF-8 lines: the file itself where it is that already, else a copy in a temporary
folder that goes when the `TextFile` does. The copy has the same lines, so that a line's number is the original's. What
was recognised is told in `notes`, and a line that cannot be read as it stands is in `faults`.

It knows bytes and lines, neither cells nor columns. How a file is packed is told by its first bytes and never by its
suffix. An encoding is a guess unless the file is UTF-8 or begins with a byte order mark: text of a few letters fits
many encodings, so the guess is printed with an example of what it reads.

The trap is a file in UTF-8 with one bad byte: read as Windows-1252, as one easily would, every other accent in it
turns to rubbish. So whichever holds for more of the lines with such bytes decides.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrec.data.encoding_guess import guess_encoding
from genrec.data.report import shorten
from genrec.errors import DataError

BLOCK = 1 << 22
"""Bytes read at a time."""

SAMPLE = 1 << 16
"""Bytes of lines beyond ASCII that an encoding is guessed by."""

FAULTS_TO_REFUSE = 0.2
"""A larger share of lines with zero bytes makes a file something other than text."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and what they say; UTF-32's begins with UTF-16's and so comes first."""

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
)
"""How files begin that are no text, and what to do with them."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of UTF-8 lines, and how it became one.

    Attributes:
        path: the file as it was named.
        readable: the same lines as UTF-8 without zero bytes; `path` itself where nothing had to be changed.
        lines: how many there are.
        quoted: it holds quote marks.
        escaped: it holds backslash-u escapes.
        faults: for each line that held what is no text in its encoding, what that was.
        notes: what was recognised, for people.
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
    """What one pass over a file's bytes saw."""

    lines: int
    quoted: bool
    escaped: bool
    zeros: bool
    utf8: bool
    returns: bool
    start: bytes


def open_text(path: Path, encoding: str | None = None) -> TextFile:
    """Find out how a file is packed and encoded, and make it readable.

    Args:
        path: the file.
        encoding: how its text is encoded, where the user said so.

    Raises:
        DataError: it cannot be read, is damaged, or is not text.
    """
    if encoding is not None:
        encoding = checked_encoding(encoding)
    try:
        with ExitStack() as stack:
            folder = None
            packed, unpack = _packing(path)
            source, notes = path, []
            if unpack is not None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="genrec-"))
                source = Path(folder) / "unpacked"
                unpack(source)
                notes.append(f"{path.name} is packed with {packed}; what is in it was read")
            look = _look(source)
            _refuse_strangers(path, look)
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
        raise DataError(f"cannot read {path}: {error.strerror or error}; give an existing file") from error
    return TextFile(path, readable, look.lines, look.quoted, look.escaped, faults, tuple(notes), keep)


def checked_encoding(name: str) -> str:
    """Return an encoding's name as Python writes it.

    Raises:
        DataError: there is no such encoding of text.
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
    """Deletes a temporary folder when the last who needs it is gone."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __del__(self) -> None:
        self._stack.close()


def _packing(path: Path) -> tuple[str, Callable[[Path], None] | None]:
    """Return how a file is packed, by its first bytes, and what unpacks it to a path; ("", None) where it is not."""
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
    if start.startswith(b"PK\x03\x04"):
        return "zip", lambda target: _unzip(path, target)
    return "", None


def _copier(path: Path, opened: Callable[[Path], Any]) -> Callable[[Path], None]:
    def unpack(target: Path) -> None:
        with opened(path) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK)

    return unpack


def _arrow(path: Path, kind: str) -> Any:
    """Open what Python 3.11 cannot unpack by itself, through pyarrow, which comes with `datasets`."""
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), kind)


def _unzip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = [entry for entry in archive.infolist() if not entry.is_dir()]
        if any(entry.filename == "[Content_Types].xml" for entry in names):
            raise DataError(f"{path} is an Excel workbook; save the sheet as CSV UTF-8 and give that")
        names = [entry for entry in names if not entry.filename.startswith("__MACOSX/")]
        if len(names) != 1:
            listed = ", ".join(shorten(entry.filename, 30) for entry in names[:5]) or "nothing"
            raise DataError(f"{path} is an archive of {len(names)} files ({listed}); unpack it and give the one meant")
        if names[0].flag_bits & 1:
            raise DataError(f"{path} is locked with a password; unpack it and give the file in it")
        try:
            with archive.open(names[0]) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, BLOCK)
        except (NotImplementedError, RuntimeError) as error:
            raise DataError(f"{path} cannot be unpacked ({error}); unpack it and give the file in it") from error


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
            if not lines:
                returns += block.count(b"\r")
            quoted = quoted or b'"' in block
            escaped = escaped or b"\\u" in block
            last = block[-1:]
    if utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    return _Look(lines + (last != b"\n"), quoted, escaped, zeros, utf8, lines == 0 and returns > 0, start)


def _refuse_strangers(path: Path, look: _Look) -> None:
    for magic, what in STRANGERS:
        if look.start.startswith(magic):
            raise DataError(f"{path} is {what.format(name=path.stem)}")
    if look.start[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive; unpack it and give the file in it")


def _encoding(path: Path, look: _Look, given: str | None) -> tuple[str, str]:
    """Return the file's encoding, and what is to be told of it; nothing where it is plain UTF-8."""
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
        return "utf-8", ""  # UTF-8 with bad bytes, which are told line by line
    text = b"\n".join(sample)
    guess = guess_encoding(text)
    if guess is None:
        return "utf-8", ""
    shown = next((line for line in text.decode(guess, "replace").split("\n") if not line.isascii()), "")
    return guess, f"is not UTF-8 and was read as {guess} ({shorten(shown.strip(), 40)!r}); --encoding names another"


def _utf16(start: bytes) -> str:
    """Say whether UTF-16 without its mark is meant: of text that is mostly ASCII every other byte is zero."""
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
    """Say whether all that is wrong is a last letter cut in two, as a writer leaves it that was killed."""
    if len(sample) != 1:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample[0])
    except UnicodeDecodeError:
        return False
    return sample[0][-1:] >= b"\xc2" or len(sample[0]) > 1


def _rewrite(source: Path, target: Path, encoding: str, *, returns: bool) -> dict[int, str]:
    """Write a file's lines as UTF-8 without zero bytes; return what was wrong in which line."""
    faults: dict[int, str] = {}
    with target.open("w", encoding="utf-8", newline="") as file:
        for number, (text, fault) in enumerate(_decoded(source, encoding, returns=returns), start=1):
            if fault:
                faults[number] = fault
            if "\0" in text:
                faults.setdefault(number, "a zero byte")
                text = text.replace("\0", "")
            file.write(text.encode("utf-8", "replace").decode("utf-8"))
    return faults


def _decoded(source: Path, encoding: str, *, returns: bool) -> Iterator[tuple[str, str]]:
    """Yield each line with its end, and what in it is not text in the encoding."""
    if encoding.replace("_", "-").startswith(("utf-16", "utf-32")) or returns:
        # Their line ends take several bytes, or lines end in a carriage return alone.
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
