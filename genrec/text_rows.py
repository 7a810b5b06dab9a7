"""Text tables row by row: what a fast reader would repair in silence is told here, with its line.

It knows lines and cells, not columns. Every reader yields a row's line number (from 1) beside the row, and hands the
rows that cannot be read to `BadRows`.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genrec.data_report import BadRows
from genrec.errors import DataError


def check_text(path: Path) -> tuple[int, bool, bool]:
    """Check that a file is UTF-8 text.

    Returns:
        Its number of lines, whether it holds quote marks, and whether it holds backslash-u escapes.

    Raises:
        DataError: it cannot be read, or is not UTF-8 text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, quoted, escaped, last = 0, False, False, b"\n"
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                if lines == 0 and last == b"\n" and block.startswith(b"PAR1"):
                    raise DataError(f"{path} is a Parquet file; rename it to {path.with_suffix('.parquet').name}")
                if b"\0" in block:
                    raise DataError(f"{path} is not a text file (it holds zero bytes); give UTF-8 text or Parquet")
                decoder.decode(block)
                if lines == 0 and b"\n" not in block and b"\r" in block:
                    raise DataError(f"{path} has old Macintosh line ends; convert them: tr '\\r' '\\n'")
                lines += block.count(b"\n")
                quoted = quoted or b'"' in block
                escaped = escaped or b"\\u" in block
                last = block[-1:]
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # The decoder counts from the start of what it had not decoded yet, so the line is found by a second look.
        raise DataError(_encoding_message(path)) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give an existing file") from error
    return lines + (last != b"\n"), quoted, escaped


def _encoding_message(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"{path} line {number}: byte {line[error.start]:#04x} is not UTF-8; save the file as UTF-8, "
                    f"for example: iconv -f latin1 -t utf-8 {path.name}"
                )
    return f"{path} is not UTF-8; save it as UTF-8"


def read_header(path: Path, separator: str) -> tuple[tuple[str, ...], int]:
    """Return the column names of a delimited file and the line that holds them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    return tuple(cell.strip() for cell in cells), reader.line_num
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num}: the header cannot be read ({error}); mend it") from error
    raise DataError(f"{path} is empty; expected a header line and rows")


def quoted_rows(
    path: Path, separator: str, width: int, header_line: int, bad: BadRows
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row of a delimited file with quote marks.

    Raises:
        DataError: a quote mark is opened and not closed.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                if "unexpected end" in str(error) or "field limit" in str(error):
                    # Leaving out "this row" would leave out the rest of the file without a word.
                    raise DataError(
                        f"{path} line {line}: a quote mark is opened and not closed; close or double it"
                    ) from error
                bad.add(line, "a quote mark stands inside a cell without being doubled", _span(line, reader.line_num))
                continue
            if cells is None:
                return
            if line <= header_line or not any(map(str.strip, cells)):
                continue
            if len(cells) != width:
                bad.add(line, width_reason(len(cells), width), _span(line, reader.line_num))
                continue
            yield line, cells


def _span(first: int, last: int) -> str:
    """Say that one row took in several lines, which a quote mark out of place does."""
    return f"the row runs from line {first} to {last}" if last > first else ""


def width_reason(count: int, width: int) -> str:
    """Say that a row has the wrong number of cells."""
    return f"{count} cell{'s' if count > 1 else ''} where {width} are expected"


def json_objects(path: Path, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the value of each line that holds a JSON object."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                bad.add(line, "not valid JSON", text)
                continue
            if isinstance(value, dict):
                yield line, {cell_text(name): cell for name, cell in value.items()}
            else:
                bad.add(line, "not a JSON object", text)


def json_columns(path: Path, limit: int | None) -> tuple[str, ...]:
    """Return the keys of the first `limit` objects (of all, if None), in order of appearance."""
    bad = BadRows(path.name, "line")
    names: dict[str, None] = {}
    for number, (_, value) in enumerate(json_objects(path, bad)):
        if limit is not None and number >= limit:
            break
        names.update(dict.fromkeys(value))
    if not names:
        dropped = bad.dropped()
        found = f"its line {dropped[0].lines[0]} is {dropped[0].reason}" if dropped else "it is empty"
        raise DataError(f"{path} holds no rows ({found}); expected one JSON object per line")
    return tuple(names)


def cell_text(value: Any) -> str:
    """Return a cell as text: whole floats without ".0", nothing for null and NaN, other structures as JSON."""
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
