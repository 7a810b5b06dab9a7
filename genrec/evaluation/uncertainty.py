"""The uncertainty of figures: bootstrap intervals, and paired tests between two systems on the same cases.

Cases are resampled. Each user has at most one case in a split, so cases are independent. One draw of cases serves all
metrics and all systems, so differences stay paired.

Easy to get wrong: two intervals that overlap do not mean that two systems are alike. Both systems were judged on the
same cases, so the test looks at the difference, case by case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95
CHUNK_NUMBERS = 2_000_000
"""Random numbers drawn at once: bounds the memory, however many cases there are."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the interval that holds it with 95 % confidence.

    Attributes:
        value: the figure on all cases.
        low: the lower end; None for figures that describe all lists together (coverage, Gini).
        high: the upper end; None likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return the estimate as plain JSON values, rounded to a millionth."""
        return {"value": _rounded(self.value), "low": _rounded(self.low), "high": _rounded(self.high)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Estimate:
        """Build an estimate from what `to_json` returned."""
        return cls(data["value"], data["low"], data["high"])


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two systems on the same cases.

    Attributes:
        value: the mean of first minus second.
        low: the lower end of its 95 % bootstrap interval.
        high: the upper end.
        p_value: the probability of a difference at least as large if the systems are alike (two-sided).
        p_adjusted: the same after Holm's correction over all tests made together.
    """

    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float

    def to_json(self) -> dict[str, float | None]:
        """Return the difference as plain JSON values, rounded to a millionth."""
        names = ("value", "low", "high", "p_value", "p_adjusted")
        return {name: _rounded(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Difference:
        """Build a difference from what `to_json` returned."""
        return cls(data["value"], data["low"], data["high"], data["p_value"], data["p_adjusted"])


def bootstrap_means(values: FloatArray, *, seed: int, resamples: int = 1000) -> list[Estimate]:
    """Return the mean of each column with its percentile bootstrap interval.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. Where no case scores at all, every
    resample is 0 and so is the interval; read such a row as "fewer than about 3 in n" (the rule of three).

    Args:
        values: shape (cases, figures); NaN where a figure is not defined for a case, which is then left out of that
            figure's mean. A column that is defined nowhere has mean NaN and no interval.
        seed: what the draws depend on, besides the number of cases.
        resamples: how many draws.
    """
    cases, figures = values.shape
    defined = ~np.isnan(values)
    partly = np.flatnonzero(~defined.all(axis=0))
    filled = np.where(defined, values, 0.0)
    means = np.empty((resamples, figures))
    done = 0
    for counts in _resample_counts(cases, resamples, seed):
        sizes = np.full((len(counts), figures), float(cases))
        if len(partly):
            sizes[:, partly] = counts @ defined[:, partly].astype(np.float64)
        sums = counts @ filled
        means[done : done + len(counts)] = np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0)
        done += len(counts)
    return [_estimate(filled[:, column], defined[:, column], means[:, column]) for column in range(figures)]


def bootstrap_ratio(top: FloatArray, bottom: FloatArray, *, seed: int, resamples: int = 1000) -> Estimate:
    """Return the ratio of two means over the same cases, with its 95 % percentile bootstrap interval.

    Where the lower mean is not above 0 there is no ratio, and the value is NaN; but a resample in which only the upper
    mean is above 0 counts as a ratio without bound, so the interval still says what the ratio is at least. An end
    without bound is None.

    Args:
        top: shape (cases,).
        bottom: shape (cases,); the same cases.
        seed: what the draws depend on, besides the number of cases.
        resamples: how many draws.
    """
    if not len(top):
        return Estimate(float("nan"))
    ratios: list[float] = []
    for counts in _resample_counts(len(top), resamples, seed):
        above, below = counts @ top, counts @ bottom
        ratios += np.divide(above, below, out=np.where(above > 0, np.inf, 0.0), where=below > 0).tolist()
    tail = 50 * (1 - CONFIDENCE)
    ends = np.percentile(ratios, [tail, 100 - tail], method="nearest")
    low, high = (float(end) if np.isfinite(end) else None for end in ends)
    return Estimate(float(top.mean() / bottom.mean()) if bottom.mean() > 0 else float("nan"), low, high)


def paired_tests(
    first: FloatArray, second: FloatArray, *, seed: int, resamples: int = 1000, flips: int = 10_000
) -> list[Difference]:
    """Compare two systems case by case: one difference for each column.

    The interval is the paired bootstrap's. The p-value is that of the sign-flip (Fisher's randomisation) test, as
    recommended for ranked lists by Smucker, Allan and Carterette, CIKM 2007: where the systems are alike, each case's
    difference is as likely to have the other sign. With `flips` random flips, p = (1 + as extreme) / (1 + flips), so
    it is never 0 (Phipson and Smyth, 2010). `p_adjusted` starts as `p_value`; the caller knows which tests belong
    together and corrects them with `holm`.

    Args:
        first: shape (cases, figures).
        second: the other system's figures on the same cases, in the same order.
        seed: what the draws depend on, besides the shape.
        resamples: bootstrap draws.
        flips: sign flips.
    """
    differences = first - second
    intervals = bootstrap_means(differences, seed=seed, resamples=resamples)
    p_values = _sign_flip(differences, seed=seed, flips=flips)
    return [
        Difference(interval.value, interval.low or 0.0, interval.high or 0.0, float(p), float(p))
        for interval, p in zip(intervals, p_values, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being made together: Holm's step-down method, Scand. J. Statistics 6, 1979.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none may fall below the one before it or
    exceed 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - place)))
        corrected[index] = highest
    return corrected


def _sign_flip(differences: FloatArray, *, seed: int, flips: int) -> FloatArray:
    # A case without any difference stays 0 under any sign: leaving it out only saves time.
    moving = differences[np.any(differences != 0, axis=1)]
    observed = np.abs(moving.sum(axis=0))
    as_extreme = np.zeros(differences.shape[1], dtype=np.int64)
    generator = np.random.default_rng([seed, 1])
    rows = max(1, CHUNK_NUMBERS // max(1, len(moving)))
    for start in range(0, flips, rows):
        signs = generator.integers(0, 2, size=(min(rows, flips - start), len(moving)), dtype=np.int8)
        sums = np.abs((2.0 * signs - 1.0) @ moving)
        # Sums of the same numbers in another order differ in the last bits; a tie must not become a win through this.
        as_extreme += (sums >= observed * (1 - 1e-9) - 1e-12).sum(axis=0)
    return np.asarray((1 + as_extreme) / (1 + flips), dtype=np.float64)


def _resample_counts(cases: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each case was drawn, in chunks of shape (some resamples, cases)."""
    generator = np.random.default_rng([seed, 0])
    most = max(1, CHUNK_NUMBERS // cases)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = generator.integers(0, cases, size=(rows, cases))
        drawn += np.arange(rows)[:, None] * cases
        yield np.bincount(drawn.ravel(), minlength=rows * cases).reshape(rows, cases).astype(np.float64)


def _estimate(column: FloatArray, defined: NDArray[np.bool_], resampled: FloatArray) -> Estimate:
    if not defined.any():
        return Estimate(float("nan"))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(resampled, [tail, 100 - tail])
    return Estimate(float(column[defined].mean()), float(low), float(high))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
