from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.encoders import HashingEncoder
from retrieval.errors import RetrievalError
from retrieval.grounding import Grounder, Match, normalise_title
from retrieval.index import ItemIndex

FILMS = {
    "1": "Toy Story (1995)",
    "2": "Toy Story 2 (1999)",
    "3": "Matrix, The (1999)",
    "4": "Sabrina (1954)",
    "5": "Sabrina (1995)",
    "6": "Schindler's List (1993)",
    "7": "Twelve Monkeys (1995)",
    "8": "Blade Runner (1982)",
    "9": "Blade Runner 2049 (2017)",
    "10": "מלך האריות",
    "11": "💩 Movie 🎬",
    "12": "Pulp Fiction",
}


def grounder(titles=FILMS, **settings):
    encoder = HashingEncoder()
    index = ItemIndex.build(list(titles), encoder.encode(list(titles.values())))
    return Grounder(list(titles), list(titles.values()), index, encoder, **settings)


def named(matches):
    return [(match.item, match.how) for match in matches]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The Matrix", "matrix,  the"),
        ("Schindler's List", "SCHINDLER\u2019S LIST"),
        ("Tom & Jerry", "Tom and Jerry"),
        ("Tom & Jerry", "Tom &amp; Jerry"),
        ("Toy Story", " Toy\n\tStory. "),
        ("Toy Story", "<b>Toy</b> Story<br/>"),
        ("Face/Off", "Face-Off"),
        ("\uff34\uff2f\uff39 Story", "Toy Story"),
        ("\u213b Machine", "fax machine"),
        ("Schindlers List", "Schindler's List"),
        ("Straße", "STRASSE"),
        ("ﬁlm", "FILM"),
        ("מלך האריות", "\u200f\u202bמלך האריות\u202c"),
        ("❤", "❤\ufe0f"),
        ("Amélie", "Ame\u0301lie"),
        ("Sabrina (1954)", "Sabrina [1954]"),
        ("The Matrix (1999)", "Matrix, The (1999)"),
    ],
)
def test_titles_that_count_as_the_same(text, same):
    assert normalise_title(text) == normalise_title(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("C++", "C"),
        ("???", "!"),
        ("💩", "🎬"),
        ("Sabrina (1954)", "Sabrina (1995)"),
        ("Sabrina (1954)", "Sabrina"),
        ("The Matrix", "Matrix"),
        ("I <3 You", "I You"),
    ],
)
def test_titles_that_do_not(text, other):
    assert normalise_title(text) != normalise_title(other)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("Sabrina (1954)", "sabrina"),
        ("Sabrina [1954]", "sabrina"),
        ("Matrix, The (1999)", "the matrix"),
        ("Blade Runner 2049", "blade runner 2049"),
        ("2001 (1968)", "2001"),
        ("(1995)", "1995"),
        ("Room (237)", "room 237"),
        ("Apollo (1995) Remastered", "apollo 1995 remastered"),
    ],
)
def test_the_year_can_be_dropped(text, without):
    assert normalise_title(text, year=False) == without


@given(st.text())
def test_any_text_has_a_normal_form_that_is_empty_only_for_nothing_visible(text):
    form = normalise_title(text)
    assert form == " ".join(form.split())
    assert normalise_title(f"  {text}\u200b") == form


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story (1995)", [("1", "exact")]),
        (" Toy Story (1995)\n", [("1", "exact")]),
        ("toy story 1995", [("1", "normalised")]),
        ("toy story", [("1", "normalised")]),
        ("The Matrix", [("3", "normalised")]),
        ("Blade Runner", [("8", "normalised")]),
        ("blade runner 2049", [("9", "normalised")]),
        ("Toy Story (2017)", [("1", "normalised")]),
        ("מלך האריות", [("10", "exact")]),
        ("💩 movie 🎬!", [("11", "normalised")]),
        ("Toy Storys", [("1", "nearest")]),
        ("Pulp Fictional", [("12", "nearest")]),
        ("Pulp Fiction (1994)", [("12", "normalised")]),
        ("", []),
        (" \n", []),
    ],
)
def test_each_way_to_ground_a_text(text, expected):
    assert named(grounder().ground(text)) == expected


def test_a_stated_year_decides():
    assert named(grounder().ground("sabrina (1995)", k=1)) == [("5", "normalised")]
    assert named(grounder().ground("Sabrina", k=2)) == [("4", "normalised"), ("5", "normalised")]
    assert named(grounder().ground("Sabrina (2020)", k=2)) == [("4", "normalised"), ("5", "normalised")]


def test_items_that_share_a_title_all_come_in_catalogue_order_before_any_other():
    titles = {"z": "Gift Card", "b": "gift card!", "a": "Gift Card", "m": "Gift Cards", "c": "Soap"}
    shared = grounder(titles)
    assert named(shared.ground("Gift Card", k=4)) == [
        ("z", "exact"), ("a", "exact"), ("b", "normalised"), ("m", "nearest"),
    ]  # fmt: skip
    assert named(shared.ground("GIFT CARD", k=2)) == [("z", "normalised"), ("b", "normalised")]
    assert named(shared.ground("Gift Card", k=1)) == [("z", "exact")]


def test_a_label_names_its_item_too():
    labels = ["Gift Card", "Gift Card (2)"]
    labelled = grounder({"a": "Gift Card", "b": "Gift Card"}, labels=labels)
    assert named(labelled.ground("Gift Card (2)")) == [("b", "exact")]
    assert named(labelled.ground("gift card (2)")) == [("b", "normalised")]
    assert named(labelled.ground("Gift Card", k=2)) == [("a", "exact"), ("b", "exact")]


def test_scores_are_similarities():
    matches = grounder().ground("Toy Story (1995)", k=3)
    assert matches[0] == Match("1", 1.0, "exact")
    assert matches[1].item == "2"
    encoder = HashingEncoder()
    first, second = encoder.encode([FILMS["1"], FILMS["2"]])
    assert matches[1].score == pytest.approx(float(first @ second), abs=1e-6)
    assert matches[1].score > matches[2].score


def test_rounding_takes_no_score_beyond_one():
    # The hashing encoder does not see the order of words, so these vectors are the titles' own.
    titles = {str(row): f"word{row} other{row} third{row} more{row}" for row in range(200)}
    turned = [" ".join(reversed(title.split())) for title in titles.values()]
    matches = [found[0] for found in grounder(titles).ground_many(turned)]
    assert named(matches) == [(item, "nearest") for item in titles]
    assert max(match.score for match in matches) <= 1.0
    assert min(match.score for match in matches) > 1 - 1e-6


def test_below_the_threshold_nothing_is_near():
    strict = grounder(threshold=0.4)
    assert named(strict.ground("Toy Storys")) == [("1", "nearest")]
    assert strict.ground("qqq www") == []
    assert named(strict.ground("Pulp Fiction", k=12)) == [("12", "exact")]
    assert len(grounder().ground("qqq www")) == 1


@pytest.mark.parametrize("text", ["😀😀😀", "שלום עולם", "word " * 2000, "\u0000", "(1995)", "<b>", "&amp;", "\u200b"])
def test_strange_texts_are_grounded_to_something(text):
    assert len({match.item for match in grounder().ground(text, k=5)}) == 5
    assert len(grounder().ground_generations([(text, -1.0)], k=5)) == 5


def test_many_equals_one_by_one():
    texts = ["Toy Story", "", "Pulp Fictional", "Sabrina", "qqq"]
    for k in (1, 3, 20):
        assert grounder().ground_many(texts, k) == [grounder().ground(text, k) for text in texts]


def test_generations_keep_the_order_of_the_language_models_scores():
    beams = [("Pulp Fiction", -3.0), ("Toy Story", -1.0), ("Blade Runer", -2.0)]
    fused = grounder().ground_generations(beams, k=3)
    assert [(match.item, match.how, text) for match, text in fused] == [
        ("1", "normalised", "Toy Story"),
        ("8", "nearest", "Blade Runer"),
        ("12", "exact", "Pulp Fiction"),
    ]


def test_further_neighbours_come_in_rounds_after_every_beams_own():
    beams = [("Toy Story (1995)", -1.0), ("Blade Runner (1982)", -2.0)]
    fused = [(match.item, text[:3]) for match, text in grounder().ground_generations(beams, k=4)]
    # Own items first, then the best beam's next neighbour, then the second beam's.
    assert fused == [("1", "Toy"), ("8", "Bla"), ("2", "Toy"), ("9", "Bla")]


def test_a_turn_is_not_spent_on_an_item_that_is_taken():
    beams = [("Toy Story (1995)", -1.0), ("Toy Story 2 (1999)", -2.0), ("Pulp Fiction", -3.0)]
    own = ["1", "2", "12"]
    nearest = [[match.item for match in grounder().ground(text, k=12)] for text, _ in beams]
    first_turn = [next(item for item in items if item not in own) for items in nearest]
    fused = [match.item for match, _ in grounder().ground_generations(beams, k=3 + len(set(first_turn)))]
    assert fused == [*own, *dict.fromkeys(first_turn)]


def test_among_equal_scores_the_more_similar_goes_first():
    beams = [("Pulp Fictionally", -1.0), ("Toy Story", -1.0), ("Pulp Fictional", -1.0)]
    fused = grounder().ground_generations(beams, k=2)
    assert [match.item for match, _ in fused] == ["1", "12"]
    assert fused[1][1] == "Pulp Fictional"


@pytest.mark.parametrize("scores", [(-1.0, -5.0), (-5.0, -1.0)])
def test_of_equal_texts_the_best_score_counts(scores):
    beams = [("Toy Story", scores[0]), ("Pulp Fiction", -2.0), ("Toy Story", scores[1])]
    assert [match.item for match, _ in grounder().ground_generations(beams, k=2)] == ["1", "12"]


def test_seen_items_are_passed_over_and_k_come_back():
    beams = [("Toy Story", -1.0), ("Toy Story 2", -2.0), ("Toy Story", -5.0)]
    fused = grounder().ground_generations(beams, k=9, exclude={"1", "5"})
    items = [match.item for match, _ in fused]
    assert items[0] == "2"
    assert fused[0][0].how == "normalised"
    assert len(set(items)) == 9
    assert not {"1", "5"} & set(items)
    # Only ten are left.
    assert len(grounder().ground_generations(beams, k=50, exclude=["1", "5"])) == 10


def test_a_beam_that_names_a_seen_item_waits_with_its_neighbours():
    beams = [("Toy Story", -1.0), ("Pulp Fiction", -2.0)]
    fused = grounder().ground_generations(beams, k=2, exclude={"1"})
    assert [(match.item, match.how) for match, _ in fused] == [("12", "exact"), ("2", "nearest")]


def test_a_beam_below_the_threshold_waits_too():
    beams = [("Toy Storys qqq www eee rrr", -1.0), ("Pulp Fiction", -2.0)]
    assert [match.item for match, _ in grounder(threshold=0.9).ground_generations(beams, k=2)] == ["12", "1"]
    assert [match.item for match, _ in grounder().ground_generations(beams, k=2)] == ["1", "12"]


def test_shared_titles_in_one_beam_are_all_taken():
    titles = {"a": "Gift Card", "b": "Gift Card", "c": "Soap"}
    beams = [("Gift Card", -1.0), ("Soap", -2.0)]
    fused = grounder(titles).ground_generations(beams, k=3, exclude=["a"])
    assert [match.item for match, _ in fused] == ["b", "c"]
    assert [match.item for match, _ in grounder(titles).ground_generations(beams, k=2)] == ["a", "b"]


def test_texts_without_content_still_give_k_items_in_catalogue_order():
    fused = grounder().ground_generations([("", -1.0), ("  ", -0.5)], k=3, exclude=["1"])
    assert [match for match, _ in fused] == [Match(item, 0.0, "nearest") for item in ("2", "3", "4")]
    assert [match.item for match, _ in grounder().ground_generations([], k=2)] == ["1", "2"]
    # A blank beam among others gives nothing.
    assert [match.item for match, _ in grounder().ground_generations([("", 0.0), ("Sabrina", -1.0)], k=2)] == ["4", "5"]


def test_named_beams_need_no_encoder():
    class Encoder(HashingEncoder):
        def encode(self, texts, progress=False):
            assert list(texts) == [], "encoded without need"
            return super().encode(texts)

    titles = list(FILMS.values())
    index = ItemIndex.build(list(FILMS), HashingEncoder().encode(titles))
    quick = Grounder(list(FILMS), titles, index, Encoder())
    assert len(quick.ground_generations([("Toy Story", -1.0), ("Sabrina", -2.0), ("Pulp Fiction", -3.0)], k=4)) == 4
    assert len(quick.ground_generations([("Toy Story", -1.0)], k=4)) == 4
    assert len(quick.ground_generations([("Toy Story", -1.0), ("unheard of", -2.0)], k=1)) == 1
    with pytest.raises(AssertionError, match="encoded without need"):
        quick.ground("unheard of")


WORDS = st.sampled_from(["Toy Story", "Sabrina", "Blade Runner", "Pulp", "qqq", "", " ", "Matrix", "💩"])


@settings(max_examples=60, deadline=None)
@given(
    beams=st.lists(st.tuples(WORDS, st.floats(-9, 0)), max_size=6),
    k=st.integers(1, 14),
    exclude=st.sets(st.sampled_from(sorted(FILMS))),
    threshold=st.sampled_from([None, 0.5, 1.1]),
)
def test_k_different_unseen_items_whatever_was_generated(beams, k, exclude, threshold):
    fused = grounder(threshold=threshold).ground_generations(beams, k, exclude)
    items = [match.item for match, _ in fused]
    assert len(items) == len(set(items)) == min(k, len(FILMS) - len(exclude))
    assert not set(items) & exclude


def test_a_new_item_is_found_the_moment_its_title_is_added():
    growing = grounder()
    assert growing.ground("Heat (1995)")[0].item != "13"
    growing.add(["13"], ["Heat (1995)"])
    assert named(growing.ground("Heat (1995)")) == [("13", "exact")]
    assert named(growing.ground("heat")) == [("13", "normalised")]
    assert named(growing.ground("Heats (1995)")) == [("13", "nearest")]
    with pytest.raises(RetrievalError, match="'13' is in the index already"):
        growing.add(["13"], ["Heat again"])


def test_an_item_removed_from_the_index_is_found_no_more_by_any_name():
    encoder = HashingEncoder()
    index = ItemIndex.build(["1", "2"], encoder.encode(["Heat", "Ronin"]))
    two = Grounder(["1", "2"], ["Heat", "Ronin"], index, encoder)
    index.remove(["1"])
    assert named(two.ground("Heat")) == [("2", "nearest")]
    two.add(["1"], ["A New Title"])
    assert named(two.ground("a new title")) == [("1", "normalised")]
    assert named(two.ground("Heat"))[0][1] == "nearest"


def test_a_match_makes_the_round_trip_through_json():
    for how in ("exact", "normalised", "nearest"):
        match = Match("242", 0.75, how)
        assert Match.from_json(json.loads(json.dumps(match.to_json()))) == match
    with pytest.raises(RetrievalError, match="how is 'guessed', expected one of exact, normalised, nearest"):
        Match.from_json({"item": "1", "score": 0, "how": "guessed"})


def test_refuses_what_does_not_fit():
    encoder = HashingEncoder()
    index = ItemIndex.build(["1"], encoder.encode(["Heat"]))
    with pytest.raises(RetrievalError, match="2 ids for 1 titles; give one of each"):
        Grounder(["1", "2"], ["Heat"], index, encoder)
    with pytest.raises(RetrievalError, match="1 ids for 1 titles and 0 labels"):
        Grounder(["1"], ["Heat"], index, encoder, labels=[])
    with pytest.raises(RetrievalError, match="the encoder hashing gives 8 numbers, the index has 512; use the encoder"):
        Grounder(["1"], ["Heat"], index, HashingEncoder(8))
    with pytest.raises(RetrievalError, match="k is 0, expected at least 1"):
        grounder().ground("Heat", k=0)
    with pytest.raises(RetrievalError, match="k is 0, expected at least 1"):
        grounder().ground_generations([("Heat", -1.0)], k=0)


def test_it_works_with_an_approximate_index():
    encoder = HashingEncoder(64)
    titles = [f"{name} part {number}" for name in ("Alpha", "Bravo", "Gamma") for number in range(100)]
    ids = [str(row) for row in range(300)]
    vectors = encoder.encode(titles)
    for kind in ("hnsw", "ivf-pq"):
        many = Grounder(ids, titles, ItemIndex.build(ids, vectors, kind=kind), encoder)
        assert named(many.ground("bravo part 7")) == [("107", "normalised")]
        fused = many.ground_generations([("Bravo part", -1.0), ("Gamma part 9!", -2.0)], 50, ids[100:120])
        assert len({match.item for match, _ in fused}) == 50
        assert fused[1][0] == Match("209", 1.0, "normalised")
        assert np.all([match.item not in ids[100:120] for match, _ in fused])
