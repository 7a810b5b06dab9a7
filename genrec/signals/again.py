"""The signal `again`: seen items that a user may take again, as in shops where people buy the same things repeatedly.

The score of a history's item is the probability that an item taken so often, and so long ago, is the next one taken.
These probabilities are counted on the training histories. Every other item gets 0. The signal is fitted only if seen
items may be recommended (see `PreparedData.keep_seen`); otherwise it would score only excluded items.

Source: the idea of Benson, Kumar and Tomkins, "Modeling user consumption sequences", WWW 2016 (recency and frequency
decide what is taken again), here as a table of two-way counts.

At each moment an item counts once, however often it was taken before: the item may come back, not each of its events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.history_batch import HistoryBatch
from genrec.data.rows import IntArray
from genrec.data.splits import History
from genrec.signals.arrays import Arrays, FloatArray

TIMES, AGES = 5, 11
"""Classes of how often (1, 2 to 3, 4 to 7, ...) and how long ago, in events (1, 2 to 3, ..., from 1,024 on)."""

TARGETS = 50
"""How many of a history's newest events are counted as repeats or not; bounds the time of `Again.fit`."""

USERS = 20_000
"""The most histories that are counted: enough for the table of fifty-five probabilities."""

PRIOR = 20.0
"""The weight of the prior: each class starts with this many moments at the mean probability of all classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """Scores the items of the user's own history by their probability of being taken again next.

    Attributes:
        catalog: gives items their rows.
        chances: the probabilities by how often and how long ago, of shape (TIMES, AGES).
    """

    name: ClassVar[str] = "again"
    catalog: Catalog
    chances: FloatArray

    @classmethod
    def fit(cls, catalog: Catalog, histories: Sequence[History]) -> Self:
        """Count how often an item of each class was the next one.

        Args:
            catalog: the items.
            histories: training histories, oldest item first.
        """
        exposed, taken = np.zeros(TIMES * AGES), np.zeros(TIMES * AGES)
        step = max(1, len(histories) // USERS)
        batch = HistoryBatch.of(catalog, histories[::step])
        for user in range(len(batch)):
            rows = np.unique(batch.rows_of(user), return_inverse=True)[1]
            first = max(1, len(rows) - TARGETS)
            times = np.bincount(rows[:first], minlength=int(rows.max(initial=0)) + 1)
            last = np.full(len(times), -1, np.int64)
            last[rows[:first]] = np.arange(first)  # for an item that occurs twice, numpy keeps the later position
            for place in range(first, len(rows)):
                seen = np.flatnonzero(times)
                exposed += np.bincount(_class_of(times[seen], place - last[seen]), minlength=TIMES * AGES)
                target = rows[place]
                if times[target]:
                    taken[_class_of(times[[target]], place - last[[target]])] += 1
                times[target] += 1
                last[target] = place
        overall = taken.sum() / max(exposed.sum(), 1.0)
        chances = (taken + PRIOR * overall) / (exposed + PRIOR)
        return cls(catalog, chances.reshape(TIMES, AGES).astype(np.float32))

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the probability of each item of the history, and 0 for all others."""
        batch = HistoryBatch.of(self.catalog, histories)
        scores = np.zeros((len(batch), len(self.catalog)), np.float32)
        for user in range(len(batch)):
            rows = batch.rows_of(user)
            if not len(rows):
                continue
            seen, newest, times = np.unique(rows[::-1], return_index=True, return_counts=True)
            scores[user, seen] = self.chances.ravel()[_class_of(times, newest + 1)]
        return scores

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {"chances": self.chances}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        return cls(catalog, arrays["chances"].astype(np.float32))


def _class_of(times: IntArray, ages: IntArray) -> IntArray:
    """Return the class of items by how often they were taken and how many events ago (from 1) they were last taken."""
    often = np.minimum(np.log2(times).astype(np.int64), TIMES - 1)
    long_ago = np.minimum(np.log2(ages).astype(np.int64), AGES - 1)
    return often * AGES + long_ago
