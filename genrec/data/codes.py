"""Ids as small numbers, and orders of numbers: what makes cleaning a log a matter of columns.

A log of millions of rows names few users and items. So its ids are held once each, and every row holds their codes.
What is checked of an id is then checked of each id and not of each row, and events are ordered by sorting numbers.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

DIGIT = 16
"""Bits by which numbers are sorted at a time: NumPy sorts numbers of this width by counting and not by comparing."""


def coded(events: pl.DataFrame) -> pl.DataFrame:
    """Return a log's events with each user id and each item id held once (as `pl.Enum`)."""
    text = [name for name in ("user", "item") if events.schema[name] == pl.String]
    # A space of their own, so that the ids of an earlier log are not among them; both columns at the same time.
    held = events.select(pl.col(name).cast(pl.Categorical(pl.Categories.random())) for name in text)
    return events.with_columns(_as_enum(held[name]) for name in text)


def _as_enum(column: pl.Series) -> pl.Series:
    ids = column.unique().drop_nulls()
    codes = ids.to_physical()
    names = ids.cast(pl.String).gather(codes.arg_sort())
    if len(codes) and codes.max() != len(codes) - 1:
        return column.cast(pl.String).cast(pl.Enum(names))
    return column.to_physical().cat.to(pl.Enum(names))


def names_of(column: pl.Series) -> pl.Series:
    """Return a column's different texts: for coded ids by code, for text in any order; null is not among them."""
    if isinstance(column.dtype, pl.Enum):
        return column.dtype.categories
    return column.drop_nulls().unique()


def where(column: pl.Series, chosen: pl.Series) -> pl.Series:
    """Return for each row of coded ids whether its id is chosen; null for a row without an id.

    Args:
        column: coded ids.
        chosen: for each of `names_of(column)`, whether it is chosen.
    """
    if not chosen.any():
        return pl.Series([False]).new_from_index(0, len(column)).set(column.is_null(), None)
    return chosen.gather(column.to_physical())


def stable_order(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of numbers in ascending order, equal ones in the order in which they stand.

    Args:
        keys: shape (n,).

    Returns:
        int64 array of shape (n,).
    """
    if len(keys) < 2 or (keys[1:] >= keys[:-1]).all():
        return np.arange(len(keys))
    least, most = int(keys.min()), int(keys.max())
    if most - least >= 2**63:
        return np.argsort(keys, kind="stable")
    keys = keys - least
    order: NDArray[np.int64] | None = None
    for shift in range(0, (most - least).bit_length(), DIGIT):
        digits = ((keys if order is None else keys[order]) >> shift).astype(np.uint16)
        step = np.argsort(digits, kind="stable")
        order = step if order is None else order[step]
    return np.arange(len(keys)) if order is None else order


def compact(codes: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the codes that occur, ascending, and each row's place among them.

    Args:
        codes: numbers from 0 to below `size`, of shape (n,).
        size: how many codes there are.
    """
    there = np.zeros(size, dtype=bool)
    there[codes] = True
    if there.all():
        return np.arange(size), codes
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]
