"""From a raw log to clean, ordered events: bad rows and duplicates removed, filters on request, a stated order.

The rules, in the order in which they are applied:

1. A row is an error if it lacks a user, an item or a time, if its item is not in the catalogue, or if its time or
   rating cannot be read. With `skip_bad_rows` it is left out and reported.
2. Ratings below `min_rating` are left out.
3. Rows with the same user, item and time are one event; the first stays. (Without times no row is an exact duplicate.)
4. Events are ordered by user, then by time, then by their place in the file. Equal times keep the file's order and
   are never ordered by item: an order by item id shows a model the next item, and inflates its figures.
5. A user's repeated events with an item are kept, or left out on request; they are counted in both cases.
6. The k-core: users and items with fewer than k events are left out, repeatedly, until all have k. Items outside
   the core leave the catalogue too.

All steps work on whole columns, so that tens of millions of rows take seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.codes import coded, compact, names_of, stable_order, where
from genrec.data.ids import meant
from genrec.data.raw import MISSING, RawData, refuse
from genrec.data.report import LINES_SHOWN, BadRows, Dropped
from genrec.data.splits import History
from genrec.data.times import EXPECTED, MISSING_TIMES, parse_times
from genrec.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Which rows of a log are left out.

    Attributes:
        min_rating: leave out ratings below it; None keeps all and reads no ratings.
        k_core: leave out users and items with fewer events than this, repeatedly; 0 or 1 leaves out none.
        keep_repeats: keep a user's later events with an item taken before.
        skip_bad_rows: leave out rows that cannot be used instead of refusing the file.
        day_first: whether 03/04/2024 is a day of April, if no date of the log decides it.
    """

    min_rating: float | None = None
    k_core: int = 0
    keep_repeats: bool = True
    skip_bad_rows: bool = False
    day_first: bool | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.min_rating is not None and not np.isfinite(self.min_rating):
            problems.append(f"min_rating is {self.min_rating}, expected a number")
        if self.k_core < 0:
            problems.append(f"k_core is {self.k_core}, expected 0 or more")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class CleanLog:
    """Ordered events and the catalogue they refer to.

    Attributes:
        catalog: the items, k-core applied.
        users: user ids; as numbers where all are whole numbers, else as text, in ascending order.
        user: int64 array, for each event the index of its user in `users`; ascending.
        item: int64 array, for each event its item's row in the catalogue.
        seconds: int64 array, for each event its time in whole Unix seconds; None if the source has no times.
        repeated: how many events have an item that their user had taken before, whether kept or not.
        dropped: rows left out, by reason.
        notes: guesses and decisions, in sentences.
        warnings: things to check in what was read.
    """

    catalog: Catalog
    users: tuple[str, ...]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    seconds: NDArray[np.int64] | None
    repeated: int
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def clean(raw: RawData, cleaning: Cleaning) -> CleanLog:
    """Apply the rules of this module to raw data.

    Raises:
        DataError: a row cannot be used and `skip_bad_rows` is not set, or nothing is left.
    """
    ids = [item.id for item in raw.items]
    if len(set(ids)) < len(ids):
        raise DataError(f"{raw.source} gives an item id more than once; give every item an id of its own")
    bad, left_out = BadRows(raw.log, raw.unit, raw.parts), BadRows(raw.log, raw.unit, raw.parts)
    notes = list(raw.notes)
    warnings = list(raw.warnings)
    events = _usable(raw, ids, cleaning, bad, notes, warnings)
    refuse((*raw.dropped, *bad.dropped()), cleaning.skip_bad_rows)
    if cleaning.min_rating is not None:
        keep = events["rating"] >= cleaning.min_rating
        _count(left_out, events, ~keep, f"rating below {cleaning.min_rating:g}")
        events = events.filter(keep)
    users, events = _ordered(events)
    events = _in_order(events, left_out)
    events, repeated = _without_repeats(events, cleaning.keep_repeats, left_out)
    user, item = _numbers(events["user"]), _numbers(events["item"])
    core = k_core(user, item, cleaning.k_core)
    _count(left_out, events, pl.Series(~core), f"outside the {cleaning.k_core}-core")
    dropped = (*raw.dropped, *bad.dropped(), *left_out.dropped())
    if not core.any():
        reasons = "; ".join(entry.to_text() for entry in dropped) or "it has no rows"
        raise DataError(f"no event of {raw.log} is left ({reasons}); check the columns, the catalogue and the filters")
    kept_users, user = compact(user[core], len(users))
    kept_items, item = np.arange(len(ids)), item[core]
    if cleaning.k_core > 1:
        kept_items, item = compact(item, len(ids))
        gone = f"{len(users) - len(kept_users):,} users and {len(ids) - len(kept_items):,} items"
        notes.append(f"the {cleaning.k_core}-core left out {gone}")
    return CleanLog(
        catalog=Catalog.from_items(raw.items[row] for row in kept_items),
        users=tuple(users.gather(kept_users).to_list()),
        user=user,
        item=item,
        seconds=np.floor(events["time"].to_numpy()[core]).astype(np.int64) if "time" in events.columns else None,
        repeated=repeated,
        dropped=dropped,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def k_core(user: NDArray[np.int64], item: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return which events remain when users and items with fewer than k events are removed until all have k."""
    keep = np.ones(len(user), dtype=bool)
    while k > 1 and len(user):
        by_user = np.bincount(user[keep], minlength=int(user.max()) + 1)
        by_item = np.bincount(item[keep], minlength=int(item.max()) + 1)
        fewer = keep & (by_user[user] >= k) & (by_item[item] >= k)
        if fewer.sum() == keep.sum():
            break
        keep = fewer
    return keep


def make_histories(log: CleanLog) -> tuple[History, ...]:
    """Return one history per user; item ids are shared with the catalogue, so that a large log stays small."""
    ids = np.array(log.catalog.ids, dtype=object)[log.item].tolist()
    times = [] if log.seconds is None else log.seconds.tolist()
    bounds = np.searchsorted(log.user, np.arange(len(log.users) + 1)).tolist()
    return tuple(
        History(user, tuple(ids[start:end]), tuple(times[start:end]))
        for user, start, end in zip(log.users, bounds, bounds[1:], strict=False)
    )


def _usable(
    raw: RawData, ids: list[str], cleaning: Cleaning, bad: BadRows, notes: list[str], warnings: list[str]
) -> pl.DataFrame:
    """Return the events that can be used, the item as its row in the catalogue and the time as Float64 seconds.

    A row with several faults is counted under the first of them.
    """
    events = coded(raw.events)
    if "time" in events.columns:
        times = parse_times(events["time"], events["line"], cleaning.day_first)
        notes.append(times.note)
        warnings += (f"{raw.log}: {warning}" for warning in times.warnings)
        missing = _missing(events["time"], MISSING_TIMES)
        unreadable = ~missing & times.seconds.is_null()
        reason = f"not a time; {times.refusal}" if times.refusal else f"not a time; expected {EXPECTED}"
        checks = [("no time", missing), (reason, unreadable)]
    else:
        times, checks = None, []
        notes.append("there are no times; the file's order is taken as the order of events")
    own = names_of(events["item"]).cast(pl.Enum(ids), strict=False).to_physical().cast(pl.Int32)
    rows = own.gather(events["item"].to_physical())
    checks = [
        ("no user", _missing(events["user"])),
        ("no item", _missing(events["item"])),
        ("an item that is not in the catalogue", ~_missing(events["item"]) & rows.is_null()),
        *checks,
    ]
    columns = [events["line"], events["user"], rows.alias("item")]
    if times is not None:
        columns.append(times.seconds.alias("time"))
    if cleaning.min_rating is not None:
        if "rating" not in events.columns:
            raise DataError(f"{raw.source} has no ratings, which a least rating needs; leave out --min-rating")
        ratings = events["rating"].cast(pl.String).str.replace(r"^(\d+),(\d)$", "$1.$2").cast(pl.Float64, strict=False)
        checks.append(("no rating, or none that is a number", ~(ratings.is_not_null() & ratings.is_finite())))
        columns.append(ratings.alias("rating"))
    usable = pl.Series([True]).new_from_index(0, events.height)
    for reason, fault in checks:
        wrong = (fault & usable).fill_null(value=True)
        _count(bad, events, wrong, reason, _example(events, reason, wrong, ids))
        usable &= ~wrong
    return pl.DataFrame(columns).filter(usable)


def _missing(column: pl.Series, marks: Collection[str] = MISSING) -> pl.Series:
    if isinstance(column.dtype, pl.Enum):
        return where(column, names_of(column).is_in(sorted(marks))).fill_null(value=True)
    if column.dtype != pl.String:
        return column.is_null()
    return column.is_null() | column.is_in(sorted(marks))


def _count(bad: BadRows, events: pl.DataFrame, which: pl.Series, reason: str, example: str = "") -> None:
    lines = events["line"].filter(which)
    bad.add_many(lines.bottom_k(LINES_SHOWN).sort().to_list(), lines.len(), reason, example)


def _example(events: pl.DataFrame, reason: str, faulty: pl.Series, ids: Sequence[str]) -> str:
    """Return the faulty value of the first such row, if that helps; a user's id is never shown."""
    column = "item" if "catalogue" in reason else "time" if "not a time" in reason else None
    found = _as_written(events[column].filter(faulty).head(1)).to_list() if column else []
    if not found:
        return ""
    other = meant(found[0], ids) if column == "item" else None
    return f"{column} {found[0]!r}" + (f"; the catalogue has {other!r}" if other is not None else "")


def _as_written(cells: pl.Series) -> pl.Series:
    return cells.cast(pl.String) if cells.dtype.is_integer() else cells


def _ordered(events: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Return the user ids in ascending order and the events with each user's place among them.

    Ids are ordered as numbers where all are whole numbers, else as text.
    """
    names = names_of(events["user"])
    there, codes = compact(_numbers(events["user"].to_physical()), len(names))
    users = names.gather(there)
    numbers = users.str.contains(r"^(0|[1-9]\d{0,17})$").all()
    order = (users.cast(pl.Int64) if numbers else users).arg_sort().to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return users.gather(order), events.with_columns(pl.Series("user", place[codes]))


def _in_order(events: pl.DataFrame, left_out: BadRows) -> pl.DataFrame:
    """Order events by user, time and line, and leave out exact duplicates."""
    if not events["line"].is_sorted():
        events = events.sort("line")
    if "time" not in events.columns:
        return _taken(events, stable_order(_numbers(events["user"])))
    by_time = stable_order(_sortable(events["time"]))
    events = _taken(events, by_time[stable_order(_numbers(events["user"])[by_time])])
    user, time = events["user"].to_numpy(), events["time"].to_numpy()
    tied = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    if not tied.any():
        return events
    beside = np.concatenate((tied, [False])) | np.concatenate(([False], tied))
    again = np.zeros(len(user), dtype=bool)
    first = events.filter(beside).select(pl.struct("user", "item", "time").is_first_distinct()).to_series()
    again[beside] = ~first.to_numpy()
    _count(left_out, events, pl.Series(again), "an exact duplicate of an earlier row")
    return events.filter(~again)


def _without_repeats(events: pl.DataFrame, keep: bool, left_out: BadRows) -> tuple[pl.DataFrame, int]:
    """Count the events whose user had taken the item before, and leave them out unless they are to be kept."""
    pairs = events["user"].cast(pl.Int64) * 2**31 + events["item"].cast(pl.Int64)
    ordered = np.sort(pairs.to_numpy())
    repeated = int((ordered[1:] == ordered[:-1]).sum())
    if keep or not repeated:
        return events, repeated
    first = pairs.is_first_distinct()
    _count(left_out, events, ~first, "an item that its user had taken before")
    return events.filter(first), repeated


def _numbers(column: pl.Series) -> NDArray[np.int64]:
    return column.cast(pl.Int64).to_numpy()


def _sortable(times: pl.Series) -> NDArray[np.int64]:
    """Return whole numbers in the order of the times."""
    seconds = times.to_numpy()
    whole = seconds.astype(np.int64)
    if (whole == seconds).all():
        return whole
    # The bits of positive floats are in their order; those of negative ones in the opposite order. 0.0 is for -0.0.
    bits = (seconds + 0.0).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _taken(events: pl.DataFrame, order: NDArray[np.int64]) -> pl.DataFrame:
    return events.select(pl.all().gather(pl.lit(pl.Series(order))))
