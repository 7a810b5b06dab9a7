"""The waterfall: the part of each signal and of the language model in a score; an item's parts sum to its score.

The fusion is a sum, so most parts are its terms. A forest's score is divided among its features by Shapley values
(LightGBM's own `pred_contrib`, which is exact for trees). Amounts that are equal for every item, such as the forest's
mean, form the part "base". If lists are fused by reciprocal ranks, each list's term is its part.

Sources: Lundberg et al., "From local explanations to global understanding with explainable AI for trees", Nature
Machine Intelligence 2, 2020 (TreeSHAP).

A part is not the loss that removing the signal would cause: without the signal, the forest would score differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.candidates import Candidates
from genrec.ranking.forest import forest_features, forest_parts, model_features
from genrec.ranking.fusion import RECIPROCAL_RANK_CONSTANT, SMOOTHING, Fusion, log_levels
from genrec.recommendation import Waterfall

Parts = dict[str, NDArray[np.float64]]
"""Each part of each candidate's score, shape (candidates,), by name."""

BASE, MODEL, LENGTH, SIGNALS, TASTE = "base", "lm", "history length", "signals", "taste"


def waterfalls(parts: Parts, places: Sequence[int]) -> list[Waterfall]:
    """Return the waterfalls of a list's items.

    Args:
        parts: the result of `parts_of_scores`.
        places: the numbers of the list's candidates, in the order of the list.
    """
    told = []
    for place in places:
        own = {name: float(values[place]) for name, values in parts.items()}
        ahead = {name: float(values[places[0]]) - own[name] for name, values in parts.items()}
        gap = sum(ahead.values())
        needs, won = [], 0.0
        for name in sorted(ahead, key=lambda name: -ahead[name]):
            if won > gap or gap <= 0 or ahead[name] <= 0:
                break
            needs.append(name)
            won += ahead[name]
        told.append(Waterfall(own, gap, tuple(needs)))
    return told


def parts_of_scores(
    own: Candidates, signals: Sequence[str], fusion: Fusion | None, lists: Mapping[str, Sequence[int]]
) -> Parts:
    """Return the parts of the candidates' scores.

    Args:
        own: the user's candidates.
        signals: the signals' names.
        fusion: the fitted weights; None if none were fitted.
        lists: the candidates' rows in the order of each part, if scores are sums of reciprocal ranks; else empty.
    """
    if lists:
        return {name: _reciprocals(own, rows) for name, rows in lists.items()}
    if own.basis == "nothing":
        return {"popularity": own.alone.astype(np.float64)}
    if fusion is None:
        levels = log_levels(own.values, None).astype(np.float64)
        return dict(zip(signals, levels.T, strict=True))
    return _fused_parts(own, signals, fusion)


def _fused_parts(own: Candidates, signals: Sequence[str], fusion: Fusion) -> Parts:
    """Return the parts of the fitted sum."""
    asked = own.likelihoods is not None
    others = fusion.others_weight if asked else 1.0
    levels = log_levels(own.values, fusion.scales).astype(np.float64)
    weights = others * np.array(fusion.weights, np.float64)
    silent = np.log(SMOOTHING)  # the level of a signal without a value above 0
    parts: Parts = dict(zip(signals, (weights * (levels - silent)).T, strict=True))
    size = len(own.rows)
    parts |= {name: np.zeros(size) for name in (MODEL, LENGTH, BASE)}
    parts[BASE] += float(silent * weights.sum())
    names = [*signals, LENGTH]
    if own.likelihoods is not None and fusion.model_forest_weight:
        features = model_features(own.shares, own.length, own.likelihoods)
        names += [MODEL, MODEL]
        trees = fusion.model_forest_weight * forest_parts(fusion.model_forest, features)
    else:
        trees = np.zeros((size, len(names) + 1))
        if fusion.forest_weight:
            features = forest_features(own.shares, own.length)
            trees = others * fusion.forest_weight * forest_parts(fusion.forest, features)
        if own.likelihoods is not None:
            parts[MODEL] += fusion.model * own.likelihoods.astype(np.float64)
    for name, values in zip([*names, BASE], trees.T, strict=True):
        parts[name] = parts[name] + values
    if fusion.new_items is not None and own.likelihoods is not None:
        terms = fusion.new_items
        parts = {name: np.where(own.new, terms.fused * values, values) for name, values in parts.items()}
        parts[MODEL] += np.where(own.new, terms.model * own.likelihoods, 0.0)
        parts[BASE] += np.where(own.new, terms.offset, 0.0)
    return {name: values for name, values in parts.items() if name == BASE or values.any()}


def _reciprocals(own: Candidates, rows: Sequence[int]) -> NDArray[np.float64]:
    """Return 1 / (60 + rank) by the candidates' ranks in a list; 0 for candidates that are not in it."""
    ranks = {row: rank for rank, row in enumerate(rows, start=1)}
    return np.array([1 / (RECIPROCAL_RANK_CONSTANT + ranks[row]) if row in ranks else 0.0 for row in own.rows.tolist()])
