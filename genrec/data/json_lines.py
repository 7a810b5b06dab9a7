"""JSON Lines: one object per line, read exactly if the fast reader would read it wrongly.

The fast reader is used only for files that it reads correctly. It turns an object into a text, and 2.0 and 2 into two
ids; if an object has two keys of the same name, it takes the first, where Python takes the last.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from genrec.data.parquet_files import rounded
from genrec.data.report import BadRows
from genrec.data.text_files import TextFile
from genrec.data.text_rows import cell_text
from genrec.errors import DataError

EXACT = 2.0**53
"""From this number on, neighbouring whole numbers are the same float."""

_DOUBTFUL = r"^\s*[\[{]|^-?[0-9]*[.eE][-+.0-9eE]*$|^-?[0-9]{16,}$|^[tf]|^-?[0-9]+[.eE]"
"""A JSON cell that the fast reader may read differently from the exact one: a list, a decimal, a long number."""


def json_objects(path: Path, bad: BadRows, faults: Mapping[int, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the value of each line that holds a JSON object."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line, text in enumerate(file, start=1):
            if line in faults:
                bad.add(line, faults[line])
                continue
            if not text.strip():
                continue
            try:
                value = json.loads(text, object_pairs_hook=once)
            except TwiceError as error:
                bad.add(line, f"the key {error.args[0]!r} stands there twice")
                continue
            except (ValueError, RecursionError):
                bad.add(line, "not valid JSON", text)
                continue
            if isinstance(value, dict):
                yield line, {cell_text(name): cell for name, cell in value.items()}
            else:
                bad.add(line, "not a JSON object", text)


def json_columns(text: TextFile, limit: int | None) -> tuple[str, ...]:
    """Return the keys of the first `limit` objects (of all, if None), in order of appearance.

    Raises:
        DataError: there is no object, or the file is JSON of another kind.
    """
    bad = BadRows(text.path.name, "line")
    names: dict[str, None] = {}
    number, first = _first_line(text.readable)
    other = _other_kind(first)
    if other.startswith("not a JSON object") or first.strip() == "{":
        raise DataError(f"{text.path} holds no rows (its line {number} is {other}); expected one JSON object per line")
    for count, (_, value) in enumerate(json_objects(text.readable, bad, text.faults)):
        if limit is not None and count >= limit:
            break
        names.update(dict.fromkeys(value))
    if not names:
        dropped = bad.dropped()
        found = f"line {dropped[0].lines[0]}: {dropped[0].reason}" if dropped else "it is empty"
        found = f"its line {number} is {other}" if dropped and other else found
        raise DataError(f"{text.path} holds no rows ({found}); expected one JSON object per line")
    return tuple(names)


def read_json_fast(text: TextFile, columns: Mapping[str, str], measured: Collection[str]) -> pl.DataFrame | None:
    """Read a clean file with Polars, or return None if it needs the exact reader."""
    if text.escaped or text.faults or not _keys_once(text, columns.values()):
        return None
    schema = dict.fromkeys(columns.values(), pl.String)
    try:
        with text.readable.open("rb") as file:  # a file, since Polars would look for patterns in a name
            frame = pl.read_ndjson(file, schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != text.lines:  # there are blank lines, so a row's number is not its line
        return None
    for name, own in columns.items():
        doubtful = r"^\s*[\[{]" if name in measured else _DOUBTFUL
        if frame[own].str.contains(doubtful).any():
            return None
    return frame.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("line"),
        *(pl.col(own).alias(name) for name, own in columns.items()),
    )


def read_json_rows(
    text: TextFile, columns: Mapping[str, str], bad: BadRows, measured: Collection[str], remarks: list[str]
) -> Iterator[tuple[Any, ...]]:
    """Yield the line and the cells, as text, of each readable row."""
    inexact = False
    for line, value in json_objects(text.readable, bad, text.faults):
        wanted = {name: value.get(own) for name, own in columns.items()}
        if fault := next((fault for name, cell in wanted.items() if (fault := cell_fault(cell, columns[name]))), ""):
            bad.add(line, fault)
            continue
        inexact = inexact or any(
            isinstance(cell, float) and abs(cell) >= EXACT and name not in measured for name, cell in wanted.items()
        )
        yield (line, *map(cell_text, wanted.values()))
    if inexact:
        remarks.append(rounded(text.path.name))


def cell_fault(cell: Any, column: str) -> str:
    """Return why a cell cannot be an id; empty if it can."""
    if isinstance(cell, dict | list):
        return f"a list or object where text or a number is expected, in {column!r}"
    if isinstance(cell, bytes):
        return f"bytes that are no text, in {column!r}"
    if isinstance(cell, str) and not cell.isascii():
        try:
            cell.encode()
        except UnicodeEncodeError:
            return f"half a character (a lone surrogate), in {column!r}"
    return ""


class TwiceError(ValueError):
    """A key occurs twice in one object, so its value is ambiguous."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of these pairs, for `json.loads`; raise if a key occurs twice.

    Raises:
        ValueError: a key occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


def _keys_once(text: TextFile, keys: Collection[str]) -> bool:
    """Return whether no line can hold a key twice, since the file has no key more often than lines."""
    with text.readable.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        for key in keys:
            sought, count, place = json.dumps(key, ensure_ascii=False).encode(), 0, -1
            while count <= text.lines and (place := held.find(sought, place + 1)) >= 0:
                count += 1
            if not 0 < count <= text.lines:
                return False
    return True


def _first_line(path: Path) -> tuple[int, str]:
    with path.open(encoding="utf-8-sig", newline="\n", errors="replace") as file:
        return next(((line, text) for line, text in enumerate(file, start=1) if text.strip()), (1, ""))


def _other_kind(first: str) -> str:
    """Return what a file that begins with this line seems to be; empty if it may be JSON Lines."""
    start = first.strip()
    if start.startswith("["):
        return "not a JSON object, as of one JSON array: jq -c '.[]' makes lines of it"
    if start == "{":
        return "not valid JSON, as of objects over several lines: jq -c . makes one line of each"
    if start.startswith("{'"):
        return "not valid JSON, as of Python's objects: json.dumps writes them as JSON"
    if start and start[0] not in "{\"'" and any(mark in start for mark in ",;\t|"):
        return "not valid JSON, as of a delimited table: give it the suffix .csv"
    return ""
