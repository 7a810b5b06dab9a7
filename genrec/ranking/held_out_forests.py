"""Cross-fitted forests: the gain of trees beside a sum, on held-out cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.cases import FOLDS, Table
from genrec.ranking.forest import fit_forest, forest_scores
from genrec.ranking.proof import Gains, paired
from genrec.ranking.weights import fit_weights, relative
from genrec.signals.arrays import FloatArray

SHRUNK = (0.25, 0.5, 1.0)
"""Shares of a part's fitted weight that are tried. A part may help significantly at a quarter of its weight
but not at the whole weight, because the standard error shrinks faster than the gain."""


@dataclass(slots=True)
class Grown:
    """Cross-fitted forests beside cross-fitted sums.

    Attributes:
        table: the cases.
        sums: each row's sum.
        k: the length of the lists that are compared.
        forests: one for each fold, as text; fewer if fitting was given up.
        trees: each row's cross-fitted score by a forest.
        shares: the forest's weight relative to the sum, by fold, fitted on the other folds.
        share: the same, fitted on all cases; 0 if fitting was given up.
    """

    table: Table
    sums: NDArray[np.float32]
    k: int
    forests: list[str]
    trees: NDArray[np.float32]
    shares: NDArray[np.float32]
    share: float

    def scores(self, part: float) -> NDArray[np.float32]:
        """Return each row's score with this part of the forest's fitted weight."""
        scores: NDArray[np.float32] = (
            self.sums + np.float32(part) * self.shares[self.table.fold[self.table.case]] * self.trees
        )
        return scores

    def gains(self, part: float) -> Gains:
        """Return each case's gain with this part of the forest's fitted weight."""
        return self.table.gains(self.scores(part), self.k)


def grow(
    table: Table, features: FloatArray, among: NDArray[np.bool_], sums: NDArray[np.float32], k: int, seed: int
) -> Grown:
    """Fit a forest without each fold; stop after two folds if it gains nothing there, because fitting is slow."""
    grown = Grown(table, sums, k, [], np.zeros(len(table.case), np.float32), np.zeros(FOLDS, np.float32), 0.0)
    for fold in range(FOLDS):
        text = forest_on(table, features, among, np.flatnonzero(table.fold != fold), seed)
        inside = table.fold[table.case] == fold
        grown.forests.append(text)
        grown.trees[inside] = forest_scores(text, features[inside])
        if fold == 0:
            continue
        columns = np.stack((sums, grown.trees), axis=1)
        known = [np.flatnonzero((table.fold != one) & (table.fold <= fold)) for one in range(fold + 1)]
        if all(np.isin(table.found, cases).any() for cases in known):
            grown.shares[: fold + 1] = [relative(fit_weights(columns, table, cases)[0]) for cases in known]
        if fold == 1:
            here = table.fold <= 1
            without = table.gains(sums, k)[here]
            if max(paired(grown.gains(part)[here], without).gain for part in SHRUNK) <= 0:
                grown.shares[:] = 0.0
                return grown
    grown.share = relative(fit_weights(columns, table, np.arange(len(table.cases)))[0])
    return grown


def forest_on(table: Table, features: FloatArray, among: NDArray[np.bool_], cases: NDArray[np.int64], seed: int) -> str:
    """Fit a forest on some cases, each with its best candidates and its target."""
    kept = among.copy()
    kept[table.target[table.found]] = True
    ends = np.append(table.starts, len(table.case))
    rows, targets = [], []
    for case in np.intersect1d(table.found, cases).tolist():
        inside = kept[ends[case] : ends[case + 1]]
        rows.append(features[ends[case] : ends[case + 1]][inside])
        targets.append(int(inside[: table.target[case] - ends[case]].sum()))
    return fit_forest(rows, targets, seed)
