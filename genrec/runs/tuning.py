"""Fitting a fusion on validation cases, once, for every list length.

The signals without the language model are fitted first, on many cases, because they cost little. Then the model is
asked on one block of cases after another, until its gain is known precisely enough, or the time or the cases are used
up. `genrec.ranking.fitting` chooses the parts and documents the rules.

Only validation cases may be passed: fitting on test cases would make the reported figures too high.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from genrec.baselines.search import sample_cases
from genrec.data.catalog import Catalog
from genrec.data.splits import Case
from genrec.errors import DataError
from genrec.ranking.candidate_numbers import TRIED_EACH
from genrec.ranking.candidates import Candidates
from genrec.ranking.cases import FOLDS, FitCase, Table
from genrec.ranking.fitting import fit_model
from genrec.ranking.fusion import Fusion
from genrec.ranking.model_cases import settled
from genrec.ranking.without_model import TRIED_TOGETHER, fit_signals_fusion
from genrec.recommender import Recommender
from genrec.runs.pretending import with_new_items_fitted
from genrec.settings import Settings

logger = logging.getLogger(__name__)

CASES_ALONE = 4000
"""The most validation cases for the weights without the language model."""

CANDIDATES_ALONE = 200
"""Candidates of each such case: more than are ranked later, so that the weights also learn to reject items."""

BLOCK = 256
"""The number of cases whose candidates are made at once."""

MINUTES = 5.0
"""The time for which the language model may be asked, by default."""


MINUTES_FOR_NEW = 0.5
"""The time for which it may be asked about items that are pretended to be new, where nothing is left of the other."""


def tune_fusion(
    recommender: Recommender,
    cases: Sequence[Case],
    with_model: int | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
    minutes: float = MINUTES,
) -> Fusion:
    """Fit the weights of a recommender's signals, and choose which are used; the recommender is not changed.

    To use the result, set the recommender's `fusion` to it. A case whose target is not among its candidates is not used
    to fit weights, but counts as a miss in every figure on which a choice is based.

    Args:
        recommender: the run; its training must not have used the cases' targets.
        cases: validation cases.
        with_model: the most cases, drawn by the seed, on which the language model is asked; all by default.
        seed: the seed of the draw.
        settings: how the candidates are made, above all `k` and `exclude_seen`; the defaults of `Settings` if left
            out.
        progress: called with the number of these cases that are done.
        minutes: the time for which the model may be asked; the first block is always finished.

    Raises:
        DataError: no case's target is among its candidates.
    """
    chosen = settings or Settings()
    # Earlier weights would choose other candidates, and would lack signals that were added since.
    plain = replace(recommender, fusion=None)
    usable = [case for case in cases if case.history.items]
    drawn = sample_cases(usable, len(usable), seed)
    order = np.random.default_rng(seed).permutation(len(drawn))
    fold = dict(zip(order.tolist(), (np.arange(len(drawn)) % FOLDS).tolist(), strict=True))
    told: list[FitCase] = []
    many = order[:CASES_ALONE].tolist()
    for start in range(0, len(many), BLOCK):
        block = [drawn[place] for place in many[start : start + BLOCK]]
        found = plain.candidates([case.history for case in block], chosen, CANDIDATES_ALONE, False, TRIED_EACH)
        folds = [fold[place] for place in many[start : start + BLOCK]]
        told += _fit_cases(found, block, folds, recommender.catalog)
    if not told:
        raise DataError("there is no validation case with a history, so no weights can be fitted")
    fit = fit_signals_fusion(tuple(recommender.signals), Table(told), chosen.k, seed)
    few = order[:with_model].tolist() if with_model is not None else order.tolist()
    # The weights choose the candidates, as in use; each case's weights were fitted without it.
    asking = [replace(recommender, fusion=own) for own in fit.folds]
    asked: list[FitCase] = []
    started = time.monotonic()
    for start in range(0, len(few), BLOCK):
        block_places = few[start : start + BLOCK]
        for number, one in enumerate(asking):
            block = [drawn[place] for place in block_places if fold[place] == number]
            if block:
                found = one.candidates([case.history for case in block], chosen, TRIED_TOGETHER, True, TRIED_EACH)
                asked += _fit_cases(found, block, [number] * len(block), recommender.catalog)
        if progress is not None:
            progress(len(asked), len(few))
        if time.monotonic() - started > 60 * minutes or settled(fit, asked, chosen.k):
            break
    fusion = fit_model(fit, asked, seed, chosen.k, recommender.excludes_seen(chosen))
    left = minutes - (time.monotonic() - started) / 60
    fusion = with_new_items_fitted(recommender, fusion, usable, seed, chosen, max(left, MINUTES_FOR_NEW))
    logger.info("fusion fitted on %d and %d validation cases: %s", fusion.cases, len(asked), fusion.describe())
    return fusion


def _fit_cases(
    found: Sequence[Candidates], cases: Sequence[Case], folds: Sequence[int], catalog: Catalog
) -> list[FitCase]:
    """Return the fit's data of each case."""
    told = []
    for own, case, fold in zip(found, cases, folds, strict=True):
        (place,) = np.nonzero(own.rows == catalog.row(case.target))
        target = int(place[0]) if len(place) else None
        by_model = np.isin(own.rows, own.found.rows)
        told.append(FitCase(own.values, own.shares, own.length, target, fold, own.likelihoods, by_model))
    return told
