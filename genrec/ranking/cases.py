"""Validation cases with their candidates: the data of every fit and comparison in `genrec.ranking`.

Cases are divided into `FOLDS` folds. A case is scored only by a fit that did not use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.forest import forest_features
from genrec.ranking.proof import Gains
from genrec.signals.arrays import FloatArray

FOLDS = 5


@dataclass(frozen=True, slots=True)
class FitCase:
    """A validation case with its candidates.

    Attributes:
        values: the signals' values for its candidates, shape (candidates, signals).
        shares: the values as shares of the signal's values for the whole catalogue.
        length: the number of items in its history.
        target: the number of the candidate that was taken; None if the target is no candidate, and the case is a miss.
        fold: the fold of the case; its list is fitted on the other folds.
        likelihoods: the model's log-likelihoods, shape (candidates,); None if it was not asked.
        found: whether the model found the candidate by itself, bool [candidates].
    """

    values: FloatArray
    shares: FloatArray
    length: int
    target: int | None
    fold: int
    likelihoods: NDArray[np.float32] | None = None
    found: NDArray[np.bool_] | None = None


@dataclass(slots=True)
class Table:
    """Cases with their candidates in one array, so that all are scored at once."""

    cases: Sequence[FitCase]
    starts: NDArray[np.int64] = field(init=False)
    case: NDArray[np.int64] = field(init=False)
    fold: NDArray[np.int64] = field(init=False)
    target: NDArray[np.int64] = field(init=False)
    values: FloatArray = field(init=False)
    features: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        sizes = np.array([len(case.values) for case in self.cases])
        self.starts = np.cumsum(sizes) - sizes
        self.case = np.repeat(np.arange(len(sizes)), sizes)
        self.fold = np.array([case.fold for case in self.cases])
        # -1 marks a case without a target; every comparison masks it.
        self.target = np.array(
            [
                -1 if case.target is None else start + case.target
                for case, start in zip(self.cases, self.starts, strict=True)
            ]
        )
        self.values = np.concatenate([case.values for case in self.cases])
        self.features = np.concatenate([forest_features(case.shares, case.length) for case in self.cases])

    @property
    def found(self) -> NDArray[np.int64]:
        """The cases whose target is among the candidates."""
        return np.flatnonzero(self.target >= 0)

    def gains(self, scores: NDArray[np.floating], k: int, among: NDArray[np.bool_] | None = None) -> Gains:
        """Return each case's NDCG@k; a tie ranks the target last, and a miss is 0.

        Args:
            scores: shape (rows,).
            k: the length of the list.
            among: which rows are candidates; all by default.
        """
        asked = self.target >= 0
        if among is not None:
            asked &= among[self.target]
        own = np.where(asked, scores[self.target], np.inf)
        above = scores >= own[self.case]
        if among is not None:
            above &= among
        ranks = np.maximum(np.add.reduceat(above.astype(np.int64), self.starts), 1)
        return np.where(asked & (ranks <= k), 1 / np.log2(ranks + 1), 0.0)

    def places(self, scores: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return each row's place among its case's candidates, from 0, best first."""
        order = np.lexsort((-scores, self.case))
        places = np.empty(len(scores), np.int64)
        places[order] = np.arange(len(scores)) - self.starts[self.case[order]]
        return places


def of_folds(table: Table, scores: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return each row's cross-fitted score: by the fit that did not use its case."""
    chosen: NDArray[np.float32] = np.stack(scores)[table.fold[table.case], np.arange(len(table.case))].astype(
        np.float32
    )
    return chosen


def asked_of(value: NDArray[np.generic] | None) -> NDArray[np.generic]:
    """Return a value that exists only if the language model was asked on the case."""
    assert value is not None  # noqa: S101 - for the type checker
    return value
