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

from genrec.baselines import sample_cases
from genrec.catalog import Catalog
from genrec.ranking import Fusion, fit_model_weight, fit_signals_weights
from genrec.recommender import Candidates, Recommender, Settings
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
    judged = _judged(found, many, recommender.catalog)
    values, shares, lengths = ([getattr(own, part) for own, _ in judged] for part in ("values", "shares", "length"))
    # The candidates of the second step are those that the first step's weights put up, as they will be in use.
    fusion = fit_signals_weights(
        tuple(recommender.signals), values, shares, lengths, [place for _, place in judged], seed
    )
    recommender.fusion = fusion
    few = sample_cases(cases, with_model, seed)
    asked: list[Candidates] = []
    for start in range(0, len(few), BLOCK):
        asked += recommender.candidates([case.history for case in few[start : start + BLOCK]], chosen)
        if progress is not None:
            progress(len(asked), len(few))
    judged = [(own, place) for own, place in _judged(asked, few, recommender.catalog) if own.likelihoods is not None]
    if judged:
        sums = [own.evidence for own, _ in judged]
        likelihoods = [own.likelihoods for own, _ in judged if own.likelihoods is not None]
        weight = fit_model_weight(sums, likelihoods, [place for _, place in judged])
        fusion = replace(fusion, model=weight, model_cases=len(judged))
    recommender.fusion = fusion
    logger.info("fusion fitted on %d and %d validation cases: %s", fusion.cases, len(judged), fusion.describe())
    return fusion


def _judged(found: Sequence[Candidates], cases: Sequence[Case], catalog: Catalog) -> list[tuple[Candidates, int]]:
    """Return the candidates of each case whose item is among them, and its place there."""
    judged = []
    for own, case in zip(found, cases, strict=True):
        (place,) = np.nonzero(own.rows == catalog.row(case.target))
        if len(place) and case.history.items:
            judged.append((own, int(place[0])))
    return judged
