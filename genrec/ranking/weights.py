"""Fitting of the weighted sum of signals: the weights maximise the likelihood of the targets (conditional logit).

The likelihood is smooth in the weights, so no grid is needed, and with few cases the result varies far less than the
best of several figures. Some variants were tried and rejected, because on few cases their losses exceeded their gains
(benchmarks/RESULTS.md, "Many worlds"): non-negative weights, weights shrunk towards equal ones, equal weights and
reciprocal ranks as further ways to rank.

Source: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError
from genrec.ranking.cases import Table
from genrec.ranking.fusion import Fusion, log_levels, mean_positive

PRIOR = 0.1
"""Precision of each weight's prior: normal around 0 with a standard deviation of about 3. The prior does not grow with
the number of cases, so it matters with few cases and is negligible with many."""

LEAST = 0.01
"""The least weight of the first of two parts, if the second has the weight 1."""


def fit_weights(
    columns: NDArray[np.floating], table: Table, cases: NDArray[np.int64], among: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the weights that maximise the likelihood of each case's target among its candidates.

    Minimises the sum over cases of -log(exp(w.x(target)) / sum over candidates of exp(w.x)), plus PRIOR / 2 * |w|^2,
    by Newton's method. The function is convex, so the minimum is unique and does not depend on a seed.

    Args:
        columns: shape (rows, columns): the values to be weighted.
        table: the cases.
        cases: the cases to fit on; cases without a target among the candidates are not used.
        among: which rows are candidates; all by default.

    Returns:
        The weights, and their standard errors.

    Raises:
        DataError: there is no case.
    """
    chosen = np.zeros(len(table.cases), np.bool_)
    chosen[cases] = True
    chosen &= table.target >= 0
    if among is not None:
        chosen &= among[table.target]
    if not chosen.any():
        raise DataError("there is no validation case whose item is among the candidates, so no weights can be fitted")
    kept = chosen[table.case] if among is None else chosen[table.case] & among
    rows = columns[kept].astype(np.float64)
    sizes = np.bincount(table.case[kept], minlength=len(chosen))[chosen]
    starts = np.cumsum(sizes) - sizes
    number = np.repeat(np.arange(len(sizes)), sizes)
    taken = columns[table.target[chosen]].astype(np.float64)
    weights, prior = np.zeros(rows.shape[1]), PRIOR / len(sizes)

    def look(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = rows @ at
        top = np.maximum.reduceat(scores, starts)
        parts = np.exp(scores - top[number])
        totals = np.add.reduceat(parts, starts)
        value = float((np.log(totals) + top - taken @ at).mean() + prior / 2 * at @ at)
        return value, parts / totals[number]

    value, odds = look(weights)
    curve = np.eye(rows.shape[1])
    for _ in range(50):
        expected = np.add.reduceat(rows * odds[:, None], starts)
        slope = (expected - taken).mean(axis=0) + prior * weights
        spread = (rows * odds[:, None]).T @ rows - expected.T @ expected
        curve = spread / len(sizes) + prior * np.eye(rows.shape[1])
        step = np.linalg.solve(curve, slope)
        scale = 1.0
        while True:
            there, new_odds = look(weights - scale * step)
            if there <= value + 1e-12 or scale < 1e-6:
                break
            scale /= 2
        weights, odds, gained, value = weights - scale * step, new_odds, value - there, there
        if gained < 1e-10:
            break
    errors = np.sqrt(np.diag(np.linalg.inv(curve)) / len(sizes))
    return weights, errors


def relative(weights: NDArray[np.float64]) -> float:
    """Return the second part's weight relative to the first's; 0 if it would be negative.

    The first part's weight is always above 0, because the first part chooses the candidates.
    """
    second = float(max(weights[1], 0.0))
    return second / max(float(weights[0]), LEAST * second) if second > 0 else 0.0


def fit_sum(signals: Sequence[str], table: Table, cases: NDArray[np.int64]) -> Fusion:
    """Fit the weighted sum of signals; a signal whose weight is within a standard error of 0 is not used.

    Raises:
        DataError: there is no case.
    """
    inside = np.isin(table.case, cases)
    scales = tuple(float(scale) for scale in mean_positive(table.values[inside], axis=0)[0])
    levels = log_levels(table.values, scales)
    used = list(range(len(signals)))
    while True:
        weights, errors = fit_weights(levels[:, used], table, cases)
        sizes = np.abs(weights) / errors
        if sizes.min() >= 1 or len(used) == 1:
            break
        # One signal is removed at a time: of two equal signals neither seems needed, but one of them is.
        del used[int(sizes.argmin())]
    whole = np.zeros(len(signals))
    whole[used] = weights
    count = int(np.isin(table.found, cases).sum())
    return Fusion(tuple(signals), scales, tuple(round(float(weight), 6) for weight in whole), 0.0, count, 0)


def single(fusion: Fusion, number: int) -> Fusion:
    """Return a fusion that ranks by one signal alone."""
    weights = tuple(float(place == number) for place in range(len(fusion.signals)))
    return replace(fusion, weights=weights, forest_weight=0.0, forest="")
