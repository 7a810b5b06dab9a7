"""Table files: CSV, TSV, JSON Lines and Parquet, read with the place of every row.

It knows files and columns, not users or items. What a file is written in is recognised first (`genrec.data.text_files`,
`genrec.data.dialects`), so that all formats are read by one plan; rows that cannot be read are returned beside the good
ones, with their line numbers, and whether that is an error is the caller's to decide.

The trap is a CSV reader that repairs what it reads: a short row becomes a row with empty cells, an unclosed quote
swallows the rest of the file, and line numbers are off by every blank line. So lines without quotes are split here, and
files with quotes are read by the `csv` module in its strict mode (`genrec.data.text_rows`). The same goes for JSON: the
fast reader turns an object into a text, and 2.0 and 2 into two ids, so it is believed only where there is none of that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from genrec.data.dialects import Dialect, recognise
from genrec.data.report import LINES_SHOWN, BadRows, Dropped, shorten
from genrec.data.text_files import TextFile, open_text
from genrec.data.text_rows import cell_text, json_columns, json_objects, quoted_rows, width_reason
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
"""Suffixes that stand after that of the format. They are not relied on: how a file is packed, its first bytes say."""

JSON_LINES_SCANNED = 1000
"""A JSON Lines file's columns are the keys of this many first lines."""

ROWS_PER_CHUNK = 100_000
"""Rows held as Python objects at a time while reading row by row."""

EXACT = 2.0**53
"""From here on neighbouring whole numbers are the same decimal."""

_DOUBTFUL = r"^\s*[\[{]|^-?[0-9]*[.eE][-+.0-9eE]*$|^-?[0-9]{16,}$|^[tf]|^-?[0-9]+[.eE]"
"""A cell of JSON that the fast reader may not have read as the exact one does: a list, a decimal, a long number."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file, or a folder of Parquet files, whose columns are known and whose rows are not read yet.

    Attributes:
        path: the file.
        kind: how its rows are written.
        columns: column names, in the file's order.
        separator: between cells of a delimited file.
        header_line: the line of the header, from 1; 0 where there is none.
        quoted: a delimited file holds quote marks, and they quote.
        text: the lines of a text file.
        parts: the files of a Parquet table, in their order.
        notes: what was recognised.
        remarks: what reading the rows brought to light and should be looked at.
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

    @property
    def unit(self) -> str:
        """What a row's number counts, as an error says it."""
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
        separator: between cells, where the suffix does not say it.
        all_keys: look for a JSON Lines file's columns in all lines, not only in the first `JSON_LINES_SCANNED`.
        dialect: what the user says of how text files are written.

    Raises:
        DataError: the file cannot be read, is not what its suffix says, or is empty.
    """
    dialect = dialect or Dialect()
    if path.is_dir():
        parts = parquet_parts(path)
        return TableFile(path, "parquet", _parquet_columns(parts[0]), parts=parts)
    kind, promised = _promise(path, separator)
    if kind == "parquet":
        return TableFile(path, "parquet", _parquet_columns(path), parts=(path,))
    text = open_text(path, dialect.encoding)
    if kind == "jsonl":
        limit = None if all_keys else JSON_LINES_SCANNED
        names = json_columns(text.readable, limit, text.faults, path)
        return TableFile(path, "jsonl", names, text=text, notes=text.notes)
    layout = recognise(text, promised, Dialect(separator) if separator else dialect, columns)
    notes = (*text.notes, *layout.notes)
    return TableFile(
        path, "delimited", layout.columns, layout.separator, layout.header_line, layout.quoted, text, notes=notes
    )


def parquet_parts(folder: Path) -> tuple[Path, ...]:
    """Return the Parquet files of a folder, by name; those that begin with a dot or an underscore are no part of it.

    Raises:
        DataError: it holds none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".parquet", ".pq")
        and path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DataError(
            f"cannot read {folder}: Is a directory without Parquet files; give a file, or a folder of Parquet files"
        )
    return tuple(found)


def check_parquet(path: Path, columns: Sequence[str] | None = None) -> None:
    """Decode a Parquet file once with Arrow, which tells damage that Polars takes for memory to ask for and dies of.

    Args:
        path: the file.
        columns: those that will be read; all if left out.

    Raises:
        DataError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches(columns=None if columns is None else list(columns)):
                pass
    except pa.ArrowNotImplementedError:
        pass  # of a kind that only Polars knows
    except FileNotFoundError as error:
        raise DataError(f"cannot read {path}: {error.strerror or 'No such file'}; give an existing file") from error
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(f"cannot read {path} as Parquet ({_first_line(error)}); it is damaged") from error


def read_columns(
    table: TableFile, columns: Mapping[str, str], measured: Collection[str] = ("time", "rating")
) -> tuple[pl.DataFrame, tuple[Dropped, ...]]:
    """Read some columns of a table as text.

    Args:
        table: from `open_table`.
        columns: the table's own column for each name wanted.
        measured: those of the names whose cells are measured: 2 and 2.0 are the same there, however they are written.

    Returns:
        A frame with `line` (the row's place) and the names wanted, as text without surrounding white space (Parquet
        dates and times stay as they are; an empty cell is null or ""), and the rows that could not be read.

    Raises:
        DataError: the file cannot be read at all, or a column is of a type that has no text.
    """
    bad = BadRows(table.path.name, table.unit)
    try:
        if table.kind == "parquet":
            frame = _read_parquet(table, columns, measured)
        elif table.kind == "jsonl":
            fast = _read_json_fast(table, columns, measured)
            frame = _frame(columns, _json_rows(table, columns, bad, measured)) if fast is None else fast
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
        text = _text(table)
        return list(json_objects(text.readable, bad, text.faults)), bad.dropped()
    if table.kind == "parquet":
        rows: list[tuple[int, dict[str, Any]]] = []
        for part in table.parts:
            check_parquet(part)
            try:
                frame = pl.read_parquet(part, glob=False, hive_partitioning=False)
                rows += enumerate(frame.iter_rows(named=True), start=len(rows) + 1)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise DataError(f"{part} cannot be read as Parquet ({_first_line(error)}); it is damaged") from error
        return rows, ()
    frame, dropped = read_columns(table, {f"cell{number}": name for number, name in enumerate(table.columns)})
    cells = ((row[0], dict(zip(table.columns, row[1:], strict=True))) for row in frame.iter_rows())
    return list(cells), dropped


def _promise(path: Path, separator: str | None) -> tuple[Kind, str]:
    """Return what a file's suffix promises: how its rows are written, and what separates cells."""
    if separator:
        return "delimited", separator
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


def _json_rows(
    table: TableFile, columns: Mapping[str, str], bad: BadRows, measured: Collection[str]
) -> Iterator[tuple[Any, ...]]:
    text, rounded = _text(table), False
    for line, value in json_objects(text.readable, bad, text.faults):
        wanted = {name: value.get(own) for name, own in columns.items()}
        nested = [name for name, cell in wanted.items() if isinstance(cell, dict | list)]
        if nested:
            own = columns[nested[0]]
            bad.add(line, f"a list or object where text or a number is expected, in {own!r}")
            continue
        rounded = rounded or any(
            isinstance(cell, float) and abs(cell) >= EXACT and name not in measured for name, cell in wanted.items()
        )
        yield (line, *map(cell_text, wanted.values()))
    if rounded:
        table.remarks.append(_rounded(table))


def _rounded(table: TableFile) -> str:
    return (
        f"{table.path.name}: there are decimals of 2^53 and more, of which neighbours cannot be told apart; "
        "write long ids as text"
    )


def _read_json_fast(table: TableFile, columns: Mapping[str, str], measured: Collection[str]) -> pl.DataFrame | None:
    """Read a clean JSON Lines file with Polars, or return None where only the exact reader can tell what it says."""
    text = _text(table)
    if text.escaped or text.faults:
        return None
    schema = dict.fromkeys(columns.values(), pl.String)
    try:
        with text.readable.open("rb") as file:  # a file and no name, in which Polars would look for patterns
            frame = pl.read_ndjson(file, schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != text.lines:  # blank lines, so that a row's number would not be its line
        return None
    for name, own in columns.items():
        doubtful = r"^\s*[\[{]" if name in measured else _DOUBTFUL
        if frame[own].str.contains(doubtful).any():
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
                raise DataError(
                    f"{path} is not a Parquet file; give it the suffix of its format ({', '.join(SUFFIXES)})"
                )
            file.seek(0)
            return tuple(pl.read_parquet_schema(file))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give an existing file") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({_first_line(error)}); it is damaged") from error


def _read_parquet(table: TableFile, columns: Mapping[str, str], measured: Collection[str]) -> pl.DataFrame:
    frames, before = [], 0
    for part in table.parts:
        if missing := [own for own in columns.values() if own not in _parquet_columns(part)]:
            raise DataError(f"{part} has no column {missing[0]!r}, which {table.parts[0].name} beside it has; add it")
        frame = _read_part(table, part, columns, measured).with_columns(pl.col("line") + before)
        before += frame.height
        frames.append(frame)
    for name in columns:
        kinds = {frame.schema[name] for frame in frames}
        if len(kinds) > 1:
            # Text in one part and times in another: what people would read in both.
            frames = [frame.with_columns(pl.col(name).cast(pl.String)) for frame in frames]
    return pl.concat(frames)


def _read_part(table: TableFile, part: Path, columns: Mapping[str, str], measured: Collection[str]) -> pl.DataFrame:
    check_parquet(part, list(columns.values()))
    frame = (
        # The row number is named so that no column of the file has the name already.
        pl.scan_parquet(
            part,
            row_index_name=(place := "row of " + "".join(table.columns)),
            row_index_offset=1,
            glob=False,
            hive_partitioning=False,
        )
        .select(pl.col(place).alias("line"), *(pl.col(own).alias(name) for name, own in columns.items()))
        .collect()
    )
    for name, own in columns.items():
        kind = frame.schema[name]
        if kind.is_nested() or kind in (pl.Object, pl.Duration, pl.Time):
            raise DataError(f"{part}: column {own!r} holds {kind}, expected text, numbers or times; convert it")
        if kind.is_float():
            if name not in measured and (frame[name].abs() >= EXACT).any() and _rounded(table) not in table.remarks:
                table.remarks.append(_rounded(table))
            frame = frame.with_columns(_decimals(frame[name]))
        elif kind not in (pl.Date, pl.Datetime):
            frame = frame.with_columns(pl.col(name).cast(pl.String, strict=False))
    return frame


def _decimals(column: pl.Series) -> pl.Series:
    """Return decimals as text: a whole number that met a missing value on its way is 7, not 7.0."""
    whole = column.cast(pl.Int64, strict=False)
    text = whole.cast(pl.String)
    other = column.is_finite() & (whole.is_null() | (whole.cast(column.dtype) != column))
    if other.any():  # as the other formats' reader spells them, each value once
        values = column.filter(other).unique()
        spelt = pl.Series([cell_text(value) for value in values.to_list()], dtype=pl.String)
        text = text.zip_with(~other, column.replace_strict(values, spelt, default=None, return_dtype=pl.String))
    return text.set(~column.is_finite(), None).alias(column.name)


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
