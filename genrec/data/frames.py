"""Data frames of every kind, written as files for the common reader.

A frame is accepted if it gives its columns through Arrow's stream (`__arrow_c_stream__`: pandas, Polars, PyArrow,
DuckDB) or through the older exchange (`__dataframe__`). Hugging Face's `datasets.Dataset` and `DatasetDict` are
accepted too.

A `Dataset` is read by its rows, not by its table. After filtering, shuffling or selecting, its table still holds every
row; a separate index says which rows count, and in which order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from genrec.errors import DataError


def as_file(given: Any, place: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the given file; a data frame is first written to a file.

    Args:
        given: a path, a data frame, or a Hugging Face data set.
        place: where a data frame is written, as Parquet.

    Returns:
        The file, and notes on how it was made.

    Raises:
        DataError: it is none of these, or has a column that a table file cannot hold.
    """
    if isinstance(given, str | Path):
        return Path(given), ()
    name = place.stem
    try:
        frame, notes = _frame(given, name)
        frame.write_parquet(place)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"the {name} cannot be read from a {type(given).__name__} ({reason}); give every column one type: text, "
            "numbers or times"
        ) from error
    return place, notes


def _frame(given: Any, name: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    kind = type(given)
    if kind.__module__.partition(".")[0] == "datasets":
        return _of_datasets(given, name)
    if isinstance(given, pl.LazyFrame):
        return given.collect(), ()
    if hasattr(given, "__arrow_c_stream__"):
        return pl.DataFrame(given), ()
    if hasattr(given, "__dataframe__"):
        from pyarrow.interchange import from_dataframe

        return pl.DataFrame(from_dataframe(given)), ()  # Polars itself reads only the newer exchange
    raise DataError(f"{kind.__name__} is neither a file nor a data frame; give a path or a table")


def _of_datasets(given: Any, name: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    from datasets import Dataset, DatasetDict

    if isinstance(given, Dataset):
        return _of_dataset(given), ()
    if not isinstance(given, DatasetDict):
        raise DataError(
            f"the {name} are a {type(given).__name__}, which is read once and without an end; load it without "
            "streaming=True"
        )
    if not given:
        raise DataError(f"the {name} are a DatasetDict without splits; give one that holds rows")
    frames = {split: _of_dataset(part) for split, part in given.items()}
    columns = {split: tuple(sorted(frame.columns)) for split, frame in frames.items()}
    if len(set(columns.values())) > 1:
        shown = "; ".join(f"{split}: {', '.join(names)}" for split, names in columns.items())
        raise DataError(f"the splits of the {name} have different columns ({shown}); choose one of them")
    whole = pl.concat([frame.select(next(iter(frames.values())).columns) for frame in frames.values()])
    if len(frames) == 1:
        return whole, ()
    return whole, (f"{name}: the splits {', '.join(frames)} were put together; genrec splits by itself",)


def _of_dataset(given: Any) -> pl.DataFrame:
    """Return the rows of a `Dataset`, with the names of its class labels."""
    from datasets import ClassLabel

    frame = pl.DataFrame(given.with_format("arrow")[:])
    for column, kind in given.features.items():
        if isinstance(kind, ClassLabel):
            names = dict(enumerate(kind.names))
            frame = frame.with_columns(pl.col(column).replace_strict(names, default=None, return_dtype=pl.String))
    return frame
