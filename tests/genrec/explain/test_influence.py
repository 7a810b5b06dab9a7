"""Attribution against its own definition: shortened prompts read one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import DataError, History, Recommender
from genrec.explain import influence as attribution
from genrec.explain.influence import leave_one_out, log_likelihoods
from genrec.language.decoder import Decoder
from prompts.encoding import PromptParts
from retrieval.trie import TokenTrie
from tests.genrec.language.test_decoder import CAUSAL, SEQ2SEQ, VOCABULARY, make_model, make_sequences

OPENING, CUE = (5, 6), (7,)


def make_parts(items: int, cue: tuple[int, ...] = CUE, seed: int = 3) -> PromptParts:
    random = np.random.default_rng(seed)
    return PromptParts(
        OPENING, tuple(tuple(random.integers(3, VOCABULARY, random.integers(1, 4)).tolist()) for _ in range(items)), cue
    )


def one_by_one(name: str, parts: PromptParts, rows: Any, left_out: Any, normalisation: Any) -> np.ndarray:
    """The definition: a decoder of its own reads each shortened prompt alone and scores the items."""
    decoder = Decoder(make_model(name), TokenTrie.build(make_sequences()), normalisation)
    return np.stack([decoder.score(decoder.read([parts.without(gone)]), [rows])[0] for gone in left_out])


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary", "children"])
def test_log_likelihoods_are_those_of_the_shortened_prompts(
    name: str, normalisation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "PACKED_TOKENS", 40)  # several packs
    rows = np.array([4, 0, 17])
    decoder = Decoder(make_model(name), TokenTrie.build(make_sequences()), normalisation)
    for cue in (CUE, ()):
        parts = make_parts(6, cue)
        left_out: list[tuple[int, ...]] = [(), *((place,) for place in range(6)), (0, 5), (2, 3, 4), tuple(range(6))]
        found = log_likelihoods(decoder, parts, rows, left_out)
        np.testing.assert_allclose(found, one_by_one(name, parts, rows, left_out, normalisation), atol=2e-4)


def test_drops_are_differences_and_stop_at_the_newest() -> None:
    parts, rows = make_parts(6), np.array([9, 2])
    drops = leave_one_out(Decoder(make_model("llama"), TokenTrie.build(make_sequences())), parts, rows, newest=4)
    truth = one_by_one("llama", parts, rows, [(), *((place,) for place in range(6))], "catalogue")
    assert drops.shape == (2, 6)
    assert not drops[:, :2].any()
    np.testing.assert_allclose(drops[:, 2:], (truth[0] - truth[3:]).T, atol=2e-4)
    assert np.abs(drops[:, 2:]).min() > 1e-3  # random weights: every item moves something


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


def test_the_series_moves_the_next_part(recommender: Recommender) -> None:
    """The last part of a series, not the stray film before it, speaks for the next part."""
    history = ["Night Train 1", "Night Train 2", "Café Étoile 1", "Night Train 3"]
    found = recommender.attribute(history, "Night Train 4")
    assert {(one.place, one.item.title) for one in found} == set(enumerate(history))
    assert found[0].item.title == "Night Train 3"
    assert found[0].weight > 0
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)


def test_places_are_those_of_the_whole_history(recommender: Recommender) -> None:
    """A prompt too short for the history loses its oldest items; the places left count from the history's start."""
    history = [f"Red Harbour {part}" for part in (1, 2, 3, 4, 5, 6)] * 6
    kept = recommender.prompt(History("", tuple(map(recommender.find, history)))).kept
    assert attribution.NEWEST != kept < len(history)
    found = recommender.attribute(history, "Moon & Sixpence 1")
    assert {one.place for one in found} == set(range(len(history) - min(kept, attribution.NEWEST), len(history)))
    assert all(one.item.title == history[one.place] for one in found)


def test_one_item_and_none(recommender: Recommender) -> None:
    """With one item the drop is against the bare opening; with none there is nothing to leave out."""
    (only,) = recommender.attribute(["Night Train 1"], "Night Train 2")
    assert only.weight > 0
    assert recommender.attribute([], "Night Train 2") == []
    with pytest.raises(DataError, match="'Nothing' is neither"):
        recommender.attribute(["Night Train 1"], "Nothing")
