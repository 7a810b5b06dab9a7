"""The ranking without the language model: the sum, a forest, or one signal by itself.

Source: Wolpert, "Stacked generalization", Neural Networks 5(2), 1992; Breiman, "Stacked regressions", Machine Learning
24, 1996 (weights of parts fitted on cross-fitted predictions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.cases import FOLDS, Table, of_folds
from genrec.ranking.choice import FOREST, SIGNALS, overtaken, surest
from genrec.ranking.forest import ENOUGH_CASES
from genrec.ranking.fusion import Fusion, log_levels
from genrec.ranking.held_out_forests import forest_on, grow
from genrec.ranking.proof import Gains, paired, told
from genrec.ranking.weights import fit_sum, single

TRIED_TOGETHER = 100
"""The most candidates from all signals together, while the best number is sought."""


@dataclass(slots=True)
class SignalsFit:
    """The fit without the language model.

    Attributes:
        fusion: the fusion fitted on all cases.
        folds: for each fold, the fusion fitted without its cases.
        gains: each way's gains on cases that it was not fitted on, by name.
        used: the name of the way that was chosen.
        words: the reasons in sentences.
    """

    fusion: Fusion
    folds: tuple[Fusion, ...]
    gains: dict[str, Gains]
    used: str
    words: list[str]


def fit_signals_fusion(signals: Sequence[str], table: Table, k: int, seed: int) -> SignalsFit:
    """Fit the sum, and a forest if there are enough cases; choose between these and each signal by itself.

    Args:
        signals: their names.
        table: validation cases.
        k: the length of the lists that are compared.
        seed: the seed of the forest.

    Raises:
        DataError: no case's target is among its candidates.
    """
    everything = np.arange(len(table.cases))
    whole = fit_sum(signals, table, everything)
    folds = tuple(_or_whole(signals, table, np.flatnonzero(table.fold != fold), whole) for fold in range(FOLDS))
    sums = of_folds(table, [log_levels(table.values, own.scales) @ np.array(own.weights, np.float32) for own in folds])
    gains = {SIGNALS: table.gains(sums, k)}
    words, used = [], SIGNALS
    if len(table.found) >= ENOUGH_CASES:
        first = table.places(whole.linear(table.values)) < TRIED_TOGETHER
        grown = grow(table, table.features, first, sums, k, seed)
        tried = {name: grown.gains(part) for part, name in FOREST.items()}
        part, found = surest(tried, FOREST, gains[SIGNALS])
        if grown.share > 0 and found.proves:
            used = FOREST[part]
            text = forest_on(table, table.features, first, everything, seed)
            whole = replace(whole, forest_weight=round(part * grown.share, 6), forest=text)
            folds = tuple(
                replace(own, forest_weight=part * one, forest=text)
                for own, one, text in zip(folds, grown.shares.tolist(), grown.forests, strict=True)
            )
            words.append(f"A forest of small trees is added to the sum: it earns {told(found)} of NDCG@{k}.")
        else:
            words.append(f"A forest of small trees was tried and is left out: {told(found)} of NDCG@{k} is no proof.")
        gains |= tried
    alone = {name: table.gains(table.values[:, number], k) for number, name in enumerate(signals)}
    best = overtaken(alone, gains[used])
    if best is not None:
        found = paired(gains[used], alone[best])
        words.append(f"{best.capitalize()} alone ranks better than {used} ({told(found)}), so it is served by itself.")
        number = list(signals).index(best)
        whole, folds, used = single(whole, number), tuple(single(own, number) for own in folds), best
    gains |= alone
    return SignalsFit(whole, folds, gains, used, words)


def _or_whole(signals: Sequence[str], table: Table, cases: NDArray[np.int64], whole: Fusion) -> Fusion:
    """Fit on some cases, or on all cases if none of these has its target among the candidates."""
    return fit_sum(signals, table, cases) if np.isin(table.found, cases).any() else whole
