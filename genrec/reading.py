"""Table files: CSV, TSV, JSON Lines and Parquet, read with the place of every row.

It knows files and columns, not users or items. A text file is checked to be UTF-8 text first, so that a binary or a
wrongly encoded file is told as such. Rows that cannot be read are returned beside the good ones, with their line
numbers; whether that is an error is the caller's to decide.

The easy mistake: a CSV reader that repairs what it reads. A short row becomes a row with empty cells, an unclosed
quote swallows the rest of the file, and line numbers are off by every blank line. So lines without quotes are split
here, and files with quotes are read by the `csv` module in its strict mode (`genrec.text_rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from genrec.data_report import LINES_SHOWN, BadRows, Dropped, shorten
from genrec.errors import DataError
from genrec.text_rows import cell_text, check_text, json_columns, json_objects, quoted_rows, read_header, width_reason

Kind = Literal["delimited", "jsonl", "parquet"]

SUFFIXES: Mapping[str, tuple[Kind, str]] = {
    ".csv": ("delimited", ","),
    ".tsv": ("delimited", "\t"),
    ".tab": ("delimited", "\t"),
    ".jsonl": ("jsonl", ""),
    ".ndjson": ("jsonl", ""),
    ".parquet": ("parquet", ""),
    ".pq": ("parquet", ""),
}

JSON_LINES_SCANNED = 1000
"""A JSON Lines file's columns are the keys of this many first lines."""

ROWS_PER_CHUNK = 100_000
"""Rows held as Python objects at a time while reading row by row."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file whose columns are known and whose rows are not read yet.

    Attributes:
        path: the file.
        kind: how its rows are written.
        columns: column names, in the file's order.
        separator: between cells of a delimited file.
        header_line: the line of the header, from 1; 0 where there is none.
        quoted: a delimited file holds quote marks.
        escaped: a JSON Lines file holds backslash-u escapes, which the fast reader does not check.
        lines: how many lines a text file has.
    """

    path: Path
    kind: Kind
    columns: tuple[str, ...]
    separator: str = ""
    header_line: int = 0
    quoted: bool = False
    escaped: bool = False
    lines: int = 0

    @property
    def unit(self) -> str:
        """What a row's number counts, as an error says it."""
        return "row" if self.kind == "parquet" else "line"


def open_table(
    path: Path, columns: Sequence[str] = (), separator: str | None = None, all_keys: bool = False
) -> TableFile:
    """Check a file and find its columns.

    Args:
        path: a file whose suffix is one of `SUFFIXES`, or any delimited file if a separator is given.
        columns: the columns of a delimited file without a header.
        separator: between cells, where the suffix does not say it.
        all_keys: look for a JSON Lines file's columns in all lines, not only in the first `JSON_LINES_SCANNED`.

    Raises:
        DataError: the file cannot be read, is not what its suffix says, or is empty.
    """
    kind, between = ("delimited", separator) if separator else SUFFIXES.get(path.suffix.lower(), (None, ""))
    if kind is None:
        raise DataError(
            f"{path} has the suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}; "
            "convert or rename it (decompress it first if it is compressed)"
        )
    if kind == "parquet":
        return TableFile(path, "parquet", _parquet_columns(path))
    lines, quoted, escaped = check_text(path)
    if kind == "jsonl":
        names = json_columns(path, None if all_keys else JSON_LINES_SCANNED)
        return TableFile(path, "jsonl", names, escaped=escaped, lines=lines)
    header_line = 0
    if not columns:
        columns, header_line = read_header(path, between)
    return TableFile(path, "delimited", tuple(columns), between, header_line, quoted, lines=lines)


def read_columns(table: TableFile, columns: Mapping[str, str]) -> tuple[pl.DataFrame, tuple[Dropped, ...]]:
    """Read some columns of a table as text.

    Args:
        table: from `open_table`.
        columns: the table's own column for each name wanted.

    Returns:
        A frame with `line` (the row's place) and the names wanted, as text without surrounding white space (Parquet
        dates and times stay as they are; an empty cell is null or ""), and the rows that could not be read.

    Raises:
        DataError: the file cannot be read at all, or a column is of a type that has no text.
    """
    bad = BadRows(table.path.name, table.unit)
    try:
        if table.kind == "parquet":
            frame = _read_parquet(table, columns)
        elif table.kind == "jsonl":
            fast = _read_json_fast(table, columns)
            frame = _frame(columns, _json_rows(table, columns, bad)) if fast is None else fast
        elif table.quoted:
            frame = _frame(columns, _csv_rows(table, columns, bad))
        else:
            frame = _split_lines(table, columns, bad)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeError) as error:
        raise DataError(
            f"{table.path} cannot be read as {table.path.suffix or 'text'} ({_first_line(error)}); it is damaged or "
            "of another format"
        ) from error
    text = [name for name, kind in frame.schema.items() if kind == pl.String]
    return frame.with_columns(pl.col(text).str.strip_chars()), bad.dropped()


def read_records(table: TableFile) -> tuple[list[tuple[int, dict[str, Any]]], tuple[Dropped, ...]]:
    """Read a whole small table row by row, with the values' own types where the format has types.

    Returns:
        Each row's place and its cells by column, and the rows that could not be read.

    Raises:
        DataError: the file cannot be read at all.
    """
    bad = BadRows(table.path.name, table.unit)
    if table.kind == "jsonl":
        return list(json_objects(table.path, bad)), bad.dropped()
    if table.kind == "parquet":
        try:
            frame = pl.read_parquet(table.path, glob=False)
            return list(enumerate(frame.iter_rows(named=True), start=1)), ()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise DataError(f"{table.path} cannot be read as Parquet ({_first_line(error)}); it is damaged") from error
    frame, dropped = read_columns(table, {f"cell{number}": name for number, name in enumerate(table.columns)})
    rows = ((row[0], dict(zip(table.columns, row[1:], strict=True))) for row in frame.iter_rows())
    return list(rows), dropped


def _split_lines(table: TableFile, columns: Mapping[str, str], bad: BadRows) -> pl.DataFrame:
    """Read a delimited file without quote marks: one line, one row."""
    width = len(table.columns)
    cells = pl.col("text").str.split_exact(table.separator, width - 1)
    frame = (
        pl.scan_lines(table.path, name="text", row_index_name="line", row_index_offset=1, glob=False)
        .filter(pl.col("line") > table.header_line, pl.col("text").str.strip_chars() != "")
        .select(
            "line",
            (pl.col("text").str.count_matches(table.separator, literal=True) + 1).alias("width"),
            *(cells.struct.field(f"field_{table.columns.index(own)}").alias(name) for name, own in columns.items()),
        )
        .collect(engine="streaming")
    )
    wrong = frame.filter(pl.col("width") != width)
    for count in wrong["width"].unique().sort().to_list():
        lines = wrong.filter(pl.col("width") == count)["line"]
        bad.add_many(lines.head(LINES_SHOWN).to_list(), lines.len(), width_reason(count, width))
    return frame.filter(pl.col("width") == width).drop("width")


def _csv_rows(table: TableFile, columns: Mapping[str, str], bad: BadRows) -> Iterator[tuple[Any, ...]]:
    places = [table.columns.index(own) for own in columns.values()]
    for line, cells in quoted_rows(table.path, table.separator, len(table.columns), table.header_line, bad):
        yield (line, *(cells[place] for place in places))


def _json_rows(table: TableFile, columns: Mapping[str, str], bad: BadRows) -> Iterator[tuple[Any, ...]]:
    for line, value in json_objects(table.path, bad):
        wanted = [value.get(own) for own in columns.values()]
        if any(isinstance(cell, dict | list) for cell in wanted):
            bad.add(line, "a list or object where text or a number is expected")
            continue
        yield (line, *map(cell_text, wanted))


def _read_json_fast(table: TableFile, columns: Mapping[str, str]) -> pl.DataFrame | None:
    """Read a clean JSON Lines file with Polars, or return None where only the slow reader can tell what is wrong."""
    if table.escaped:
        return None
    schema = dict.fromkeys(columns.values(), pl.String)
    try:
        frame = pl.read_ndjson(table.path, schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != table.lines:  # blank lines, so that a row's number would not be its line
        return None
    return frame.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("line"),
        *(pl.col(own).alias(name) for name, own in columns.items()),
    )


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise DataError(f"{path} is empty; expected a Parquet file with rows")
        if head != b"PAR1":
            raise DataError(f"{path} is not a Parquet file; give it the suffix of its format ({', '.join(SUFFIXES)})")
        return tuple(pl.read_parquet_schema(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give an existing file") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({_first_line(error)}); it is damaged") from error


def _read_parquet(table: TableFile, columns: Mapping[str, str]) -> pl.DataFrame:
    frame = (
        # The row number is named so that no column of the file has the name already.
        pl.scan_parquet(table.path, row_index_name=(place := "row of " + "".join(table.columns)), row_index_offset=1)
        .select(pl.col(place).alias("line"), *(pl.col(own).alias(name) for name, own in columns.items()))
        .collect()
    )
    for name, own in columns.items():
        kind = frame.schema[name]
        if kind.is_nested() or kind in (pl.Object, pl.Duration, pl.Time):
            raise DataError(f"{table.path}: column {own!r} holds {kind}, expected text, numbers or times; convert it")
        if kind.is_float():
            # A whole number that met a missing value on its way is a float; its id is 7, not 7.0.
            whole = pl.col(name).cast(pl.Int64, strict=False)
            text = pl.when(pl.col(name) == whole).then(whole.cast(pl.String)).otherwise(pl.col(name).cast(pl.String))
            frame = frame.with_columns(pl.when(pl.col(name).is_finite()).then(text).alias(name))
        elif kind not in (pl.Date, pl.Datetime):
            frame = frame.with_columns(pl.col(name).cast(pl.String, strict=False))
    return frame


def _frame(columns: Iterable[str], rows: Iterator[tuple[Any, ...]]) -> pl.DataFrame:
    """Build a frame from rows of (line, text ...), a bounded number of them as Python objects at a time."""
    schema: dict[str, Any] = {"line": pl.UInt32, **dict.fromkeys(columns, pl.String)}
    chunks, chunk = [pl.DataFrame(schema=schema)], []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_PER_CHUNK:
            chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
            chunk = []
    chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
    return pl.concat(chunks)


def _first_line(error: BaseException) -> str:
    return shorten(str(error).strip().split("\n")[0], 160)
