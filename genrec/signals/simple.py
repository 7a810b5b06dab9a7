"""Signals: each scores every item of the catalogue for a history, from one kind of evidence.

To add a signal, write a class with a `name` and a `score`. The signals here are only counted, which takes seconds, and
are saved as plain arrays: `to_arrays` and `from_arrays` are inverses.

For all of them: scores are float32 of shape (histories, items) in catalogue order, and higher is better. A history's
scores do not depend on the other histories of the call. An empty history is no error. An item that is in no training
history, such as one added to the catalogue later, gets 0 from every signal that learns from histories.

Easy to get wrong: a history's most recent item is its last one and has age 0. With reversed weights, a signal still
seems to work but loses a third of its hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray, top_rows
from genrec.data.splits import History
from genrec.errors import DataError
from genrec.signals.arrays import (
    Arrays,
    FloatArray,
    check_decay,
    events,
    history_matrix,
    item_counts,
    padded,
    similarities,
)
from genrec.signals.neighbours import CoOccurrence, ItemKNN

__all__ = ["CoOccurrence", "Content", "ItemKNN", "Popularity", "RecentPopularity", "Signal", "top_items"]

SECONDS_PER_DAY = 86_400


class Signal(Protocol):
    """One kind of evidence; a user adds one by writing a class with these two members."""

    name: ClassVar[str]

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return a score for each history and each item, in catalogue order; higher is better.

        Returns:
            float32 array of shape (len(histories), len(catalog)).
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Popularity:
    """How often training users took the item, as log(1 + count); the same for every history.

    Attributes:
        scores: shape (items,).
    """

    name: ClassVar[str] = "popularity"
    scores: FloatArray

    @classmethod
    def fit(cls, catalog: Catalog, histories: Sequence[History]) -> Self:
        """Count how often each item was taken."""
        return cls(np.log1p(item_counts(catalog, histories)).astype(np.float32))

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the same scores for every history."""
        return np.tile(self.scores, (len(histories), 1))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {"scores": self.scores}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        return cls(padded(arrays["scores"], len(catalog)).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class RecentPopularity:
    """How often the item was taken lately, as log(1 + weighted count).

    If events have times, only events before the day of the history's last event count, so nothing is learnt from a
    user's future; an event h days before weighs 0.5^(h / half-life). If only an order is known, or a history has no
    times, users cannot be compared in time, and an event counts 0.5^(age / `half_life_events`), where its age is the
    number of events that its user had after it.

    Source: Ji et al., "A re-visit of the popularity baseline in recommender systems", SIGIR 2020 (DecayPop, the
    popularity at the time of the question), with a smooth decay in place of their monthly steps.

    Attributes:
        rows: the item of each training event that has a time, of shape (events,), ordered by day.
        days: its day, of shape (events,), ascending.
        by_order: scores used if no time is known, of shape (items,).
        half_life_days: see above.
    """

    name: ClassVar[str] = "recent-popularity"
    rows: IntArray
    days: IntArray
    by_order: FloatArray
    half_life_days: float

    @classmethod
    def fit(
        cls,
        catalog: Catalog,
        histories: Sequence[History],
        half_life_days: float = 30.0,
        half_life_events: float = 3.0,
    ) -> Self:
        """Record when each item was taken.

        Raises:
            DataError: a half-life is not positive.
        """
        if half_life_days <= 0 or half_life_events <= 0:
            raise DataError(f"half-lives must be positive; given {half_life_days} days and {half_life_events} events")
        weights = history_matrix(catalog, histories, decay=0.5 ** (1 / half_life_events)).sum(axis=0)
        timed = [history for history in histories if history.times]
        _, rows = events(catalog, timed)
        days = np.array([time for history in timed for time in history.times], dtype=np.int64) // SECONDS_PER_DAY
        order = np.argsort(days, kind="stable")
        return cls(rows[order], days[order], np.log1p(weights).astype(np.float32), half_life_days)

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the scores as of the day of each history's last event."""
        scores = np.tile(self.by_order, (len(histories), 1))
        if not len(self.days):
            return scores
        asked: dict[int, list[int]] = {}
        for row, history in enumerate(histories):
            if history.times:
                asked.setdefault(history.times[-1] // SECONDS_PER_DAY, []).append(row)
                scores[row] = 0.0
        weights = np.zeros(len(self.by_order))
        steps, starts = np.unique(self.days, return_index=True)
        ends = [*starts[1:], len(self.days)]
        # All days with events are processed, so that rounding does not depend on the other histories of the call.
        for step, day in enumerate(steps):
            weights *= self._fade(day - steps[max(step - 1, 0)])
            np.add.at(weights, self.rows[starts[step] : ends[step]], 1.0)
            until = steps[step + 1] if step + 1 < len(steps) else np.inf
            for moment in [moment for moment in asked if day < moment <= until]:
                scores[asked[moment]] = np.log1p(weights * self._fade(moment - day))
        return scores

    def _fade(self, days: int) -> float:
        return float(0.5 ** (days / self.half_life_days))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {
            "rows": self.rows,
            "days": self.days,
            "by_order": self.by_order,
            "half_life_days": np.array([self.half_life_days]),
        }

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        by_order = padded(arrays["by_order"], len(catalog)).astype(np.float32)
        rows, days = arrays["rows"].astype(np.int64), arrays["days"].astype(np.int64)
        return cls(rows, days, by_order, float(arrays["half_life_days"][0]))


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Cosine similarity between the item's vector and the history's, the recency-weighted mean of its items' vectors.

    Attributes:
        catalog: gives items their rows.
        embeddings: float32, shape (items, dimensions), each row of length 1 (or of zeros: similar to nothing).
        decay: weight of a history item relative to the next one, in [0, 1]; with 0 only the last item counts.
    """

    name: ClassVar[str] = "content"
    catalog: Catalog
    embeddings: FloatArray
    decay: float = 0.8

    def __post_init__(self) -> None:
        check_decay(self.decay)
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.catalog):
            raise DataError(
                f"embeddings have shape {self.embeddings.shape} for {len(self.catalog)} items; give one row for each"
            )

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return cosines in [-1, 1]; an empty history gets zeros."""
        profiles = history_matrix(self.catalog, histories, self.decay) @ self.embeddings.astype(np.float64)
        profiles /= np.maximum(np.linalg.norm(profiles, axis=1, keepdims=True), 1e-12)
        return similarities(profiles.astype(np.float32), self.embeddings)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {"embeddings": self.embeddings, "decay": np.array([self.decay])}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`; items appended since are similar to nothing until embedded."""
        return cls(catalog, padded(arrays["embeddings"], len(catalog)).astype(np.float32), float(arrays["decay"][0]))


def top_items(
    scores: NDArray[np.floating], k: int, exclude_rows: Sequence[Sequence[int] | IntArray], tie_break: IntArray
) -> IntArray:
    """Return the rows of each history's K best items, best first, without the excluded ones.

    Equal scores are ordered by one shuffle of the catalogue. It is the same for all users and systems and does not
    know the targets, so it favours none.

    Args:
        scores: shape (histories, items); not modified.
        k: the number of items to return.
        exclude_rows: for each history, the rows that must not be returned.
        tie_break: the order from `metrics.tie_order`, of shape (items,).

    Returns:
        int64 array of shape (histories, k), distinct within a history; `metrics.NO_ITEM` where fewer are left.
    """
    allowed = np.array(scores)
    for row, excluded in enumerate(exclude_rows):
        allowed[row, excluded] = -np.inf
    return top_rows(allowed, k, tie_break)
