"""What a user took before and may take again: the signal of shops where people buy the same things once more.

An item of the history is scored by the chance that an item taken so often, and so long ago, is the very next one taken;
the chances are counted on the training histories. Every other item gets 0. It is fitted only where seen items may come
back (see `PreparedData.keep_seen`): elsewhere it would score nothing but items that are left out.

Source: the idea of Benson, Kumar and Tomkins, "Modeling user consumption sequences", WWW 2016 (recency and frequency
decide what is taken again), here as a table of two-way counts.

At each moment an item counts once, however often it was taken before: what may come back is the item, not its events.
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
"""The newest events of a history whose item is looked for among those before it; bounds the time of `Again.fit`."""

USERS = 20_000
"""Most histories that are counted: enough for fifty-five chances."""

PRIOR = 20.0
"""Moments for which a class is taken to behave as all classes together do, before its own are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """Scores the items of the user's own history by their chance of being taken again next.

    Attributes:
        catalog: gives items their rows.
        chances: by how often and how long ago, of shape (TIMES, AGES).
    """

    name: ClassVar[str] = "again"
    catalog: Catalog
    chances: FloatArray

    @classmethod
    def fit(cls, catalog: Catalog, histories: Sequence[History]) -> Self:
        """Count how often an item of each class was the next one.

        Args:
            catalog: the items.
            histories: what was taken, oldest first.
        """
        exposed, taken = np.zeros(TIMES * AGES), np.zeros(TIMES * AGES)
        step = max(1, len(histories) // USERS)
        batch = HistoryBatch.of(catalog, histories[::step])
        for user in range(len(batch)):
            rows = np.unique(batch.rows_of(user), return_inverse=True)[1]
            first = max(1, len(rows) - TARGETS)
            times = np.bincount(rows[:first], minlength=int(rows.max(initial=0)) + 1)
            last = np.full(len(times), -1, np.int64)
            last[rows[:first]] = np.arange(first)  # of an item given twice, numpy keeps the later place
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
        """Return the chance of each item of the history, and 0 for all others."""
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
        """Return what `from_arrays` needs."""
        return {"chances": self.chances}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from what `to_arrays` returned, for the same catalogue or one with items appended."""
        return cls(catalog, arrays["chances"].astype(np.float32))


def _class_of(times: IntArray, ages: IntArray) -> IntArray:
    """Return the class of items by how often they were taken, and how many events ago the last time was, from 1."""
    often = np.minimum(np.log2(times).astype(np.int64), TIMES - 1)
    long_ago = np.minimum(np.log2(ages).astype(np.int64), AGES - 1)
    return often * AGES + long_ago
