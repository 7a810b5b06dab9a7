"""From many signals to one ranking: a weighted sum of logarithms whose weights are fitted on validation cases.

Every signal is read on a scale of its own, its mean where it says anything: level(j) = log(value(j) / scale + 2). Twice
as much evidence is worth the same wherever there is much of it, and little evidence hardly differs from none. The fused
score of an item is the weighted sum of its levels, plus a weight times the language model's log-likelihood, which is a
logarithm as it is. One set of weights serves every list length. A forest of small trees over the same signals may be
added to the sum (see `genrec.ranking.forest`). Where the model was asked, it may be one that reads the
log-likelihoods too, and
then these have no other part. What of all this counts is decided in `genrec.ranking.fitting`; here it is applied.

Sources: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974 (the fit); Genest and Zidek,
"Combining probability distributions", Statistical Science 1(1), 1986 (weighted sums of logarithms).

The easy mistake is to standardise signals per user, to unit variance or to shares of one: how much evidence a history
has is then divided away, and where data are sparse that is most of what there is to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.forest import forest_features, forest_scores, model_features
from genrec.ranking.proof import Proof
from genrec.signals.arrays import FloatArray

RECIPROCAL_RANK_CONSTANT = 60
"""The constant of reciprocal-rank fusion; 60 is its authors' value and is not tuned here."""

SMOOTHING = 2.0
"""What is added to a value, in units of its signal's scale, before the logarithm; chosen from 0.03 to 10."""

CANDIDATES = 50
"""How many items the signals together put up for each user where nothing was fitted."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The weights of a fitted sum.

    Attributes:
        signals: names of the signals.
        scales: each signal's mean value where it is above 0, of shape (signals,).
        weights: weight of each signal's level, of shape (signals,); 0 where a signal is not used.
        model: weight of the language model's log-likelihood beside their sum; 0 where it did not help.
        cases: how many validation cases the signals' weights were fitted on.
        model_cases: how many the model was asked on.
        forest_weight: how much the forest counts beside the sum; 0 where it did not help or cases were few.
        forest: its trees as text; empty where it does not count.
        model_forest_weight: how much the forest that reads the model's log-likelihoods too counts beside the sum; where
            it is not 0, it stands for the model's weight and for the other forest.
        model_forest: its trees as text.
        others_weight: what all the others count where the model was asked; 0 where the model ranks alone.
        together: how many candidates the signals together put up.
        each: how many each signal puts up besides by itself.
        k: the list length that the parts were chosen for.
        exclude_seen: whether they were chosen for lists without the items of the history.
        proof: what was compared, and what came of it; None in runs made before there was one.
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
    others_weight: float = 1.0
    together: int = CANDIDATES
    each: int = 0
    k: int = 10
    exclude_seen: bool = True
    proof: Proof | None = None

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
            return np.float32(self.others_weight) * evidence + np.float32(self.model) * likelihoods
        scores = forest_scores(self.model_forest, model_features(shares, length, likelihoods))
        return np.float32(self.others_weight) * self.linear(values) + np.float32(self.model_forest_weight) * scores

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, by the names of the signals."""
        return {
            "scales": dict(zip(self.signals, self.scales, strict=True)),
            "weights": dict(zip(self.signals, self.weights, strict=True)),
            "lm": self.model,
            "others": self.others_weight,
            "cases": self.cases,
            "lm_cases": self.model_cases,
            "forest_weight": self.forest_weight,
            "forest": self.forest,
            "lm_forest_weight": self.model_forest_weight,
            "lm_forest": self.model_forest,
            "candidates": {"together": self.together, "each": self.each},
            "k": self.k,
            "exclude_seen": self.exclude_seen,
            "proof": self.proof.to_json() if self.proof else None,
        }

    def describe(self) -> str:
        """Return the weights as one line of text."""
        weights = {"lm": self.model, **dict(zip(self.signals, self.weights, strict=True)), "forest": self.forest_weight}
        if self.model_forest_weight:
            weights = {"forest with lm": self.model_forest_weight, **weights}
            del weights["lm"]
        if self.others_weight != 1.0:
            weights["all but the lm"] = self.others_weight
        return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())

    def to_words(self) -> list[str]:
        """Return what is used and why, and how sure that is, in sentences."""
        return list(self.proof.words) if self.proof else []

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Fusion:
        """Build from what `to_json` returned, now or by an earlier version."""
        signals = tuple(entry["weights"])
        scales, weights = (tuple(entry[name][signal] for signal in signals) for name in ("scales", "weights"))
        proof = entry.get("proof")
        # Runs made before there were forests, fitted numbers of candidates or proofs have none.
        candidates = entry.get("candidates", {"together": CANDIDATES, "each": 0})
        return cls(
            signals, scales, weights, entry["lm"], entry["cases"], entry["lm_cases"],
            entry.get("forest_weight", 0.0), entry.get("forest", ""),
            entry.get("lm_forest_weight", 0.0), entry.get("lm_forest", ""), entry.get("others", 1.0),
            candidates["together"], candidates["each"], entry.get("k", 10), entry.get("exclude_seen", True),
            Proof.from_json(proof) if proof else None,
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
