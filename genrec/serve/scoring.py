"""Scoring of given items for one history, as `recommend` scores candidates; the model scores only these items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genrec.data.splits import History
from genrec.language.decoder import Found
from genrec.ranking.ranker import Ranker
from genrec.recommendation import Recommendation
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.taste.reading import Heard


def score_items(recommender: Recommender, history: History, items: Sequence[str]) -> list[Recommendation]:
    """Return the items in the order of their scores; scores are comparable within one history only.

    Args:
        recommender: the run that scores.
        history: the user's history.
        items: item ids; they may be in the history. Each is returned once.

    Raises:
        DataError: an item is not in the catalogue.
    """
    catalog, decoder = recommender.catalog, recommender.decoder
    wanted = np.array(sorted(set(catalog.rows(items))), np.int64)
    settings = Settings(k=max(1, len(wanted)), exclude_seen=False)
    # With all items asked for, no constraint that a taste states leaves any out.
    whole = replace(settings, k=len(catalog))
    (everything,) = recommender.candidates([history], whole, count=len(catalog), ask_model=False)
    place_of = np.full(len(catalog), -1, np.int64)
    place_of[everything.rows] = np.arange(len(everything.rows))
    places = place_of[wanted]
    likelihoods, found = None, everything.found
    if history.basis != "nothing":
        read = decoder.read([tuple(recommender.prompt(history).input_ids)])
        (likelihoods,) = decoder.score(read, [wanted])
        order = np.argsort(-likelihoods, kind="stable")
        found = Found(wanted[order], likelihoods[order])
    own = replace(
        everything,
        rows=wanted,
        values=everything.values[places],
        shares=everything.shares[places],
        evidence=everything.evidence[places],
        alone=everything.alone[places],
        taste=None if everything.taste is None else everything.taste[places],
        new=everything.new[places],
        heard=Heard(),
        likelihoods=likelihoods,
        found=found,
        texts={},
    )
    ranker = Ranker(
        catalog, tuple(recommender.signals), recommender.fusion, recommender.order, lambda: recommender.facts
    )
    taken = np.array(catalog.rows(history.items), np.int64)
    return ranker.rank(own, taken, settings).recommendations
