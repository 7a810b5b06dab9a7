"""What a list is made of: every weight by likelihood, every part by what it earns on cases that it has not seen.

Cases are divided into `FOLDS`. For each fold all is fitted without it (the sum, the forest, how much they and the
language model count) and judged on it, so that every case has a list from a fit that does not know it. Weights are
those under which the taken items are likeliest (conditional logit): smooth in the weights, so that there is no grid
with an edge, and far steadier on few cases than the best of a list of figures. What is used at all is decided by NDCG@k
of lists, misses included, under the rules of `genrec.ranking.proof`.

Sources: Wolpert, "Stacked generalization", Neural Networks 5(2), 1992; Breiman, "Stacked regressions", Machine Learning
24, 1996 (weights of parts fitted on what each says of cases it was not fitted on).

The easy mistake is to let a fit choose the candidates of a case that it knows: its forest puts the right item among
them, and whatever is asked next finds an item there that it would not have been shown.
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
    """Choose what the language model counts, and pass the last gate.

    Args:
        fit: what `fit_signals_fusion` returned.
        cases: those on which the model was asked, their candidates chosen by the fold that does not know them; empty
            where it was asked on none.
        seed: of the forest.
        k: the length of the lists that are compared.
        exclude_seen: whether the candidates leave out the items of the history.
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
    for share, name in WITH_MODEL.items():
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
    if chosen == fit.used:
        _, found = surest(gains, WITH_MODEL, gains[chosen])
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
    """Return each row's score by a sum and a forest that do not know its case, and the fusion with both."""
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
