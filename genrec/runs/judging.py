"""The language model alone on validation cases: its lists by constrained decoding, and their NDCG.

Training computes it after each pass to choose the best one; a preference stage is measured by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genrec.baselines.search import sample_cases
from genrec.data.catalog import Catalog
from genrec.data.rows import NO_ITEM, FloatArray, IntArray
from genrec.data.splits import Case
from genrec.evaluation.metrics import RANK_METRICS, ranks_in_lists
from genrec.language.decoder import Decoder, Normalisation, batches_by_length
from genrec.recommender import Recommender
from genrec.settings import Settings
from prompts.encoding import PromptEncoder
from retrieval.trie import TokenTrie
from training.backbone import with_own_head
from training.best_pass import Judge
from training.recipe import Recipe

K = 10
"""The list length that is measured."""

BEAMS = 20
"""Beams that lists are made with."""


def model_lists(
    decoder: Decoder,
    encoder: PromptEncoder,
    catalog: Catalog,
    cases: Sequence[Case],
    exclude_seen: bool,
    beams: int = BEAMS,
) -> tuple[list[tuple[int, ...]], list[IntArray]]:
    """Return each case's prompt, and the item rows that the model names, best first.

    Args:
        decoder: the model under the catalogue's constraint.
        encoder: histories to prompts.
        catalog: the items.
        cases: the cases; their histories are not empty.
        exclude_seen: whether items of the history are left out.
        beams: the number of beams and of items.
    """
    prompts = [encoder.prompt([catalog[item].label for item in case.history.items]).input_ids for case in cases]
    seen = [np.unique(np.array(catalog.rows(case.history.items if exclude_seen else ()), np.int64)) for case in cases]
    lists = [np.zeros(0, np.int64)] * len(cases)
    for places in batches_by_length([len(prompt) for prompt in prompts], 32):
        read = decoder.read([prompts[place] for place in places])
        found = decoder.search(read, beams, beams, [seen[place] for place in places])
        for place, answer in zip(places, found, strict=True):
            lists[place] = answer.rows
    return prompts, lists


def model_ndcg(
    decoder: Decoder, encoder: PromptEncoder, catalog: Catalog, cases: Sequence[Case], exclude_seen: bool, k: int = K
) -> FloatArray:
    """Return the NDCG@k of the language model alone for each case, float64 [cases]; the arguments of `model_lists`."""
    _, lists = model_lists(decoder, encoder, catalog, cases, exclude_seen)
    table = np.full((len(cases), k), NO_ITEM, np.int64)
    for place, rows in enumerate(lists):
        table[place, : min(k, len(rows))] = rows[:k]
    ranks = ranks_in_lists(table, np.array([catalog.row(case.target) for case in cases]))
    return RANK_METRICS["ndcg"](ranks, k)


def run_ndcg(recommender: Recommender, cases: Sequence[Case]) -> FloatArray:
    """Return the NDCG@10 of a run's language model alone for each case; seen items are left out as the run has it."""
    exclude_seen = recommender.excludes_seen(Settings())
    return model_ndcg(recommender.decoder, recommender.encoder, recommender.catalog, cases, exclude_seen)


def judge_maker(
    head: Any,
    trie: TokenTrie,
    encoder: PromptEncoder,
    catalog: Catalog,
    valid: Sequence[Case],
    recipe: Recipe,
    exclude_seen: bool,
) -> Callable[[Any], Judge] | None:
    """Return a function that makes a judge for a model in training: the mean NDCG@10 on a sample of cases.

    The judge decodes with the weights that are being trained. It holds a second model that shares them all, so that the
    decoder's attention and head do not change the model in training.

    Args:
        head: the model's whole output head, from before training cut it to the catalogue's tokens.
        trie: the catalogue's.
        encoder: histories to prompts.
        catalog: the items.
        valid: validation cases; those without a history are left out.
        recipe: says how many are asked, and over which tokens the model is normalised.
        exclude_seen: whether items of the history are left out.

    Returns:
        None where the recipe asks for no judging, or there is no case.
    """
    usable = [case for case in valid if case.history.items]
    if not usable or not recipe.judged_cases:
        return None
    cases = sample_cases(usable, recipe.judged_cases, recipe.seed)
    normalisation: Normalisation = "catalogue" if recipe.loss == "catalogue" else "vocabulary"

    def judge_of(adapted: Any) -> Judge:
        def judge() -> float:
            # Made anew each time: a decoder holds memory that training needs, and costs little beside a pass.
            decoder = Decoder(with_own_head(adapted.get_base_model(), head), trie, normalisation)
            return float(model_ndcg(decoder, encoder, catalog, cases, exclude_seen).mean())

        return judge

    return judge_of
