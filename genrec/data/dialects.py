"""How a delimited text file is written: its delimiter, whether quote marks quote, and where its header is.

The user's settings (`Dialect`) are used as given. The rest is recognised by the file's first lines, starting from what
the suffix promises, and any difference from the suffix is reported.

In a tab-separated file a quote mark quotes only if the file proves it. Writers of such files (MIND, IMDb) do not quote,
and a title that begins with a quote mark would silently take in the lines up to the next such title. The proof is one
of three: the header is quoted; doubled marks are within quoted cells and there is no mark elsewhere; or the rows are
complete only if the marks quote.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from genrec.data.report import shorten
from genrec.data.text_files import TextFile, checked_encoding
from genrec.errors import ConfigError, DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", "\x01": "Hive's control-A"}
"""The delimiters that are tried if the user gives none."""

SPELT = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|"}
"""Names of delimiters that are hard to type."""

LINES_LOOKED_AT = 200
"""The number of lines by which a delimiter is recognised."""

WHOLE = 0.8
"""A delimiter is accepted if this share of the first rows has as many cells as the header."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The user's settings on how text files are written.

    Attributes:
        separator: the delimiter between cells: one character, or its name ("tab").
        encoding: the encoding of the text, by Python's name.
        quotes: whether quote marks quote.
    """

    separator: str | None = None
    encoding: str | None = None
    quotes: bool | None = None

    def __post_init__(self) -> None:
        if self.separator is not None:
            separator = SPELT.get(self.separator.lower(), self.separator)
            if len(separator) != 1 or separator in '"\r\n\0':
                raise ConfigError(
                    [f"--separator is {self.separator!r}; expected one character, such as ';', or the word tab"]
                )
            object.__setattr__(self, "separator", separator)
        if self.encoding is not None:
            object.__setattr__(self, "encoding", checked_encoding(self.encoding))


def dialects_of(
    separators: Sequence[str] | None, encodings: Sequence[str] | None, quotes: bool | None = None
) -> dict[str, Dialect]:
    """Return the dialects of a log ("interactions") and a catalogue ("items") from the options of the command line.

    Args:
        separators: each for both files, or for one: "items=;".
        encodings: likewise.
        quotes: whether quote marks quote.

    Raises:
        ConfigError: a text cannot be a delimiter.
        DataError: there is no such encoding.
    """
    given: dict[str, dict[str, str]] = {"interactions": {}, "items": {}}
    for kind, values in (("separator", separators or ()), ("encoding", encodings or ())):
        for value in values:
            name, equals, rest = value.partition("=")
            for file in [name] if equals and name in given else list(given):
                given[file][kind] = rest if equals and name in given else value
    return {file: Dialect(said.get("separator"), said.get("encoding"), quotes) for file, said in given.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a delimited file is written.

    Attributes:
        columns: the names in its header.
        header_line: the line of the header, from 1; 0 if there is none.
        separator: the delimiter between cells.
        quoted: the file has quote marks, and they quote.
        notes: what was recognised beyond what the suffix promises.
    """

    columns: tuple[str, ...]
    header_line: int
    separator: str
    quoted: bool
    notes: tuple[str, ...] = ()


def recognise(text: TextFile, promised: str, dialect: Dialect, columns: Sequence[str] = ()) -> Layout:
    """Find out how a delimited file is written.

    Args:
        text: the file.
        promised: the delimiter that its suffix promises.
        dialect: the user's settings.
        columns: the columns of a file without a header.

    Raises:
        DataError: the file is empty, or its header cannot be read.
    """
    notes = []
    first = list(islice(numbered_lines(text.readable), LINES_LOOKED_AT))
    said = re.fullmatch(r"(?i)\"?sep=(.)\"?\s*", first[0][1]) if first else None
    skipped = first[0][0] if said else 0
    first = first[1:] if said else first
    if not first or (len(first) == 1 and not _name(first[0][1])):
        raise DataError(f"{text.path} is empty; expected a header line and rows")
    if first[0][1].lstrip().startswith(('{"', "{ ", "[{")):
        raise DataError(f"{text.path} holds JSON and no delimited table; give it the suffix .jsonl")
    if dialect.separator is not None:
        separator = dialect.separator
    elif said:
        separator = said[1]
        notes.append(f"{text.path.name} says that {_named(separator)} separate its cells")
    else:
        separator = _separator([line for _, line in first], promised)
        if separator != promised:
            notes.append(
                f"{text.path.name}: cells are separated by {_named(separator)}, not by {_named(promised)}; "
                "--separator names another"
            )
    quoted = text.quoted
    if quoted and dialect.quotes is not None:
        quoted = dialect.quotes
    elif quoted and separator == "\t" and not _quotes_prove(text, separator, skipped):
        quoted = False
        notes.append(f"{text.path.name}: quote marks were read as part of the text; --quotes makes them quote")
    if columns:
        return Layout(tuple(columns), skipped, separator, quoted, tuple(notes))
    cells, header_line = _header(text, separator, quoted, skipped)
    return Layout(tuple(map(_name, cells)), header_line, separator, quoted, tuple(notes))


def numbered_lines(path: Path, start: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file that are not blank, without their line ends, each with its number."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number > start and line.strip():
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")


def _name(cell: str) -> str:
    """Return a column's name without invisible characters around it."""
    return cell.replace("\ufeff", "").replace("\u200b", "").strip()


def _named(separator: str) -> str:
    return SEPARATORS.get(separator, repr(separator))


def _separator(lines: Sequence[str], promised: str) -> str:
    """Return the delimiter that gives the header several cells and most rows the same number."""
    scores = {}
    for separator in (promised, *(other for other in SEPARATORS if other != promised)):
        widths = [_width(line, separator) for line in lines]
        whole = sum(width == widths[0] for width in widths) / len(widths) if widths[0] > 1 else 0.0
        if whole >= WHOLE and separator == promised:
            return promised
        scores[separator] = (whole, widths[0])
    best = max(scores, key=lambda separator: scores[separator])
    # If no delimiter fits, the one of the suffix is kept, and the header shows the fault.
    return best if scores[best][0] >= WHOLE and scores[promised][0] < scores[best][0] else promised


def _width(line: str, separator: str) -> int:
    """Count a line's cells; a quoted cell counts as one."""
    return len(re.sub(r'"[^"]*"', "", line).split(separator)) if '"' in line else line.count(separator) + 1


def _quotes_prove(text: TextFile, separator: str, skipped: int) -> bool:
    """Return whether a file's quote marks quote."""
    lines = numbered_lines(text.readable, skipped)
    header = next(lines)[1].split(separator)
    if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in header):
        return True
    width, doubled, broken, whole = len(header), 0, 0, True
    for _, line in lines:
        cells = line.split(separator)
        whole = whole and len(cells) == width
        for cell in cells if '"' in line else ():
            inner = cell[1:-1]
            if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
                doubled += '""' in inner
            elif '"' in cell:
                broken += 1
    if whole:
        return doubled > 0 and not broken
    # Some lines are not rows by themselves: do they become rows if quoted cells may run over lines?
    with wide_cells():
        reader = csv.reader(
            (line + "\n" for _, line in numbered_lines(text.readable)), delimiter=separator, strict=True
        )
        try:
            return all(len(cells) == width for cells in islice(reader, int(skipped > 0), None) if cells)
        except csv.Error:
            return False


def _header(text: TextFile, separator: str, quoted: bool, skipped: int) -> tuple[list[str], int]:
    lines = numbered_lines(text.readable, skipped)
    if not quoted:
        number, line = next(lines, (0, ""))
        return line.split(separator), number
    taken: list[int] = []

    def fed() -> Iterator[str]:
        for number, line in lines:
            taken.append(number)
            yield line + "\n"

    with wide_cells():
        reader = csv.reader(fed(), delimiter=separator, strict=True)
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    return cells, taken[-1]
        except csv.Error as error:
            raise DataError(
                f"{text.path} line {taken[0]}: the header cannot be read ({shorten(str(error))}); mend it, or pass "
                "--no-quotes if quote marks are part of the text"
            ) from error
    raise DataError(f"{text.path} is empty; expected a header line and rows")


class wide_cells:  # noqa: N801 - reads as what it does, as contextlib's own do
    """Let the `csv` module read cells of any length while the block runs; its limit holds for the whole process."""

    def __enter__(self) -> None:
        self._before = csv.field_size_limit(2**31 - 1)

    def __exit__(self, *_: object) -> None:
        csv.field_size_limit(self._before)
