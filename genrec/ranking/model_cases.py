"""Cases on which the language model was asked, and its gain there beside all other parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.cases import FOLDS, FitCase, Table, asked_of
from genrec.ranking.forest import ENOUGH_CASES, forest_scores
from genrec.ranking.proof import Gains, paired
from genrec.ranking.weights import fit_weights, relative
from genrec.ranking.without_model import SignalsFit

SURE = 0.01
"""The standard error of the model's gain, as a share of the list's NDCG, below which no more cases are asked."""


@dataclass(slots=True)
class ModelTable:
    """Cases on which the language model was asked, and each way's gains on them."""

    fit: SignalsFit
    table: Table
    k: int
    evidence: NDArray[np.float32] = field(init=False)
    likelihoods: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.likelihoods = np.concatenate([asked_of(case.likelihoods) for case in self.table.cases])
        self.evidence = np.zeros(len(self.table.case), np.float32)
        for fold, own in enumerate(self.fit.folds):
            inside = self.table.fold[self.table.case] == fold
            features = self.table.features[inside]
            self.evidence[inside] = own.linear(self.table.values[inside])
            if own.forest_weight:
                self.evidence[inside] += np.float32(own.forest_weight) * forest_scores(own.forest, features)

    def weights(self) -> tuple[float, NDArray[np.float32]]:
        """Return the model's fitted weight beside the evidence, and each row's cross-fitted weight."""
        columns = np.stack((self.evidence, self.likelihoods), axis=1)
        everything = np.arange(len(self.table.cases))
        weight = relative(fit_weights(columns, self.table, everything)[0])
        own = np.full(FOLDS, weight, np.float32)
        for fold in range(FOLDS):
            others = np.flatnonzero(self.table.fold != fold)
            if np.isin(self.table.found, others).any():
                own[fold] = relative(fit_weights(columns, self.table, others)[0])
        return weight, own[self.table.fold[self.table.case]]

    def gains(self, scores: NDArray[np.floating]) -> Gains:
        """Return each case's gain among all candidates that were tried."""
        return self.table.gains(scores, self.k)


def settled(fit: SignalsFit, cases: Sequence[FitCase], k: int) -> bool:
    """Return whether asking the model on more cases would change little.

    That is so once the standard error of the model's gain is below a hundredth of the list's NDCG, or once the gain is
    more than three standard errors below 0.
    """
    if sum(case.target is not None for case in cases) < ENOUGH_CASES:
        return False
    asked = ModelTable(fit, Table(cases), k)
    without = asked.gains(asked.evidence)
    found = paired(asked.gains(asked.evidence + asked.weights()[1] * asked.likelihoods), without)
    return found.error < SURE * without.mean() or found.size < -3
