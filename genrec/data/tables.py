"""Table files: CSV, TSV, JSON Lines and Parquet, read with the place of every row.

This module reads files and columns, and does not know users or items. First it recognises how a file is written
(`genrec.data.text_files`, `genrec.data.dialects`), so that all formats are read by one plan. Rows that cannot be read
are returned beside the good ones, with their line numbers; the caller decides whether they are errors.

No row is repaired silently, as a usual CSV reader does. There a short row becomes a row with empty cells, an unclosed
quote takes in the rest of the file, and line numbers are off by every blank line. So lines without quotes are split
here, and files with quotes are read by the `csv` module in its strict mode (`genrec.data.text_rows`). For JSON, the
fast reader turns an object into a text, and 2.0 and 2 into two ids; so it is used only for files without such cells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from genrec.data.dialects import Dialect, recognise
from genrec.data.json_lines import json_columns, json_objects, read_json_fast, read_json_rows
from genrec.data.parquet_files import parquet_columns, parquet_parts, part_sizes, read_parquet, read_parts
from genrec.data.quoted_lines import read_clean_lines
from genrec.data.report import LINES_SHOWN, BadRows, Dropped, shorten
from genrec.data.text_files import TextFile, open_text
from genrec.data.text_rows import quoted_rows, width_reason
from genrec.errors import DataError

Kind = Literal["delimited", "jsonl", "parquet"]

SUFFIXES: Mapping[str, tuple[Kind, str]] = {
    ".csv": ("delimited", ","),
    ".tsv": ("delimited", "\t"),
    ".tab": ("delimited", "\t"),
    ".txt": ("delimited", ","),
    ".jsonl": ("jsonl", ""),
    ".ndjson": ("jsonl", ""),
    ".json": ("jsonl", ""),
    ".parquet": ("parquet", ""),
    ".pq": ("parquet", ""),
    ".inter": ("delimited", "\t"),  # RecBole's, see genrec.data.atomic
    ".item": ("delimited", "\t"),
}

PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
"""Suffixes that may follow that of the format. They are not relied on: a file's first bytes show how it is packed."""

JSON_LINES_SCANNED = 1000
"""A JSON Lines file's columns are the keys of this many first lines."""

ROWS_PER_CHUNK = 100_000
"""Rows held as Python objects at a time while reading row by row."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file, or a folder of Parquet files, whose columns are known and whose rows are not read yet.

    Attributes:
        path: the file.
        kind: how its rows are written.
        columns: column names, in the file's order.
        separator: the delimiter of a delimited file.
        header_line: the line of the header, from 1; 0 if there is none.
        quoted: whether a delimited file has quote marks, and they quote.
        text: the lines of a text file.
        parts: the files of a Parquet table, in their order.
        notes: sentences on what was recognised.
        remarks: things to check that were found while reading the rows.
    """

    path: Path
    kind: Kind
    columns: tuple[str, ...]
    separator: str = ""
    header_line: int = 0
    quoted: bool = False
    text: TextFile | None = None
    parts: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list, compare=False)

    def part_sizes(self) -> tuple[tuple[str, int], ...]:
        """Return the name and the number of rows of each file of a table that has several."""
        return part_sizes(self.parts) if len(self.parts) > 1 else ()

    @property
    def unit(self) -> str:
        """The unit of a row's number in error messages."""
        return "row" if self.kind == "parquet" else "line"


def open_table(
    path: Path,
    columns: Sequence[str] = (),
    separator: str | None = None,
    all_keys: bool = False,
    dialect: Dialect | None = None,
) -> TableFile:
    """Check a file and find its columns.

    Args:
        path: a file whose suffix is one of `SUFFIXES`, packed or not; a folder of Parquet files; or any delimited file
            if a separator is given.
        columns: the columns of a delimited file without a header.
        separator: the delimiter, if the suffix does not imply it.
        all_keys: look for a JSON Lines file's columns in all lines, not only in the first `JSON_LINES_SCANNED`.
        dialect: the user's settings on how text files are written.

    Raises:
        DataError: the file cannot be read, is not of the format of its suffix, or is empty.
    """
    dialect = dialect or Dialect()
    if path.is_dir():
        parts = parquet_parts(path)
        return TableFile(path, "parquet", parquet_columns(parts[0]), parts=parts)
    kind, promised = _promise(path, separator)
    if kind == "parquet":
        return TableFile(path, "parquet", parquet_columns(path), parts=(path,))
    text = open_text(path, dialect.encoding)
    if kind == "jsonl":
        limit = None if all_keys else JSON_LINES_SCANNED
        names = json_columns(text, limit)
        return TableFile(path, "jsonl", names, text=text, notes=text.notes)
    layout = recognise(text, promised, Dialect(separator) if separator else dialect, columns)
    notes = (*text.notes, *layout.notes)
    return TableFile(
        path, "delimited", layout.columns, layout.separator, layout.header_line, layout.quoted, text, notes=notes
    )


def read_columns(
    table: TableFile, columns: Mapping[str, str], measured: Collection[str] = ("time", "rating")
) -> tuple[pl.DataFrame, tuple[Dropped, ...]]:
    """Read some columns of a table as text.

    Args:
        table: from `open_table`.
        columns: the table's own column for each name wanted.
        measured: the names whose cells are measurements and not ids, so that 2 and 2.0 are the same.

    Returns:
        A frame with `line` (the row's place) and the names wanted, as text without surrounding white space (Parquet
        dates and times stay as they are; an empty cell is null or ""), and the rows that could not be read.

    Raises:
        DataError: the file cannot be read at all, or a column is of a type that has no text.
    """
    bad = BadRows(table.path.name, table.unit)
    try:
        if table.kind == "parquet":
            frame = read_parts(table.parts, columns, measured, table.remarks, table.path.name)
        elif table.kind == "jsonl":
            fast = read_json_fast(_text(table), columns, measured)
            exact = read_json_rows(_text(table), columns, bad, measured, table.remarks)
            frame = _frame(columns, exact) if fast is None else fast
        elif table.quoted:
            places = {name: table.columns.index(own) for name, own in columns.items()}
            clean = read_clean_lines(_text(table), table.separator, len(table.columns), table.header_line, places)
            frame = _frame(columns, _csv_rows(table, columns, bad)) if clean is None else clean
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
    """Read a whole small table row by row, with the values' own types if the format has types.

    Returns:
        Each row's place and its cells by column, and the rows that could not be read.

    Raises:
        DataError: the file cannot be read at all.
    """
    bad = BadRows(table.path.name, table.unit)
    if table.kind == "jsonl":
        text = _text(table)
        return list(json_objects(text.readable, bad, text.faults)), bad.dropped()
    if table.kind == "parquet":
        rows: list[tuple[int, dict[str, Any]]] = []
        for part in table.parts:
            rows += enumerate(read_parquet(part).iter_rows(named=True), start=len(rows) + 1)
        return rows, ()
    frame, dropped = read_columns(table, {f"cell{number}": name for number, name in enumerate(table.columns)})
    cells = ((row[0], dict(zip(table.columns, row[1:], strict=True))) for row in frame.iter_rows())
    return list(cells), dropped


def _promise(path: Path, separator: str | None) -> tuple[Kind, str]:
    """Return what a file's suffix promises: the format of its rows and the delimiter."""
    if separator:
        return "delimited", separator
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise DataError(f"{path} is a spreadsheet; save the sheet as CSV UTF-8 and give that")
    inner = path.suffix.lower()
    if inner in PACKED:
        inner = Path(path.stem).suffix.lower() or ".txt"
    if inner not in SUFFIXES:
        raise DataError(
            f"{path} has the suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}, packed or not; convert or "
            "rename it"
        )
    return SUFFIXES[inner]


def _text(table: TableFile) -> TextFile:
    if table.text is None:
        raise TypeError("a Parquet table has no lines")
    return table.text


def _split_lines(table: TableFile, columns: Mapping[str, str], bad: BadRows) -> pl.DataFrame:
    """Read a delimited file whose quote marks, if any, are text: one line, one row."""
    width, text = len(table.columns), _text(table)
    cells = pl.col("text").str.split_exact(table.separator, width - 1)
    empty = pl.col("text").str.strip_chars(" \t\r" + table.separator) == ""
    frame = (
        pl.scan_lines(text.readable, name="text", row_index_name="line", row_index_offset=1, glob=False)
        .filter(pl.col("line") > table.header_line, ~empty)
        .select(
            "line",
            (pl.col("text").str.count_matches(table.separator, literal=True) + 1).alias("width"),
            *(cells.struct.field(f"field_{table.columns.index(own)}").alias(name) for name, own in columns.items()),
        )
        .collect(engine="streaming")
    )
    if text.faults:
        spoilt = pl.col("line").is_in(list(text.faults))
        for line in frame.filter(spoilt)["line"].sort().to_list():
            bad.add(line, text.faults[line])
        frame = frame.filter(~spoilt)
    wrong = frame.filter(pl.col("width") != width)
    for count in wrong["width"].unique().sort().to_list():
        lines = wrong.filter(pl.col("width") == count)["line"]
        bad.add_many(lines.head(LINES_SHOWN).to_list(), lines.len(), width_reason(count, width))
    return frame.filter(pl.col("width") == width).drop("width")


def _csv_rows(table: TableFile, columns: Mapping[str, str], bad: BadRows) -> Iterator[tuple[Any, ...]]:
    text, over_lines, first = _text(table), 0, 0
    places = [table.columns.index(own) for own in columns.values()]
    rows = quoted_rows(
        text.readable, table.separator, len(table.columns), table.header_line, bad, text.faults, table.path
    )
    for line, last, cells in rows:
        if last > line and any("\n" in cells[place] for place in places):
            over_lines, first = over_lines + 1, first or line
        yield (line, *(cells[place] for place in places))
    if over_lines:
        table.remarks.append(
            f"{table.path.name}: cells of {over_lines:,} row{'s' if over_lines > 1 else ''} run over several lines "
            f"(line {first}); if a quote mark was left open there, close it or pass --no-quotes"
        )


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
