"""Known items that are pretended to be new, so that the score of new items can be fitted; see `ranking.new_items`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.baselines.search import sample_cases
from genrec.data.catalog import Catalog
from genrec.data.history_batch import HistoryBatch
from genrec.data.splits import Case, History
from genrec.language.decoder import Decoder
from genrec.ranking.candidates import CandidateMaker, Candidates
from genrec.ranking.cases import FOLDS, FitCase, Table
from genrec.ranking.fusion import Fusion
from genrec.ranking.new_items_fit import fit_new_items
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.signals.borrowing import signals_pretended
from genrec.signals.simple import Popularity
from training.backbone import with_token_vectors

logger = logging.getLogger(__name__)

LEAST_SHARE, MOST_SHARE = 0.05, 0.2
"""Of the items, how many are pretended to be new: more where cases are few."""

WANTED = 400
"""Cases whose answer is pretended to be new, for which the share is chosen."""

MOST = 1000
"""The most cases of each kind on which the model is asked."""

BLOCK = 256
"""The number of cases whose candidates are made at once."""


@dataclass(frozen=True, slots=True)
class Pretended:
    """A run in which some known items are as if they were new.

    Attributes:
        rows: their rows, rising.
        maker: makes candidates as if.
    """

    rows: NDArray[np.int64]
    maker: CandidateMaker


def with_new_items_fitted(
    recommender: Recommender,
    fusion: Fusion,
    cases: Sequence[Case],
    seed: int,
    settings: Settings,
    minutes: float,
) -> Fusion:
    """Return the fusion with the score of new items, where one can be fitted and helps.

    Args:
        recommender: the run.
        fusion: its fitted weights.
        cases: validation cases with a history.
        seed: draws the items and the cases.
        settings: how candidates are made.
        minutes: the time for which the model may be asked.
    """
    pretended = pretend(replace(recommender, fusion=fusion), share_for(len(cases)), seed)
    if pretended is None:
        return fusion
    hidden = {recommender.catalog.ids[row] for row in pretended.rows.tolist()}
    stripped = [one for case in cases if (one := without(case, hidden)).history.items]
    kinds = [[case for case in stripped if (case.target in hidden) is kind] for kind in (True, False)]
    share = len(kinds[0]) / max(1, len(stripped))
    asked = [sample_cases(some, min(MOST, len(some)), seed) for some in kinds]
    mixed = [case for part in asked for case in part]
    mixed = [mixed[place] for place in np.random.default_rng(seed).permutation(len(mixed)).tolist()]
    told: list[FitCase] = []
    candidates: list[Candidates] = []
    started = time.monotonic()
    for start in range(0, len(mixed), BLOCK):
        block = mixed[start : start + BLOCK]
        batch = HistoryBatch.of(recommender.catalog, [case.history for case in block])
        for own, case in zip(pretended.maker.make(batch, settings), block, strict=True):
            told.append(_fit_case(own, case, recommender.catalog, len(told) % FOLDS))
            candidates.append(own)
        if time.monotonic() - started > 60 * minutes:
            break
    if not told:
        return fusion
    answers_new = np.array([case.target in hidden for case in mixed[: len(told)]])
    scores = [
        fusion.with_model(own.alone, own.values, own.shares, own.length, own.likelihoods)
        for own in candidates
        if own.likelihoods is not None
    ]
    likelihoods = [own.likelihoods for own in candidates if own.likelihoods is not None]
    new, words = fit_new_items(
        Table(told), np.concatenate(scores), np.concatenate(likelihoods),
        np.concatenate([own.new for own in candidates]), answers_new, share, settings.k,
    )  # fmt: skip
    logger.info("%s", words)
    proof = fusion.proof and replace(fusion.proof, words=(*fusion.proof.words, words))
    return replace(fusion, new_items=new, proof=proof)


def share_for(cases: int) -> float:
    """Return the share of the items that are pretended to be new, given how many validation cases there are."""
    return float(np.clip(WANTED / max(1, cases), LEAST_SHARE, MOST_SHARE))


def without(case: Case, hidden: set[str]) -> Case:
    """Return a case without some items in its history."""
    history = case.history
    return Case(History(history.user, tuple(item for item in history.items if item not in hidden)), case.target)


def pretend(recommender: Recommender, share: float, seed: int) -> Pretended | None:
    """Return the run with a seeded share of its items as if they were new; None if the model has no f for them."""
    maker = recommender.token_maker
    popularity = recommender.signals["popularity"]
    if maker is None or not isinstance(popularity, Popularity):
        return None
    place = {token: number for number, token in enumerate(maker.meaning.tokens.tolist())}
    catalog, encoder = recommender.catalog, recommender.encoder
    answers = encoder.answers(catalog.labels)
    able = [
        row
        for row in range(len(catalog) - len(recommender.new_rows))
        if popularity.scores[row] > 0 and len(answers[row]) == 1 and answers[row][0] in place
    ]
    chosen = np.random.default_rng(seed).permutation(able)[: round(share * len(able))]
    rows = np.sort(chosen).astype(np.int64)
    if not 0 < len(rows) < len(catalog):
        return None
    tokens = [answers[row][0] for row in rows.tolist()]
    inside, head = (torch.from_numpy(table[[place[token] for token in tokens]]) for table in maker.meaning.alone)
    model = with_token_vectors(recommender.decoder.model, recommender.whole_head, torch.tensor(tokens), inside, head)
    decoder = Decoder(
        model, recommender.decoder.trie, recommender.decoder.normalisation, recommender.decoder.forced_tokens
    )
    vectors = recommender.index.vectors(catalog.ids)
    candidates = recommender.maker
    return Pretended(
        rows,
        replace(
            candidates,
            signals=signals_pretended(recommender.signals, catalog, vectors, rows),
            proposer=replace(candidates.proposer, decoder=decoder),
            new=rows,
        ),
    )


def _fit_case(own: Candidates, case: Case, catalog: Catalog, fold: int) -> FitCase:
    (place,) = np.nonzero(own.rows == catalog.row(case.target))
    target = int(place[0]) if len(place) else None
    return FitCase(own.values, own.shares, own.length, target, fold, own.likelihoods)
