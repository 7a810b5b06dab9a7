"""A forest beside the weighted sum: small regression trees over all signals, fitted to rank the target first.

Trees can express conditions that a sum of levels cannot, because the sum gives each signal one weight for all users.
Examples are "trust co-occurrence only if the history is long" and "an item suggested by its title needs two signals
that agree". Trees read shares: each signal's value for an item, divided by the signal's sum over the catalogue. Shares
show how clear-cut a signal is for this user.

Source: Burges, "From RankNet to LambdaRank to LambdaMART: an overview", MSR-TR-2010-82 (the objective); Ke et al.,
"LightGBM", NeurIPS 2017 (the library that fits and holds the trees).

The weight of the trees beside the sum is fitted on held-out cases, and may be 0: on the cases of their own fit, trees
always win. The weights of all other parts beside the trees are fitted on held-out cases, too
(`genrec.ranking.fitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.errors import ArtefactError
from genrec.signals.arrays import FloatArray

ENOUGH_CASES = 400
"""The fewest cases for which a forest is fitted: with fewer it overfits."""

TREES = 200

_PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "verbosity": -1,
    # These give the same trees on every machine, with any number of cores.
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}


def shares_of(values: FloatArray) -> FloatArray:
    """Return each signal's values as shares of its sum over all items.

    Args:
        values: float32 [..., items, signals], over the whole catalogue; values below 0 count as 0.

    Returns:
        float32, of the same shape; zeros if a signal has no value above 0.
    """
    positive = np.maximum(values, 0.0)
    total = positive.sum(axis=-2, keepdims=True)
    shares: FloatArray = np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)
    return shares


def forest_features(shares: FloatArray, length: int) -> FloatArray:
    """Return the trees' features of a user's candidates: shares and history length, shape (items, signals + 1)."""
    lengths = np.full((len(shares), 1), length, np.float32)
    return np.concatenate((shares, lengths), axis=1)


def model_features(shares: FloatArray, length: int, likelihoods: NDArray[np.float32]) -> FloatArray:
    """Return the trees' features if the language model was asked, shape (items, signals + 3).

    `forest_features`, the model's log-likelihoods, and their differences from the best candidate's.
    """
    own = np.stack((likelihoods, likelihoods - likelihoods.max(initial=-np.inf)), axis=1)
    return np.concatenate((forest_features(shares, length), own), axis=1).astype(np.float32)


def fit_forest(features: Sequence[FloatArray], targets: Sequence[int], seed: int) -> str:
    """Fit trees that rank each case's target high among its candidates.

    Args:
        features: for each case, shape (candidates, features).
        targets: for each case, which candidate was taken.
        seed: the seed of the fit.

    Returns:
        The forest as LightGBM's text.
    """
    import lightgbm

    sizes = [len(rows) for rows in features]
    taken = np.zeros(sum(sizes), np.float32)
    taken[np.cumsum([0, *sizes[:-1]]) + np.array(targets)] = 1.0
    data = lightgbm.Dataset(np.concatenate(features), taken, group=sizes)
    booster = lightgbm.train({**_PARAMETERS, "seed": seed}, data, TREES)
    return str(booster.model_to_string())


def forest_scores(text: str, features: FloatArray) -> FloatArray:
    """Return a forest's scores, shape (items,).

    Args:
        text: the result of `fit_forest`.
        features: shape (items, features).

    Raises:
        ArtefactError: the text is no forest, or the forest reads other signals.
    """
    booster = _booster(text)
    if booster.num_feature() != features.shape[1]:
        raise ArtefactError(
            f"the forest reads {booster.num_feature()} features, and there are {features.shape[1]}; "
            "fit the weights again with genrec.runs.tuning.tune_fusion"
        )
    if not len(features):
        return np.zeros(0, np.float32)
    # Each row adds the same trees in the same order, so threads cannot change a score.
    scores: FloatArray = np.asarray(booster.predict(features, raw_score=True)).astype(np.float32)
    return scores


def forest_parts(text: str, features: FloatArray) -> NDArray[np.float64]:
    """Return each feature's part of a forest's score: Shapley values, then the forest's mean.

    Args:
        text: the result of `fit_forest`.
        features: shape (items, features).

    Returns:
        Shape (items, features + 1); each row sums to the forest's score.
    """
    if not len(features):
        return np.zeros((0, features.shape[1] + 1))
    return np.asarray(_booster(text).predict(features, pred_contrib=True), np.float64)


@lru_cache(maxsize=4)
def _booster(text: str) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise ArtefactError(f"the forest in fusion.json cannot be read ({error}); make the run again") from error
