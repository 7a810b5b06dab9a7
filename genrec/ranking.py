"""From many signals to one ranking: a weighted sum of logarithms whose weights are fitted on validation cases.

Every signal is read on a scale of its own, its mean where it says anything: level(j) = log(value(j) / scale + 2). Twice
as much evidence is worth the same wherever there is much of it, and little evidence hardly differs from none. The fused
score of an item is the weighted sum of its levels, plus a weight times the language model's log-likelihood, which is a
logarithm as it is. One set of weights serves every list length. Where there are cases enough, and it proves itself on
cases it has not seen, a forest of small trees over the same signals is added to the sum (see `genrec.forest`). Where
the model was asked, it may be one that reads the log-likelihoods too, and then these have no other part.

Sources: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974 (the fit); Genest and Zidek,
"Combining probability distributions", Statistical Science 1(1), 1986 (weighted sums of logarithms).

The easy mistake is to standardise signals per user, to unit variance or to shares of one: how much evidence a history
has is then divided away, and where data are sparse that is most of what there is to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError
from genrec.forest import (
    ENOUGH_CASES,
    HeldOut,
    choose_forest_weight,
    fit_forest,
    forest_features,
    forest_scores,
    gain_of,
    list_gains,
    model_features,
)
from genrec.signal_arrays import FloatArray

RECIPROCAL_RANK_CONSTANT = 60
"""The constant of reciprocal-rank fusion; 60 is its authors' value and is not tuned here."""

SMOOTHING = 2.0
"""What is added to a value, in units of its signal's scale, before the logarithm; chosen from 0.03 to 10."""

RIDGE = 1e-3
"""Weight of the squared weights against a case's mean loss in nats; keeps a few hundred cases from saying too much."""


MODEL_WEIGHTS = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Weights of the language model's log-likelihood that are tried."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The weights of a fitted sum.

    Attributes:
        signals: names of the signals.
        scales: each signal's mean value where it is above 0, of shape (signals,).
        weights: weight of each signal's level, of shape (signals,).
        model: weight of the language model's log-likelihood beside their sum; 0 where it did not help.
        cases: how many validation cases the signals' weights were fitted on.
        model_cases: how many the model's weight was fitted on.
        forest_weight: how much the forest counts beside the sum; 0 where it did not help or cases were few.
        forest: its trees as text; empty where it does not count.
        model_forest_weight: how much the forest that reads the model's log-likelihoods too counts beside the sum; where
            it is not 0, it stands for the model's weight and for the other forest.
        model_forest: its trees as text.
    """

    signals: tuple[str, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    model: float
    cases: int
    model_cases: int
    forest_weight: float = 0.0
    forest: str = ""
    model_forest_weight: float = 0.0
    model_forest: str = ""

    def linear(self, values: FloatArray) -> FloatArray:
        """Return the weighted sums of the signals' levels, shape (...) from values of shape (..., signals)."""
        total: FloatArray = log_levels(values, self.scales) @ np.array(self.weights, np.float32)
        return total

    def evidence(self, values: FloatArray, shares: FloatArray, length: int) -> FloatArray:
        """Return what all signals but the model say of one user's candidates, shape (candidates,).

        Args:
            values: shape (candidates, signals).
            shares: the values as shares of the whole catalogue's, of the same shape.
            length: how many items the history has.
        """
        total = self.linear(values)
        if self.forest_weight:
            total = total + np.float32(self.forest_weight) * forest_scores(self.forest, forest_features(shares, length))
        return total

    def with_model(
        self,
        evidence: FloatArray,
        values: FloatArray,
        shares: FloatArray,
        length: int,
        likelihoods: NDArray[np.float32],
    ) -> FloatArray:
        """Return what all signals and the model say of one user's candidates, shape (candidates,).

        Args:
            evidence: what `evidence` returned.
            values: as there.
            shares: likewise.
            length: likewise.
            likelihoods: the model's log-likelihoods, shape (candidates,).
        """
        if not self.model_forest_weight:
            return evidence + np.float32(self.model) * likelihoods
        scores = forest_scores(self.model_forest, model_features(shares, length, likelihoods))
        return self.linear(values) + np.float32(self.model_forest_weight) * scores

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, by the names of the signals."""
        return {
            "scales": dict(zip(self.signals, self.scales, strict=True)),
            "weights": dict(zip(self.signals, self.weights, strict=True)),
            "lm": self.model,
            "cases": self.cases,
            "lm_cases": self.model_cases,
            "forest_weight": self.forest_weight,
            "forest": self.forest,
            "lm_forest_weight": self.model_forest_weight,
            "lm_forest": self.model_forest,
        }

    def describe(self) -> str:
        """Return the weights as one line of text."""
        weights = {"lm": self.model, **dict(zip(self.signals, self.weights, strict=True)), "forest": self.forest_weight}
        if self.model_forest_weight:
            weights = {"forest with lm": self.model_forest_weight, **weights}
            del weights["lm"]
        return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Fusion:
        """Build from what `to_json` returned."""
        signals = tuple(entry["weights"])
        scales, weights = (tuple(entry[name][signal] for signal in signals) for name in ("scales", "weights"))
        counts = entry["cases"], entry["lm_cases"]
        # Runs made before there were forests have none.
        return cls(
            signals, scales, weights, entry["lm"], *counts, entry.get("forest_weight", 0.0), entry.get("forest", ""),
            entry.get("lm_forest_weight", 0.0), entry.get("lm_forest", ""),
        )  # fmt: skip


def log_levels(values: FloatArray, scales: Sequence[float] | None) -> FloatArray:
    """Return signals' values as logarithms: log(max(value, 0) / scale + 2).

    Args:
        values: what signals say of the items of one history or of many, of shape (..., items, signals).
        scales: of shape (signals,); None where none were fitted, then each history's own mean above 0.

    Returns:
        float32, of the same shape; a signal that says nothing gives every item the same.
    """
    positive = np.maximum(values, 0.0)
    scale: FloatArray = np.asarray(scales, np.float32) if scales else mean_positive(positive, axis=-2)
    levels: FloatArray = np.log(positive / scale + SMOOTHING).astype(np.float32)
    return levels


def mean_positive(values: FloatArray, axis: int) -> FloatArray:
    """Return the means of the values above 0 along an axis, which is kept; 1 where there are none."""
    above = values > 0
    count = above.sum(axis=axis, keepdims=True)
    total = np.where(above, values, 0.0).sum(axis=axis, keepdims=True)
    means: FloatArray = np.where(count > 0, total / np.maximum(count, 1), 1.0).astype(np.float32)
    return means


def fit_weights(features: Sequence[NDArray[np.floating]], targets: Sequence[int]) -> tuple[float, ...]:
    """Fit the weights under which the taken item is most likely among each case's candidates.

    Minimises mean over cases of -log(exp(w.x(target)) / sum over candidates of exp(w.x)) + ridge * |w|^2, which is
    convex: there is one answer, and it does not depend on a seed.

    Args:
        features: for each case, shape (candidates, signals).
        targets: for each case, which candidate was taken.

    Returns:
        One weight for each signal.

    Raises:
        DataError: there is no case.
    """
    from scipy.optimize import minimize

    if not features:
        raise DataError("there is no validation case whose item is among the candidates, so no weights can be fitted")
    ends = np.cumsum([len(rows) for rows in features])
    starts = np.concatenate(([0], ends[:-1]))
    rows = np.concatenate(features).astype(np.float64)
    case = np.repeat(np.arange(len(features)), ends - starts)
    taken = rows[starts + np.array(targets)]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = rows @ weights
        top = np.maximum.reduceat(scores, starts)
        parts = np.exp(scores - top[case])
        totals = np.add.reduceat(parts, starts)
        value = (np.log(totals) + top - taken @ weights).mean() + RIDGE * weights @ weights
        expected = np.add.reduceat(rows * (parts / totals[case])[:, None], starts)
        return float(value), (expected - taken).mean(axis=0) + 2 * RIDGE * weights

    found = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B")
    return tuple(round(float(weight), 6) for weight in found.x)


def fit_signals_weights(
    signals: Sequence[str],
    values: Sequence[FloatArray],
    shares: Sequence[FloatArray],
    lengths: Sequence[int],
    targets: Sequence[int],
    seed: int,
) -> tuple[Fusion, HeldOut | None]:
    """Fit the sum, and the forest where cases are enough; the language model is not asked.

    Args:
        signals: their names.
        values: for each case, what they say of its candidates, shape (candidates, signals).
        shares: the same as shares of the whole catalogue's.
        lengths: for each case, how many items its history has.
        targets: for each case, which candidate was taken.
        seed: of the forest.

    Returns:
        The fusion; and, where it has a forest, forests that have each not seen some of the cases.

    Raises:
        DataError: there is no case.
    """
    if not values:
        raise DataError("there is no validation case whose item is among the candidates, so no weights can be fitted")
    scales = tuple(float(scale) for scale in mean_positive(np.concatenate(values), axis=0)[0])
    weights = fit_weights([log_levels(rows, scales) for rows in values], targets)
    fusion = Fusion(tuple(signals), scales, weights, 0.0, len(values), 0)
    if len(values) < ENOUGH_CASES:
        return fusion, None
    features = [forest_features(rows, length) for rows, length in zip(shares, lengths, strict=True)]
    held_out = HeldOut.fit(features, targets, seed)
    unseen = [held_out.scores(case, rows) for case, rows in enumerate(features)]
    weight = choose_forest_weight([fusion.linear(rows) for rows in values], unseen, targets)
    if not weight:
        return fusion, None
    return replace(fusion, forest_weight=weight, forest=fit_forest(features, targets, seed)), held_out


@dataclass(frozen=True, slots=True)
class ModelCase:
    """A validation case for which the language model was asked.

    Attributes:
        values: what the signals say of its candidates, shape (candidates, signals).
        shares: the same as shares of the whole catalogue's.
        length: how many items its history has.
        evidence: what they say together, by a forest that has not seen the case, shape (candidates,).
        likelihoods: the model's log-likelihoods, shape (candidates,).
        target: which candidate was taken.
    """

    values: FloatArray
    shares: FloatArray
    length: int
    evidence: FloatArray
    likelihoods: NDArray[np.float32]
    target: int


def fit_model(fusion: Fusion, cases: Sequence[ModelCase], seed: int) -> Fusion:
    """Return the fusion with the language model's part: a weight, or a forest that reads its log-likelihoods too.

    A forest needs `ENOUGH_CASES`, and must be better than the weight on cases it has not seen, by more than the
    standard error of the difference: it is the more complex of the two. Everything the model is weighed against must
    not have seen the cases either: evidence that knows them leaves a model nothing to add.

    Args:
        fusion: what `fit_signals_weights` returned.
        cases: at least one.
        seed: of the forest.
    """
    targets = [case.target for case in cases]
    weight = fit_model_weight([case.evidence for case in cases], [case.likelihoods for case in cases], targets)
    weighed = replace(fusion, model=weight, model_cases=len(cases))
    if len(cases) < ENOUGH_CASES:
        return weighed
    features = [model_features(case.shares, case.length, case.likelihoods) for case in cases]
    held_out = HeldOut.fit(features, targets, seed)
    unseen = [held_out.scores(place, rows) for place, rows in enumerate(features)]
    sums = [fusion.linear(case.values) for case in cases]
    share = choose_forest_weight(sums, unseen, targets)
    by_forest = list_gains([own + share * forest for own, forest in zip(sums, unseen, strict=True)], targets)
    better = by_forest - list_gains([case.evidence + weight * case.likelihoods for case in cases], targets)
    if not share or better.mean() <= better.std() / np.sqrt(len(better)):
        return weighed
    forest = fit_forest(features, targets, seed)
    return replace(weighed, model=0.0, model_forest_weight=share, model_forest=forest)


def fit_model_weight(
    sums: Sequence[NDArray[np.floating]], likelihoods: Sequence[NDArray[np.floating]], targets: Sequence[int]
) -> float:
    """Choose how much the language model counts, by NDCG@10 and not by likelihood.

    One number stands between a great sum of evidence and the model, so it can be looked for directly. A model that is
    likelier to be right all over the list can still spoil its top, which is all that anybody sees; then this is 0.

    Args:
        sums: for each case, the other signals' weighted sums, of shape (candidates,).
        likelihoods: for each case, the model's log-likelihoods, of the same shape.
        targets: for each case, which candidate was taken.

    Returns:
        The best of `MODEL_WEIGHTS`; of equals the middle one, which is farthest from where the list gets worse.
    """

    def figure(weight: float) -> float:
        return sum(
            gain_of(own + weight * likelihood, target, 10)
            for own, likelihood, target in zip(sums, likelihoods, targets, strict=True)
        )

    figures = [figure(weight) for weight in MODEL_WEIGHTS]
    best = [weight for weight, gained in zip(MODEL_WEIGHTS, figures, strict=True) if gained >= max(figures) - 1e-9]
    return best[len(best) // 2]


def fuse_reciprocal_ranks(lists: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """Fuse ranked lists without tuning: score(item) = sum over lists of 1 / (60 + rank).

    Source: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods", SIGIR 2009, equation 1. Equal sums keep the order of the first list, then of the next.

    Args:
        lists: item rows, best first, each distinct within its list.

    Returns:
        (row, score) pairs, best first.
    """
    scores: dict[int, float] = {}
    for rows in lists:
        for rank, row in enumerate(rows, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (RECIPROCAL_RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda entry: -entry[1])
