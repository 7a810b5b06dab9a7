"""Fitting a fusion on validation cases, once, for every list length.

First the weights of the signals without the language model, on many cases, since they cost little; these weights choose
the candidates. Then how much the language model counts beside them, on fewer cases, since the model must score every
candidate: one number, so that few cases cannot upset what many have said; or a forest, where they are not so few.

The easy mistake is to tune on the cases that are reported; only validation cases may come here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from genrec.baselines import sample_cases
from genrec.catalog import Catalog
from genrec.forest import forest_features
from genrec.ranking import Fusion, ModelCase, fit_model, fit_signals_weights
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
    values, shares, lengths = ([getattr(own, part) for own, _, _ in judged] for part in ("values", "shares", "length"))
    # The candidates of the second step are those that the first step's weights put up, as they will be in use.
    fusion, held_out = fit_signals_weights(
        tuple(recommender.signals), values, shares, lengths, [place for _, place, _ in judged], seed
    )
    seen = {case: number for number, (_, _, case) in enumerate(judged)}
    recommender.fusion = fusion
    few = sample_cases(cases, with_model, seed)
    asked: list[Candidates] = []
    for start in range(0, len(few), BLOCK):
        asked += recommender.candidates([case.history for case in few[start : start + BLOCK]], chosen)
        if progress is not None:
            progress(len(asked), len(few))
    with_likelihoods = []
    for own, place, case in _judged(asked, few, recommender.catalog):
        if own.likelihoods is None:
            continue
        evidence = own.evidence
        if held_out is not None and case in seen:
            unseen = held_out.scores(seen[case], forest_features(own.shares, own.length))
            evidence = fusion.linear(own.values) + np.float32(fusion.forest_weight) * unseen
        with_likelihoods.append(ModelCase(own.values, own.shares, own.length, evidence, own.likelihoods, place))
    if with_likelihoods:
        fusion = fit_model(fusion, with_likelihoods, seed)
    recommender.fusion = fusion
    logger.info(
        "fusion fitted on %d and %d validation cases: %s", fusion.cases, len(with_likelihoods), fusion.describe()
    )
    return fusion


def _judged(found: Sequence[Candidates], cases: Sequence[Case], catalog: Catalog) -> list[tuple[Candidates, int, Case]]:
    """Return the candidates of each case whose item is among them, its place there, and the case."""
    judged = []
    for own, case in zip(found, cases, strict=True):
        (place,) = np.nonzero(own.rows == catalog.row(case.target))
        if len(place) and case.history.items:
            judged.append((own, int(place[0]), case))
    return judged
