"""Free generation on the toy model: the right text, seeds, batches, and a head that is put back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from genrec import History, Recommender
from tests.toyworld import make_catalog


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


def prompts(recommender: Recommender) -> list[tuple[int, ...]]:
    ids = make_catalog().ids
    return [
        recommender.prompt(History("", ids[start : start + length])).input_ids for start, length in ((0, 2), (6, 4))
    ]


def test_beams_write_the_next_title(recommender: Recommender) -> None:
    first, second = recommender.generator.generate(prompts(recommender), 4)
    assert first[0].text == "Red Harbour 3"
    assert second[0].text == "Night Train 5"
    assert [generation.score for generation in first] == sorted((g.score for g in first), reverse=True)


def test_a_title_ends_where_its_ending_begins(recommender: Recommender) -> None:
    """With a stop that is never written, only the ending says where the title is over."""
    assert recommender.generator is not None
    free = replace(recommender.generator, stop=0, ending="\n")
    first, second = free.generate(prompts(recommender), 1)
    assert [first[0].text, second[0].text] == ["Red Harbour 3", "Night Train 5"]


def test_padding_changes_nothing(recommender: Recommender) -> None:
    together = recommender.generator.generate(prompts(recommender), 3)
    for prompt, written in zip(prompts(recommender), together, strict=True):
        (alone,) = recommender.generator.generate([prompt], 3)
        assert [generation.text for generation in alone] == [generation.text for generation in written]
        assert [g.score for g in alone] == pytest.approx([g.score for g in written], abs=1e-4)


@pytest.mark.parametrize("method", ["sampling", "diverse"])
def test_a_seed_decides_what_is_drawn(recommender: Recommender, method: str) -> None:
    draw = lambda seed: recommender.generator.generate(prompts(recommender), 6, method, seed)  # type: ignore[arg-type]  # noqa: E731
    assert draw(1) == draw(1)
    assert any(draw(1) != draw(seed) for seed in range(2, 6))


def test_diverse_beams_differ(recommender: Recommender) -> None:
    (written, _) = recommender.generator.generate(prompts(recommender), 6, "diverse")
    assert len({generation.text for generation in written}) == 6


def test_the_decoders_head_is_put_back(recommender: Recommender) -> None:
    before = recommender.decoder.model.get_output_embeddings()
    recommender.generator.generate(prompts(recommender), 2)
    assert recommender.decoder.model.get_output_embeddings() is before
