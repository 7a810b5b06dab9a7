"""From many signals to one ranking: a weighted sum of logarithms whose weights are fitted on validation cases.

Each signal has its own scale, the mean of its values above 0: level(j) = log(value(j) / scale + 2). Twice the evidence
adds the same amount wherever there is much of it, and little evidence hardly differs from none. The fused score of an
item is the weighted sum of its levels, plus a weight times the language model's log-likelihood, which is already a
logarithm. One set of weights serves every list length. A forest of small trees over the same signals may be added to
the sum (see `genrec.ranking.forest`). If the model was asked, the forest may also read the log-likelihoods, and then
they enter the score only there. `genrec.ranking.fitting` decides which parts are used; this module applies them.

Sources: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974 (the fit); Genest and Zidek,
"Combining probability distributions", Statistical Science 1(1), 1986 (weighted sums of logarithms).

Signals are not standardised per user, neither to unit variance nor to shares of one. That would remove the amount of
evidence in a history, which is most of the information when data are sparse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.forest import forest_features, forest_scores, model_features
from genrec.ranking.new_items import NewItems
from genrec.ranking.proof import Proof
from genrec.signals.arrays import FloatArray

RECIPROCAL_RANK_CONSTANT = 60
"""The constant of reciprocal-rank fusion; 60 is its authors' value and is not tuned here."""

SMOOTHING = 2.0
"""The amount added to a value before the logarithm, in units of its signal's scale; chosen from 0.03 to 10."""

CANDIDATES = 50
"""The number of candidates per user from all signals together, if no number was fitted."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The weights of a fitted sum.

    Attributes:
        signals: names of the signals.
        scales: the mean of each signal's values above 0, of shape (signals,).
        weights: weight of each signal's level, of shape (signals,); 0 if a signal is not used.
        model: weight of the language model's log-likelihood beside their sum; 0 if it did not help.
        cases: the number of validation cases on which the signals' weights were fitted.
        model_cases: the number of cases on which the model was asked.
        forest_weight: the forest's weight beside the sum; 0 if it did not help or cases were few.
        forest: its trees as text; empty if it is not used.
        model_forest_weight: weight beside the sum of the forest that also reads the model's log-likelihoods; if it is
            not 0, it replaces the model's weight and the other forest.
        model_forest: its trees as text.
        others_weight: weight of all other parts if the model was asked; 0 if the model ranks alone.
        together: the number of candidates from all signals together.
        each: the number of candidates that each signal adds by itself.
        k: the list length for which the parts were chosen.
        exclude_seen: whether they were chosen for lists without the items of the history.
        new_items: how an item that nobody took is scored; None: like the others.
        proof: the comparisons and their results; None in runs made by earlier versions.
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
    new_items: NewItems | None = None

    def linear(self, values: FloatArray) -> FloatArray:
        """Return the weighted sums of the signals' levels, shape (...) from values of shape (..., signals)."""
        total: FloatArray = log_levels(values, self.scales) @ np.array(self.weights, np.float32)
        return total

    def evidence(self, values: FloatArray, shares: FloatArray, length: int) -> FloatArray:
        """Return the scores of one user's candidates from all signals except the model, shape (candidates,).

        Args:
            values: shape (candidates, signals).
            shares: the values as shares of the signal's sum over the catalogue, of the same shape.
            length: the number of items in the history.
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
        """Return the scores of one user's candidates from all signals and the model, shape (candidates,).

        Args:
            evidence: the result of `evidence`.
            values: as in `evidence`.
            shares: as in `evidence`.
            length: as in `evidence`.
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
            **({"new_items": self.new_items.to_json()} if self.new_items else {}),
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
        """Return the parts that are used, with reasons and standard errors, in sentences."""
        return list(self.proof.words) if self.proof else []

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Fusion:
        """Build from the result of `to_json`, by this or an earlier version."""
        signals = tuple(entry["weights"])
        scales, weights = (tuple(entry[name][signal] for signal in signals) for name in ("scales", "weights"))
        proof = entry.get("proof")
        # Runs made by earlier versions may lack forests, fitted numbers of candidates and proofs.
        candidates = entry.get("candidates", {"together": CANDIDATES, "each": 0})
        return cls(
            signals, scales, weights, entry["lm"], entry["cases"], entry["lm_cases"],
            entry.get("forest_weight", 0.0), entry.get("forest", ""),
            entry.get("lm_forest_weight", 0.0), entry.get("lm_forest", ""), entry.get("others", 1.0),
            candidates["together"], candidates["each"], entry.get("k", 10), entry.get("exclude_seen", True),
            Proof.from_json(proof) if proof else None,
            NewItems.from_json(entry["new_items"]) if entry.get("new_items") else None,
        )  # fmt: skip


def log_levels(values: FloatArray, scales: Sequence[float] | None) -> FloatArray:
    """Return signals' values as logarithms: log(max(value, 0) / scale + 2).

    Args:
        values: the signals' values for the items of one history or several, of shape (..., items, signals).
        scales: of shape (signals,); None if none were fitted; then each history's own mean above 0 is used.

    Returns:
        float32, of the same shape; a signal without values above 0 gives every item the same level.
    """
    positive = np.maximum(values, 0.0)
    scale: FloatArray = np.asarray(scales, np.float32) if scales else mean_positive(positive, axis=-2)
    levels: FloatArray = np.log(positive / scale + SMOOTHING).astype(np.float32)
    return levels


def mean_positive(values: FloatArray, axis: int) -> FloatArray:
    """Return the means of the values above 0 along an axis, which is kept; 1 if there are none."""
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
