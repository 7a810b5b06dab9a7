"""Several histories with the catalogue rows of their items, looked up once for all uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray
from genrec.data.splits import History


@dataclass(frozen=True, slots=True, eq=False)
class HistoryBatch(Sequence[History]):
    """Histories and the catalogue rows of their items; code that needs no rows can use it as a sequence of `History`.

    Attributes:
        catalog: gives items their rows.
        histories: one per user.
        rows: int64 [events]; the item rows of all histories, one history after the other, oldest first.
        ends: int64 [histories + 1]; history i has the rows from ends[i] up to ends[i + 1].
    """

    catalog: Catalog
    histories: tuple[History, ...]
    rows: IntArray
    ends: IntArray

    @classmethod
    def of(cls, catalog: Catalog, histories: Sequence[History]) -> HistoryBatch:
        """Look up the rows, unless they are known already.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
        """
        if isinstance(histories, HistoryBatch) and histories.catalog is catalog:
            return histories
        histories = tuple(histories)
        rows = np.array(catalog.rows(item for history in histories for item in history.items), np.int64)
        return cls(catalog, histories, rows, np.cumsum([0, *(len(history.items) for history in histories)]))

    def rows_of(self, place: int) -> IntArray:
        """Return one history's item rows, oldest first."""
        return self.rows[self.ends[place] : self.ends[place + 1]]

    @property
    def lengths(self) -> IntArray:
        """The number of items of each history, int64 [histories]."""
        return np.diff(self.ends)

    def take(self, places: Sequence[int]) -> HistoryBatch:
        """Return some of the histories, in the order given."""
        rows = [np.zeros(0, np.int64), *(self.rows_of(place) for place in places)]
        ends = np.cumsum([0, *(self.lengths[place] for place in places)])
        return HistoryBatch(self.catalog, tuple(self.histories[place] for place in places), np.concatenate(rows), ends)

    def __len__(self) -> int:
        return len(self.histories)

    def __iter__(self) -> Iterator[History]:
        return iter(self.histories)

    @overload
    def __getitem__(self, place: int) -> History: ...
    @overload
    def __getitem__(self, place: slice) -> HistoryBatch: ...
    def __getitem__(self, place: int | slice) -> History | HistoryBatch:
        if isinstance(place, slice):
            return self.take(range(len(self))[place])
        return self.histories[place]
