"""From many signals to one ranking: a log-linear pool whose weights are fitted on validation cases.

Every signal is read as a distribution over the catalogue, its share of all it gives, and the fused score of an item is
the weighted sum of the logarithms: score(j) = w_lm * log p_lm(j) + sum over signals s of w_s * log p_s(j). The language
model's log-likelihood is such a logarithm as it is. One set of weights serves every list length.

Sources: Genest and Zidek, "Combining probability distributions", Statistical Science 1(1), 1986 (logarithmic pools);
McFadden, "Conditional logit analysis of qualitative choice behavior", 1974 (the fit).

The easy mistake is to standardise signals to unit variance per user: how much evidence there is, which a share keeps,
is then divided away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError
from genrec.signal_arrays import FloatArray

RECIPROCAL_RANK_CONSTANT = 60
"""The constant of reciprocal-rank fusion; 60 is its authors' value and is not tuned here."""

SMOOTHING = 0.1
"""What every item gets beside its share, as a part of an even share: nothing is impossible for a signal that is silent
about an item."""

RIDGE = 1e-3
"""Weight of the squared weights against a case's mean loss in nats; keeps a few hundred cases from saying too much."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The weights of a fitted pool.

    Attributes:
        signals: names of the signals, in the order of features.
        together: weight of each signal beside the language model, of shape (signals,).
        model: weight of the language model's log-likelihood.
        alone: weight of each signal where the language model is not asked, of shape (signals,).
        cases: how many validation cases the weights were fitted on.
    """

    signals: tuple[str, ...]
    together: tuple[float, ...]
    model: float
    alone: tuple[float, ...]
    cases: int

    def to_json(self) -> dict[str, Any]:
        """Return the weights as plain JSON values, by the names of their signals."""
        return {
            "together": {"lm": self.model, **dict(zip(self.signals, self.together, strict=True))},
            "alone": dict(zip(self.signals, self.alone, strict=True)),
            "cases": self.cases,
        }

    def describe(self) -> str:
        """Return the weights as one line of text."""
        together = {"lm": self.model, **dict(zip(self.signals, self.together, strict=True))}
        return ", ".join(f"{name} {weight:.2f}" for name, weight in together.items())

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Fusion:
        """Build from what `to_json` returned."""
        together = dict(entry["together"])
        model = together.pop("lm")
        alone = tuple(entry["alone"][name] for name in together)
        return cls(tuple(together), tuple(together.values()), model, alone, int(entry["cases"]))


def log_shares(scores: FloatArray) -> FloatArray:
    """Return a signal's scores as logarithms of shares: log(share + 0.1 / items).

    Args:
        scores: shape (histories, items); where a history has scores below 0, its lowest counts as 0.

    Returns:
        float32, shape (histories, items); a signal that says nothing gives every item the same.
    """
    raised = scores.astype(np.float64)
    raised -= np.minimum(raised.min(axis=1, keepdims=True, initial=0.0), 0.0)
    shares = raised / np.maximum(raised.sum(axis=1, keepdims=True), 1e-12)
    logs: FloatArray = np.log(shares + SMOOTHING / scores.shape[1]).astype(np.float32)
    return logs


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
