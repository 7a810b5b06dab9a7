"""Fitting a fusion on validation cases, once, for every list length.

First the weights of the signals without the language model, on many cases, since they cost little; these weights choose
the candidates. Then how much the language model counts beside their sum, one number, on fewer cases, since the model
must score every candidate: so few cases cannot upset what many have said.

The easy mistake is to tune on the cases that are reported; only validation cases may come here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genrec.baselines import sample_cases
from genrec.catalog import Catalog
from genrec.errors import DataError
from genrec.ranking import Fusion, fit_model_weight, fit_weights, log_levels, mean_positive
from genrec.recommender import Candidates, Recommender, Settings
from genrec.signal_arrays import FloatArray
from genrec.splits import Case

logger = logging.getLogger(__name__)

CASES_ALONE = 4000
"""Most validation cases for the weights without the language model."""

CANDIDATES_ALONE = 200
"""Candidates of each such case: more than are ranked later, so that weights see what they must keep out."""

BLOCK = 256
"""Cases whose candidates are made at once."""


def tune_fusion(
    recommender: Recommender,
    cases: Sequence[Case],
    with_model: int,
    seed: int = 0,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fusion:
    """Fit the weights of a recommender's signals; the recommender's own fusion is set to them.

    A case whose item is not among its candidates says nothing about how to order them and is left out.

    Args:
        recommender: the run; its training must not have seen the cases' items.
        cases: validation cases.
        with_model: on how many of them, drawn by the seed, the language model is asked.
        seed: of the draw.
        settings: how the candidates are made; the defaults of `Settings` where left out.
        progress: told how many of these are done.

    Raises:
        DataError: no case's item is among its candidates.
    """
    chosen = settings or Settings()
    # Weights fitted before would choose other candidates, and know nothing of signals that came since.
    recommender.fusion = None
    many = sample_cases(cases, CASES_ALONE, seed)
    found = []
    for start in range(0, len(many), BLOCK):
        block = [case.history for case in many[start : start + BLOCK]]
        found += recommender.candidates(block, chosen, CANDIDATES_ALONE, ask_model=False)
    values, places, _ = _judged(found, many, recommender.catalog)
    if not values:
        raise DataError("there is no validation case whose item is among the candidates, so no weights can be fitted")
    scales = tuple(float(scale) for scale in mean_positive(np.concatenate(values), axis=0)[0])
    weights = fit_weights([log_levels(rows, scales) for rows in values], places)
    # The candidates of the second step are those that the first step's weights put up, as they will be in use.
    fusion = Fusion(tuple(recommender.signals), scales, weights, 0.0, len(values), 0)
    recommender.fusion = fusion
    few = sample_cases(cases, with_model, seed)
    asked: list[Candidates] = []
    for start in range(0, len(few), BLOCK):
        asked += recommender.candidates([case.history for case in few[start : start + BLOCK]], chosen)
        if progress is not None:
            progress(len(asked), len(few))
    values, places, likelihoods = _judged(asked, few, recommender.catalog)
    if values:
        sums = [log_levels(rows, scales) @ np.array(weights) for rows in values]
        fusion = replace(fusion, model=fit_model_weight(sums, likelihoods, places), model_cases=len(values))
    recommender.fusion = fusion
    logger.info("fusion fitted on %d and %d validation cases: %s", fusion.cases, len(values), fusion.describe())
    return fusion


def _judged(
    found: Sequence[Candidates], cases: Sequence[Case], catalog: Catalog
) -> tuple[list[FloatArray], list[int], list[NDArray[np.float32]]]:
    """Return what signals say of the candidates, which of them was taken, and the model's log-likelihoods, if any."""
    values: list[FloatArray] = []
    places: list[int] = []
    likelihoods: list[NDArray[np.float32]] = []
    for own, case in zip(found, cases, strict=True):
        (place,) = np.nonzero(own.rows == catalog.row(case.target))
        if not len(place) or not case.history.items:
            continue
        values.append(own.values)
        places.append(int(place[0]))
        if own.likelihoods is not None:
            likelihoods.append(own.likelihoods)
    return values, places, likelihoods
