"""Fitting of the ranking: weights by likelihood, the choice of parts by their gain on held-out cases.

Every case is ranked by a fit that did not use it. Cases are divided into `FOLDS` folds. For each fold, the sum, the
forest, and the weights of both and of the language model are fitted on the other folds and evaluated on this one.
Weights maximise the likelihood of the targets (conditional logit). The likelihood is smooth in the weights, so no grid
is needed, and with few cases it varies far less than the best of several figures. NDCG@k, misses included, decides
which parts are used, under the rules of `genrec.ranking.proof`.

Sources: Wolpert, "Stacked generalization", Neural Networks 5(2), 1992; Breiman, "Stacked regressions", Machine Learning
24, 1996 (weights of parts fitted on cross-fitted predictions).

The candidates of a case, too, are chosen by a fit that did not use it. Otherwise the forest would place the target
among the candidates, and the next step would see a target that it does not see in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.candidate_numbers import fewest, recalls_of
from genrec.ranking.cases import FitCase, Table, of_folds
from genrec.ranking.choice import MODEL, MODEL_FOREST, WITH_MODEL, choose, gate_of, surest
from genrec.ranking.forest import ENOUGH_CASES, model_features
from genrec.ranking.fusion import Fusion
from genrec.ranking.held_out_forests import forest_on, grow
from genrec.ranking.model_cases import ModelTable
from genrec.ranking.proof import paired, proof_of, told
from genrec.ranking.weights import single
from genrec.ranking.without_model import TRIED_TOGETHER, SignalsFit


def fit_model(fit: SignalsFit, cases: Sequence[FitCase], seed: int, k: int, exclude_seen: bool) -> Fusion:
    """Choose the language model's weight, and apply the last gate.

    Args:
        fit: the result of `fit_signals_fusion`.
        cases: the cases on which the model was asked, with candidates chosen by the fit of the other folds; empty if
            it was asked on none.
        seed: the seed of the forest.
        k: the length of the lists that are compared.
        exclude_seen: whether the candidates exclude the items of the history.
    """
    words, served = list(fit.words), fit.used
    if not any(case.target is not None for case in cases):
        words.append(
            "The language model was not asked on a case whose item is among the candidates, so it does not count."
        )
        fusion = replace(fit.fusion, k=k, exclude_seen=exclude_seen)
        return replace(fusion, proof=proof_of(served, fit.gains, served, k, {}, words))
    asked = ModelTable(fit, Table(cases), k)
    table = asked.table
    weight, weights = asked.weights()
    scores = {fit.used: asked.evidence, MODEL: asked.likelihoods}
    fusions = {fit.used: fit.fusion, MODEL: replace(fit.fusion, model=1.0, others_weight=0.0)}
    weighed = WITH_MODEL if round(min(WITH_MODEL) * weight, 6) > 0 else {}
    for share, name in weighed.items():
        scores[name] = asked.evidence + np.float32(share) * weights * asked.likelihoods
        fusions[name] = replace(fit.fusion, model=round(share * weight, 6))
    if len(table.found) >= ENOUGH_CASES:
        by_trees, grown = _with_forest(asked, seed)
        if grown.model_forest_weight:
            scores[MODEL_FOREST], fusions[MODEL_FOREST] = by_trees, grown
    gains = {name: asked.gains(own) for name, own in scores.items()}
    for number, name in enumerate(fit.fusion.signals):
        gains.setdefault(name, asked.gains(table.values[:, number]))
        fusions.setdefault(name, single(fit.fusion, number))
        scores.setdefault(name, table.values[:, number])
    chosen = choose(gains, fit.used)
    gate = gate_of(gains, fit.used)
    if chosen == fit.used and not weighed:
        words.append(f"The language model does not count: on {len(cases)} cases its likeliest weight is 0.")
    elif chosen == fit.used:
        _, found = surest(gains, weighed, gains[chosen])
        words.append(
            f"The language model does not count: it earns {told(found)} of NDCG@{k} on {len(cases)} cases, "
            "which is no proof."
        )
    else:
        found = paired(gains[chosen], gains[fit.used])
        words.append(f"{chosen.capitalize()}: that earns {told(found)} of NDCG@{k} on {len(cases)} cases.")
    if gate is not None and gate != chosen:
        found = paired(gains[chosen], gains[gate])
        words.append(
            f"The last gate: on cases that had no part in the choice, {chosen} was worse than {gate}, which is served "
            f"instead ({told(found)})."
        )
        chosen = gate
    fusion = replace(fusions[chosen], model_cases=len(cases), k=k, exclude_seen=exclude_seen)
    together, each = fewest(asked, scores[chosen])
    recalls = recalls_of(asked, together, each)
    fusion = replace(fusion, together=together, each=each)
    name = chosen if chosen in (fit.used, MODEL) or chosen in fit.fusion.signals else f"{fit.used}, {chosen}"
    return replace(fusion, proof=proof_of(name, gains, chosen, k, recalls, words))


def _with_forest(asked: ModelTable, seed: int) -> tuple[NDArray[np.float32], Fusion]:
    """Return each row's cross-fitted score by the sum and the forest, and the fusion with both."""
    table, fit = asked.table, asked.fit
    ends = np.append(table.starts, len(table.case))
    features = np.concatenate(
        [
            model_features(case.shares, case.length, asked.likelihoods[ends[place] : ends[place + 1]])
            for place, case in enumerate(table.cases)
        ]
    )
    sums = of_folds(table, [own.linear(table.values) for own in fit.folds])
    best = table.places(asked.evidence) < TRIED_TOGETHER
    grown = grow(table, features, best, sums, asked.k, seed)
    fusion = fit.fusion
    if grown.share > 0:
        text = forest_on(table, features, best, np.arange(len(table.cases)), seed)
        fusion = replace(fusion, model=0.0, model_forest_weight=round(grown.share, 6), model_forest=text)
    return grown.scores(1.0), fusion
