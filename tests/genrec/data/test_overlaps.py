"""Near duplicates: the quick search finds what comparing everything finds."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec.data.overlaps import TitleFinder, jaccard, similar_pairs, title_key


def test_jaccard_by_hand() -> None:
    assert jaccard(frozenset({1, 2, 3}), frozenset({2, 3, 4})) == 0.5
    assert jaccard(frozenset({1}), frozenset({1})) == 1
    assert jaccard(frozenset(), frozenset()) == 0


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    generator = np.random.default_rng(3)
    sets = [frozenset(generator.choice(5000, size=30, replace=False).tolist()) for _ in range(400)]
    planted = []
    for place in range(0, 400, 10):
        taken_out = min(sets[place])
        sets.append(sets[place] - {taken_out} | {5001})  # 29 of 31: 0.935
        planted.append((place, len(sets) - 1))
    assert similar_pairs(sets, 0.9) == planted
    assert similar_pairs(sets, 0.95) == []


@given(st.lists(st.frozensets(st.integers(0, 6), max_size=6), max_size=12))
def test_every_set_with_an_equal_is_found(sets: list[frozenset[int]]) -> None:
    found = {place for pair in similar_pairs(sets, 1.0) for place in pair}
    pairs = [(one, two) for one, two in combinations(range(len(sets)), 2) if sets[one] and sets[one] == sets[two]]
    equal = {place for pair in pairs for place in pair}
    assert found == equal


def test_a_thousand_equal_sets_do_not_make_half_a_million_pairs() -> None:
    pairs = similar_pairs([frozenset(range(10))] * 1000, 0.9)
    assert {place for pair in pairs for place in pair} == set(range(1000))
    assert len(pairs) < 4000


def test_it_is_quick_for_twenty_thousand_users() -> None:
    generator = np.random.default_rng(0)
    sets = [frozenset(row) for row in generator.integers(0, 12_000, size=(22_000, 9)).tolist()]
    start = time.process_time()
    similar_pairs(sets, 0.9)
    assert time.process_time() - start < 5


def test_the_same_seed_gives_the_same_pairs() -> None:
    sets = [frozenset({n, n + 1, n + 2}) for n in range(50)] * 2
    assert similar_pairs(sets, 0.9, seed=1) == similar_pairs(sets, 0.9, seed=1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Lost World: Jurassic Park", {"jurassic park"}),
        ("with JURASSIC  PARK, and die harder 2", {"jurassic park", "die harder 2", "die harder"}),
        ("Jurassic Parking", set()),
        ("The Big Sleep", set()),
        ("Back to Casablanca", set()),
        ("park jurassic", set()),
        ("", set()),
    ],
)
def test_titles_are_found_word_for_word(text: str, found: set[str]) -> None:
    finder = TitleFinder(
        ["Jurassic Park", "Die Harder 2", "Die Harder 2", "Die-Harder!!", "Big", "Casablanca", "It is", ""]
    )
    assert finder.find(text) == found


def test_the_key_is_what_find_returns() -> None:
    assert TitleFinder(["L.A. Confidential"]).find("about L.A. Confidential") == {title_key("L.A. Confidential")}
