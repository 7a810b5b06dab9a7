"""Text tables row by row: faults that a fast reader would repair silently are reported with their line.

This module reads lines and cells, and does not know columns. Every reader yields a row's line number (from 1) beside
the row, and gives the rows that cannot be read to `BadRows`.

A stray quote mark loses only its own line. To a CSV reader, everything up to the next quote mark in a later row is one
cell, and the rows in it are lost. So if every line of a cell would be a row by itself, the quote mark counts as stray:
the first line is reported, and reading continues with the second.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec.data.dialects import wide_cells
from genrec.data.report import BadRows
from genrec.errors import DataError

UNCLOSED_TO_REFUSE = 50
"""After this number of unclosed quote marks, the file was read with the wrong dialect."""

WHOLE_DECIMAL = r"(-?(?:0|[1-9]\d*))\.0+"
"""An id that was a whole number and became a decimal through a missing value."""


def quoted_rows(
    path: Path, separator: str, width: int, header_line: int, bad: BadRows, faults: Mapping[int, str], shown: Path
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first line, the last line and the cells of each row of a delimited file with quote marks.

    Args:
        path: the file, in UTF-8.
        separator: the delimiter between cells.
        width: the number of cells of a row.
        header_line: rows begin after it.
        bad: collects the rows that cannot be read.
        faults: lines with bytes that are not text.
        shown: the file's name in messages.

    Raises:
        DataError: many quote marks are opened and never closed.
    """
    with path.open("rb") as file, wide_cells():
        before, unclosed, more = 0, 0, True
        for _ in range(header_line):
            before += 1
            file.readline()
        while more:
            more = False
            place = file.tell()
            for row in _raw_rows(file, before, separator):
                unclosed += row.unclosed
                if unclosed > UNCLOSED_TO_REFUSE:
                    raise DataError(
                        f"{shown} line {row.line}: a quote mark is opened and not closed, as in {unclosed - 1} lines "
                        "before; pass --no-quotes if quote marks are part of the text"
                    )
                rows_within = _takes_in_rows(row, separator, width)
                if problem := _problem(row, width, faults, rows_within=rows_within):
                    bad.add(*problem)
                elif any(map(str.strip, row.cells)):
                    yield row.line, row.last, row.cells
                if row.unclosed or rows_within:
                    # Reading continues after the line that opened the cell, so that only this line is lost.
                    file.seek(place + len(row.held[0]))
                    before, more = row.line, True
                    break
                place += sum(map(len, row.held))


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as the `csv` module reads it: its first and last line, its cells or the reason for none, its bytes."""

    line: int
    last: int
    cells: list[str]
    error: str
    held: list[bytes]

    @property
    def unclosed(self) -> bool:
        """Whether a quote mark is opened but the file ends before it is closed."""
        return "unexpected end" in self.error


def _raw_rows(file: Any, before: int, separator: str) -> Iterator[_Row]:
    """Read rows from the current position of a file, after the given number of lines."""
    held: list[bytes] = []
    reader = csv.reader(_fed(file, held, first=before == 0), delimiter=separator, strict=True)
    while True:
        held.clear()
        line, cells, error = before + reader.line_num + 1, [], ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            error = str(problem)
        yield _Row(line, before + reader.line_num, cells, error, held)


def _problem(row: _Row, width: int, faults: Mapping[int, str], *, rows_within: bool) -> tuple[int, str, str] | None:
    """Return the line of a row that cannot be read, the reason, and an example."""
    if row.unclosed:
        return row.line, "a quote mark is opened and not closed; close or double it, or pass --no-quotes", ""
    span = f"the row runs from line {row.line} to {row.last}" if row.last > row.line else ""
    if "new-line" in row.error:
        return row.line, "a carriage return stands inside a cell", span
    if row.error and any(b'\\"' in line for line in row.held):
        return row.line, "a quote mark is escaped with a backslash; double it (in Spark, option escape is '\"')", span
    if row.error:
        return row.line, "a quote mark stands inside a cell without being doubled", span
    if rows_within:
        return row.line, "a quoted cell takes in whole rows; close or double the quote mark, or pass --no-quotes", span
    if (spoilt := next((line for line in range(row.line, row.last + 1) if line in faults), None)) is not None:
        return spoilt, faults[spoilt], ""
    if len(row.cells) != width and any(map(str.strip, row.cells)):
        return row.line, width_reason(len(row.cells), width), span
    return None


def _fed(file: Any, held: list[bytes], *, first: bool) -> Iterator[str]:
    """Yield a file's lines as text and keep them, so that the lines of a row can be checked."""
    for line in file:
        held.append(line)
        yield line.decode("utf-8-sig" if first else "utf-8")
        first = False


def _takes_in_rows(row: _Row, separator: str, width: int) -> bool:
    """Return whether every line of a row would be a row by itself, which is unlikely for lines of a sentence."""
    if row.last == row.line or width < 2 or (width == 2 and row.last - row.line < 2):
        return False
    between = separator.encode()
    return all(line.count(between) == width - 1 for line in row.held)


def width_reason(count: int, width: int) -> str:
    """Return the reason that a row has the wrong number of cells."""
    return f"{count} cell{'s' if count > 1 else ''} where {width} are expected"


def cell_text(value: Any) -> str:
    """Return a cell as text: whole floats without ".0", empty for null and NaN, other structures as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
    # A lone surrogate, which JSON can spell and UTF-8 cannot hold, becomes a question mark.
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def id_text(value: Any) -> str:
    """Return an id as text: "7.0" and 7.0, which became decimals in another program, are 7 again."""
    text = cell_text(value)
    whole = re.fullmatch(WHOLE_DECIMAL, text)
    return whole[1] if whole else text
