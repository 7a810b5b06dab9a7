"""Histories as columns: what is written and counted of a clean log, without a Python object for each event.

A log of twenty million events is some hundred megabytes as arrays, and many gigabytes as tuples. So the data folder
is written, and the split is counted for the report, from the arrays themselves. What a count means is decided in
`genrec.data.splits`; a test compares both on small logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data.cleaning import CleanLog, make_histories
from genrec.data.splits import History, SplitName, global_moments
from genrec.errors import DataError


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What a report says of a split.

    Attributes:
        train: training histories.
        longest: events of the longest training history.
        valid: validation cases.
        test: test cases.
        repeated: validation cases whose item the user had taken before.
    """

    train: int
    longest: int
    valid: int
    test: int
    repeated: int


class HeldLog:
    """Keeps the log that data was made from, so that histories become Python objects only where they are needed."""

    __slots__ = ("_log",)

    _log: CleanLog

    def __getattr__(self, name: str) -> Any:
        # Called only for what is not there: the histories, before they are first asked for.
        if name != "histories":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        histories = make_histories(self._log)
        object.__setattr__(self, "histories", histories)
        return histories


USERS_IN_ONE_PIECE = 1 << 16
"""Up to this number of users, the histories are one piece, and files are byte for byte those of an older genrec."""

USERS_PER_PIECE = 1024
"""Users of a piece beyond that: Polars takes several times longer to write a slice of a large column than a small one.
A row group of the file is one piece."""


def histories_frame(log: CleanLog) -> pl.DataFrame:
    """Return one row per user: `user`, `items` (item ids, oldest first) and `times` (seconds; empty without times)."""
    lengths = np.bincount(log.user, minlength=len(log.users))
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    ids = pl.Series(log.catalog.ids, dtype=pl.String)
    step = len(log.users) if len(log.users) <= USERS_IN_ONE_PIECE else USERS_PER_PIECE
    pieces = []
    for start in range(0, len(log.users), step):
        own = lengths[start : start + step]
        events = slice(bounds[start], bounds[start + len(own)])
        times = pl.Series([] if log.seconds is None else log.seconds[events], dtype=pl.Int64)
        timed = np.zeros_like(own) if log.seconds is None else own
        pieces.append(_frame(log.users[start : start + step], ids.gather(log.item[events]), own, times, timed))
    return pl.concat(pieces, rechunk=False)


def frame_of_histories(histories: Iterable[History]) -> pl.DataFrame:
    """Return the same of histories that are Python objects."""
    histories = tuple(histories)
    items = pl.Series(list(chain.from_iterable(history.items for history in histories)), dtype=pl.String)
    times = pl.Series(list(chain.from_iterable(history.times for history in histories)), dtype=pl.Int64)
    return _frame(
        [history.user for history in histories],
        items,
        np.array([len(history.items) for history in histories], dtype=np.int64),
        times,
        np.array([len(history.times) for history in histories], dtype=np.int64),
    )


def count_split(name: SplitName, log: CleanLog) -> SplitCounts:
    """Count what `make_split` would make of a log's histories.

    Raises:
        DataError: the split cannot be made of such a log, as `make_split` says it.
    """
    lengths = np.bincount(log.user, minlength=len(log.users))
    starts = np.cumsum(lengths) - lengths
    if name == "leave-one-out":
        train = np.where(lengths >= 3, lengths - 2, lengths)
        before = np.where(lengths >= 3, lengths - 2, -1)  # events before the validation case
        test = lengths >= 3
    else:
        if log.seconds is None:
            raise DataError("a global-time split needs a time for every event; give a time column or use leave-one-out")
        valid_from, test_from = global_moments(np.sort(log.seconds))
        train = np.bincount(log.user[log.seconds < valid_from], minlength=len(log.users))
        last = np.bincount(log.user[log.seconds < test_from], minlength=len(log.users)) - 1
        in_window = log.seconds[starts + np.maximum(last, 0)] >= valid_from
        before = np.where((last >= 1) & in_window, last, -1)
        test = (lengths >= 2) & (log.seconds[starts + lengths - 1] >= test_from)
    has_case = before >= 0
    target = np.where(has_case, log.item[np.where(has_case, starts + before, 0)], -1)
    place = np.arange(len(log.user)) - np.repeat(starts, lengths)
    earlier = (log.item == np.repeat(target, lengths)) & (place < np.repeat(before, lengths))
    return SplitCounts(
        train=int((train > 0).sum()),
        longest=int(train.max(initial=0)),
        valid=int(has_case.sum()),
        test=int(test.sum()),
        repeated=len(np.unique(log.user[earlier])),
    )


def users_with_few_left(log: CleanLog, few: int) -> int:
    """Return how many users have taken all of the catalogue but fewer than `few` items."""
    lengths = np.bincount(log.user, minlength=len(log.users))
    # Most histories are much shorter than the catalogue and need no counting.
    long = len(log.catalog) - lengths < few
    where = long[log.user]
    pairs = np.unique(log.user[where] * len(log.catalog) + log.item[where])
    distinct = np.bincount(pairs // len(log.catalog), minlength=len(log.users))
    return int((long & (len(log.catalog) - distinct < few)).sum())


def _frame(
    users: Sequence[str],
    items: pl.Series,
    item_lengths: NDArray[np.int64],
    times: pl.Series,
    time_lengths: NDArray[np.int64],
) -> pl.DataFrame:
    """Put flat columns together, the given number of their values in each row."""
    return pl.DataFrame(
        [
            pl.Series("user", users, dtype=pl.String),
            _lists("items", items, item_lengths),
            _lists("times", times, time_lengths),
        ]
    )


def _lists(name: str, values: pl.Series, lengths: NDArray[np.int64]) -> pl.Series:
    import pyarrow as pa

    bounds = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    lists = pa.LargeListArray.from_arrays(pa.array(bounds), values.to_arrow())
    return pl.Series(name, pl.from_arrow(lists), dtype=pl.List(values.dtype))
