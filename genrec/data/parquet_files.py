"""Parquet files, and folders of them: their columns and their rows.

Arrow reads the files, and Polars holds the result. Polars does not read them itself, since on a damaged file it
requests more memory than there is and the process dies. It also refuses a whole file for a column that is not needed
(two of the same name, a time in the zone `+05:30`). Polars reads only types that Arrow does not support, such as whole
numbers of 128 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from genrec.data.packing import refuse_streams
from genrec.data.report import shorten
from genrec.data.text_rows import cell_text
from genrec.errors import DataError

SUFFIXES = (".parquet", ".pq")

EXACT_BITS: Mapping[type[pl.DataType], int] = {pl.Float64: 53, pl.Float32: 24}
"""From 2 to this power on, neighbouring whole numbers are the same float."""

WHOLE = (pl.Int64, pl.Int32, pl.UInt32)
"""Types of times that stay numbers; those of other columns become text."""

STRANGERS = (
    (b"version https://git-lfs", "is the pointer of a file in Git LFS and not the file; get it with git lfs pull"),
    (b"PARE", "is an encrypted Parquet file; write it without encryption"),
    (b"\x1f\x8b", "is packed with gzip; unpack it first, Parquet files are packed in themselves"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it first, Parquet files are packed in themselves"),
    (b"PK\x03\x04", "is packed with zip; unpack it first, Parquet files are packed in themselves"),
)
"""The first bytes of files that are named like Parquet but are not, and what to do with such files."""


def parquet_parts(folder: Path) -> tuple[Path, ...]:
    """Return the Parquet files of a folder, by name; names that begin with a dot or an underscore are ignored.

    Raises:
        DataError: the folder has none.
    """
    if folder == Path():  # an empty name becomes this too
        raise DataError(
            "cannot read '.': an empty name, or this very folder; name the file, or the folder of its parts"
        )
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DataError(
            f"cannot read {folder}: Is a directory without Parquet files; give a file, or a folder of Parquet files"
        )
    return tuple(found)


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Return a file's columns, in its order.

    Raises:
        DataError: the file is missing, empty, damaged or not Parquet.
    """
    refuse_streams(path)
    with _told(path), path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise DataError(f"{path} is empty; expected a Parquet file with rows")
    for magic, what in STRANGERS:
        if head.startswith(magic):
            raise DataError(f"{path} {what}")
    if head[:4] != b"PAR1":
        raise DataError(
            f"{path} is not a Parquet file; give it the suffix of its format (.csv, .tsv, .jsonl), or write it again"
        )
    with _told(path):
        try:
            return tuple(_open(path).schema_arrow.names)
        except _unknown_to_arrow():
            return tuple(pl.read_parquet_schema(path))


def check_parquet(path: Path, columns: Sequence[str] | None = None) -> None:
    """Decode a Parquet file once, to find damage before a reader that would die of it.

    Args:
        path: the file.
        columns: those that will be read; all if left out.

    Raises:
        DataError: it is damaged, or has a column of which nothing can be made.
    """
    parquet_columns(path)
    with _told(path), suppress(_unknown_to_arrow()):
        file = _open(path)
        for field in file.schema_arrow:
            if not _polars_knows(field.type):
                raise DataError(
                    f"{path}: column {field.name!r} is of the kind {field.type}, which cannot be read here; convert it "
                    "or leave it out"
                )
        for _ in file.iter_batches(columns=None if columns is None else list(columns)):
            pass


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return the rows of one file.

    Args:
        path: the file.
        columns: those to read; all if left out.

    Raises:
        DataError: it is damaged, or has a column of which nothing can be made.
    """
    import pyarrow as pa

    parquet_columns(path)
    names = None if columns is None else list(columns)
    with _told(path):
        try:
            table = _open(path).read(columns=names)
        except _unknown_to_arrow():
            return pl.read_parquet(path, columns=names, glob=False, hive_partitioning=False)
        if names is not None:  # "user" would also select "user.id"
            table = table.select([table.schema.names.index(name) for name in names])
        held = [_plain(column) for column in table.columns]
        return pl.DataFrame(pl.from_arrow(pa.table(held, names=table.schema.names)))


def read_parts(
    parts: Sequence[Path], columns: Mapping[str, str], measured: Collection[str], remarks: list[str], shown: str
) -> pl.DataFrame:
    """Read some columns of the files of one table as text; dates and times stay as they are.

    Args:
        parts: the files.
        columns: the table's own column for each name wanted.
        measured: the names whose cells are measurements and not ids.
        remarks: warnings are appended here.
        shown: the table's name in remarks.

    Returns:
        A frame with `line`, the row's place in the whole table from 1, and the names wanted.

    Raises:
        DataError: a file is damaged or lacks a column, or a column is of a type that has no text.
    """
    frames, before = [], 0
    for part in parts:
        if missing := [own for own in columns.values() if own not in parquet_columns(part)]:
            raise DataError(f"{part} has no column {missing[0]!r}, which {parts[0].name} beside it has; add it")
        frame = read_parquet(part, list(dict.fromkeys(columns.values())))
        texts = [_text(frame[own], part, name, measured, remarks, shown) for name, own in columns.items()]
        place = pl.int_range(before + 1, before + frame.height + 1, dtype=pl.UInt32, eager=True).alias("line")
        frames.append(pl.DataFrame([place, *texts]))
        before += frame.height
    for name in columns:
        if len({frame.schema[name] for frame in frames}) > 1:
            # Text in one part and times in another: both become readable text.
            frames = [frame.with_columns(pl.col(name).cast(pl.String)) for frame in frames]
    return pl.concat(frames)


def part_sizes(parts: Sequence[Path]) -> tuple[tuple[str, int], ...]:
    """Return the name of each file and its number of rows."""
    import pyarrow.parquet as pq

    return tuple((part.name, pq.ParquetFile(part).metadata.num_rows) for part in parts)


def rounded(shown: str, bits: int = 53) -> str:
    """Return a warning on floats that are too imprecise for their values."""
    return (
        f"{shown}: there are decimals of 2^{bits} and more, of which neighbours cannot be told apart; "
        "write long ids as text, and times as whole numbers"
    )


def _text(
    column: pl.Series, part: Path, name: str, measured: Collection[str], remarks: list[str], shown: str
) -> pl.Series:
    """Return a column as text, or unchanged if it holds times."""
    kind = column.dtype
    if kind.is_nested() or kind in (pl.Object, pl.Duration, pl.Time):
        raise DataError(f"{part}: column {column.name!r} holds {kind}, expected text, numbers or times; convert it")
    if kind == pl.Binary:
        raise DataError(
            f"{part}: column {column.name!r} holds bytes that are no text; write them as text, such as hexadecimal"
        )
    if kind.is_float():
        bits = EXACT_BITS.get(kind.base_type(), 11)
        if (name not in measured or (name == "time" and bits < 53)) and (column.abs() >= 2.0**bits).any():
            told = rounded(shown, bits)
            remarks += [told] if told not in remarks else []
        return _decimals(column).alias(name)
    if name == "time" and (kind in (pl.Date, pl.Datetime) or kind in WHOLE):
        return column.alias(name)
    if name in measured and kind in (pl.Date, pl.Datetime):
        return column.alias(name)
    return column.cast(pl.String, strict=False).alias(name)


def _decimals(column: pl.Series) -> pl.Series:
    """Return floats as text: a whole number that became a float through a missing value is 7, not 7.0."""
    whole = column.cast(pl.Int64, strict=False)
    text = whole.cast(pl.String)
    other = column.is_finite() & (whole.is_null() | (whole.cast(column.dtype) != column))
    if other.any():  # in the spelling of the other formats' reader, each value once
        values = column.filter(other).unique()
        spelt = pl.Series([cell_text(value) for value in values.to_list()], dtype=pl.String)
        text = text.zip_with(~other, column.replace_strict(values, spelt, default=None, return_dtype=pl.String))
    return text.set(~column.is_finite(), None)


def _plain(column: Any) -> Any:
    """Return an Arrow column in types that Polars supports: bytes that are text as text, odd zones as UTC."""
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if pa.types.is_decimal256(kind):
        return column.cast(pa.string())
    if pa.types.is_timestamp(kind) and not _polars_knows(kind):
        return column.cast(pa.timestamp(kind.unit, "UTC"))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        try:
            text = column.cast(pa.large_binary()).cast(pa.large_string())
        except pa.ArrowInvalid:
            return column
        letters = pl.Series(pl.from_arrow(text))
        return column if letters.str.contains(r"[\x00-\x08\x0e-\x1f]").any() else text
    return column


def _polars_knows(kind: Any) -> bool:
    """Return whether Polars can hold a column of this Arrow type."""
    import pyarrow as pa

    try:
        pl.from_arrow(pa.table({"column": pa.array([], kind)}))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, ValueError, TypeError):
        return False
    return True


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path)


def _unknown_to_arrow() -> type[Exception]:
    import pyarrow as pa

    return pa.ArrowNotImplementedError  # type: ignore[no-any-return]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn a library's error on an unreadable file into an error of genrec."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (
        pa.ArrowException,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        ValueError,
        MemoryError,
    ) as error:
        raise DataError(f"cannot read {path} as Parquet ({_first_line(error)}); it is damaged") from error
    except OSError as error:
        if error.strerror:
            raise DataError(f"cannot read {path}: {error.strerror}; give an existing file") from error
        raise DataError(f"cannot read {path} as Parquet ({_first_line(error)}); it is damaged") from error


def _first_line(error: BaseException) -> str:
    return shorten(str(error).strip().split("\n")[0], 160)
