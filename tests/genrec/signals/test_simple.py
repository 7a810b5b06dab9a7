"""Signals: one contract for all, hand-computed scores, worlds with a known answer, and MovieLens figures."""

import importlib.util
import math

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from genrec.data.catalog import Catalog, Item
from genrec.data.prepared import prepare
from genrec.data.rows import NO_ITEM, tie_order
from genrec.data.sources import read_source
from genrec.data.splits import History, leave_one_out
from genrec.errors import ArtefactError, DataError
from genrec.evaluation.metrics import RANK_METRICS, ranks_of_targets
from genrec.signals.simple import Content, CoOccurrence, ItemKNN, Popularity, RecentPopularity, top_items

DAY = 86_400


def catalog_of(*ids):
    return Catalog.from_items([Item(id=item, title=f"Title {item}") for item in ids])


def history(*items, user="u", times=()):
    return History(user, items, times)


LETTERS = catalog_of("a", "b", "c", "d", "e")
LOG = (
    history("a", "b", "c", user="1", times=(0, DAY, 2 * DAY)),
    history("b", "c", user="2", times=(2 * DAY, 3 * DAY)),
    history("a", "d", user="3", times=(4 * DAY, 5 * DAY)),
)
"""No one took e."""

VECTORS = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [0, 0]], dtype=np.float32)


class SignalContract:
    """What every signal promises; a test class inherits this and says how its signal is made."""

    def make(self):
        raise NotImplementedError

    learns_from_histories = True

    @pytest.fixture
    def signal(self):
        return self.make()

    def test_gives_a_finite_score_to_every_item(self, signal):
        scores = signal.score([history("a", "b"), history("c")])
        assert scores.shape == (2, 5)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_scores_no_history_at_all(self, signal):
        assert signal.score([]).shape == (0, 5)

    def test_scores_an_empty_history(self, signal):
        assert np.isfinite(signal.score([history()])).all()

    def test_needs_no_user(self, signal):
        known, stranger = signal.score([history("a", "b", user="1"), history("a", "b", user="never seen")])
        assert np.array_equal(known, stranger)

    def test_a_batch_gives_what_single_calls_give(self, signal):
        rng = np.random.default_rng(0)
        histories = [history(*rng.choice(list("abcde"), rng.integers(0, 7))) for _ in range(70)]
        together = signal.score(histories)
        assert np.array_equal(together, np.concatenate([signal.score([one]) for one in histories]))
        assert np.array_equal(together[::-1], signal.score(histories[::-1]))

    def test_repeats_and_never_taken_items_in_a_history_are_no_error(self, signal):
        assert np.isfinite(signal.score([history("a", "a", "e", "a"), history("e")])).all()

    def test_an_item_that_no_one_took_gets_zero(self, signal):
        if self.learns_from_histories:
            assert (signal.score([history("a", "b"), history("e"), history()])[:, 4] == 0).all()

    def test_saved_and_loaded_it_scores_the_same(self, signal, tmp_path):
        save_file(signal.to_arrays(), tmp_path / "signal.safetensors")
        loaded = type(signal).from_arrays(LETTERS, load_file(tmp_path / "signal.safetensors"))
        asked = [history("a", "b", times=(0, 3 * DAY)), history("c", "d"), history()]
        assert np.array_equal(loaded.score(asked), signal.score(asked))

    def test_items_appended_to_the_catalogue_get_zero_and_change_nothing(self, signal):
        larger = LETTERS.with_items([Item(id="new", title="New")])
        loaded = type(signal).from_arrays(larger, signal.to_arrays())
        scores = loaded.score([history("a", "b"), history("b", "new")])
        assert scores.shape == (2, 6)
        assert (scores[:, 5] == 0).all()
        assert np.array_equal(scores[0, :5], signal.score([history("a", "b")])[0])

    def test_refuses_a_catalogue_that_lost_items(self, signal):
        with pytest.raises(ArtefactError, match="the saved signal knows 5 items, the catalogue has 2"):
            type(signal).from_arrays(catalog_of("a", "b"), signal.to_arrays())


class TestPopularity(SignalContract):
    def make(self):
        return Popularity.fit(LETTERS, LOG)

    def test_by_hand(self, signal):
        expected = [math.log(1 + count) for count in (2, 2, 2, 1, 0)]
        assert signal.score([history("a")])[0] == pytest.approx(expected)


class TestRecentPopularity(SignalContract):
    def make(self):
        return RecentPopularity.fit(LETTERS, LOG, half_life_days=1.0)

    def test_counts_what_came_before_the_day_of_the_last_event(self, signal):
        # On day 3: a on day 0, b on days 1 and 2, c on day 2; c on day 3 is not yet known.
        scores = signal.score([history("b", times=(3 * DAY + 7,))])[0]
        weights = [0.5**3, 0.5**2 + 0.5, 0.5, 0, 0]
        assert scores == pytest.approx([math.log1p(weight) for weight in weights])

    def test_knows_nothing_before_the_first_event(self, signal):
        scores = signal.score([history("b", times=(0,)), history("b", times=(-5 * DAY,))])
        assert not scores.any()

    def test_goes_on_fading_after_the_last_event(self, signal):
        soon, later = signal.score([history("d", times=(6 * DAY,)), history("d", times=(9 * DAY,))])
        assert np.expm1(later) == pytest.approx(np.expm1(soon) / 8)

    def test_without_times_the_last_events_of_each_user_count_most(self):
        untimed = [history("a", "b", "c"), history("a", "c")]
        signal = RecentPopularity.fit(LETTERS, untimed, half_life_events=1.0)
        weights = [0.25 + 0.5, 0.5, 2, 0, 0]
        assert signal.score([history()])[0] == pytest.approx([math.log1p(weight) for weight in weights])

    def test_refuses_a_half_life_of_zero(self):
        with pytest.raises(DataError, match="half-lives must be positive; given 0 days"):
            RecentPopularity.fit(LETTERS, LOG, half_life_days=0)


class TestCoOccurrence(SignalContract):
    def make(self):
        return CoOccurrence.fit(LETTERS, LOG)

    def test_by_hand(self):
        # Forward pairs: ab 1, ac 1/2, bc 1 + 1, ad 1. Backward ones are half of that. Counts: a 2, b 2, c 2, d 1.
        signal = CoOccurrence.fit(LETTERS, LOG, window=2, backward=0.5, power=1.0, decay=0.5)
        a, b = [0, 1 / 2, 0.5 / 2, 1, 0], [0.5 / 2, 0, 2 / 2, 0, 0]
        assert signal.score([history("a")])[0] == pytest.approx(a)
        assert signal.score([history("a", "b")])[0] == pytest.approx(0.5 * np.array(a) + np.array(b))

    def test_the_window_ends(self):
        signal = CoOccurrence.fit(LETTERS, [history("a", "b", "c", "d")], window=2)
        assert signal.score([history("a")])[0, 2] > 0
        assert signal.score([history("a")])[0, 3] == 0

    def test_does_not_pair_the_end_of_one_history_with_the_start_of_the_next(self):
        signal = CoOccurrence.fit(LETTERS, [history("a", "b"), history("c", "d")], window=5)
        assert signal.score([history("b")])[0, 2:].tolist() == [0, 0, 0]

    def test_the_last_item_of_the_history_weighs_most(self):
        signal = CoOccurrence.fit(LETTERS, [history("a", "b"), history("c", "d")], decay=0.5)
        scores = signal.score([history("a", "c")])[0]
        assert scores[3] == pytest.approx(2 * scores[1])

    def test_a_history_may_be_shorter_than_the_window(self):
        assert CoOccurrence.fit(LETTERS, [history("a"), history()], window=5).pairs.nnz == 0

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"decay": 1.5}, "decay must lie between 0 .* given 1.5"),
            ({"window": 0}, "window must be at least 1"),
            ({"backward": -1.0}, "backward at least 0"),
        ],
    )
    def test_refuses_parameters_out_of_range(self, wrong, message):
        with pytest.raises(DataError, match=message):
            CoOccurrence.fit(LETTERS, LOG, **wrong)


class TestItemKNN(SignalContract):
    def make(self):
        return ItemKNN.fit(LETTERS, LOG)

    def test_by_hand(self):
        # Users of both: ab 1, ac 1, bc 2, ad 1. Users of one: a 2, b 2, c 2, d 1.
        signal = ItemKNN.fit(LETTERS, LOG, decay=0.5, shrink=1.0)
        a = np.array([0, 1 / 3, 1 / 3, 1 / (math.sqrt(2) + 1), 0])
        b = np.array([1 / 3, 0, 2 / 3, 0, 0])
        assert signal.score([history("a", "b")])[0] == pytest.approx(0.5 * a + b)

    def test_keeps_the_nearest_neighbours_of_each_candidate(self):
        signal = ItemKNN.fit(LETTERS, LOG, neighbours=1)
        # The nearest of b is c (cosine 1) and not a (1/2).
        assert signal.score([history("a")])[0, 1] == 0
        assert signal.score([history("c")])[0, 1] == pytest.approx(1)

    def test_a_user_who_took_an_item_twice_is_one_user(self):
        signal = ItemKNN.fit(LETTERS, [history("a", "a", "b")])
        assert signal.score([history("a")])[0, 1] == pytest.approx(1)

    def test_blocks_change_nothing(self, monkeypatch):
        whole = ItemKNN.fit(LETTERS, LOG, neighbours=2)
        monkeypatch.setattr("genrec.signals.neighbours.BLOCK_ITEMS", 2)
        assert (ItemKNN.fit(LETTERS, LOG, neighbours=2).similarity != whole.similarity).nnz == 0

    def test_checkerboard(self):
        # Users like items of their own colour and each lacks one: that one must come first.
        board = catalog_of(*map(str, range(20)))
        users = [history(*(str(i) for i in range(20) if i % 2 == user % 2 and i != user)) for user in range(20)]
        signal = ItemKNN.fit(board, users, decay=1.0)
        seen = [board.rows(user.items) for user in users]
        best = top_items(signal.score(users), 1, seen, tie_order(20, 0))
        assert best[:, 0].tolist() == list(range(20))


class TestContent(SignalContract):
    learns_from_histories = False

    def make(self):
        return Content(LETTERS, VECTORS)

    def test_the_last_item_alone(self):
        scores = Content(LETTERS, VECTORS, decay=0.0).score([history("c", "a")])[0]
        assert scores == pytest.approx([1, 0.6, 0, -1, 0])

    def test_the_recency_weighted_mean(self):
        profile = (0.5 * VECTORS[2] + VECTORS[0]) / math.hypot(0.5, 1)
        scores = Content(LETTERS, VECTORS, decay=0.5).score([history("c", "a")])[0]
        assert scores == pytest.approx(VECTORS @ profile)

    def test_refuses_vectors_of_another_catalogue(self):
        with pytest.raises(DataError, match=r"embeddings have shape \(3, 2\) for 5 items"):
            Content(LETTERS, VECTORS[:3])


def test_a_series_is_continued():
    """30 titles in 5 series, taken in order: after the first n of a series comes the next."""
    world = catalog_of(*(f"{series}{number}" for series in "vwxyz" for number in range(6)))
    log = [history(*(f"{series}{number}" for number in range(6))) for series in "vwxyz"]
    signal = CoOccurrence.fit(world, log)
    for series in "vwxyz":
        for length in range(1, 6):
            asked = history(*(f"{series}{number}" for number in range(length)))
            best = top_items(signal.score([asked]), 1, [world.rows(asked.items)], tie_order(30, 0))
            assert world.ids[best[0, 0]] == f"{series}{length}"


def test_top_items_leaves_out_what_is_excluded_and_scores_stay_as_they_are():
    scores = np.array([[5, 4, 3, 2, 1], [1, 1, 1, 1, 2]], dtype=np.float32)
    before = scores.copy()
    rows = top_items(scores, 2, [[0, 0, 2], []], np.array([4, 3, 2, 1, 0]))
    assert rows.tolist() == [[1, 3], [4, 3]]
    assert np.array_equal(scores, before)


def test_top_items_fills_up_with_no_item():
    rows = top_items(np.ones((1, 3), dtype=np.float32), 5, [[1]], np.arange(3))
    assert rows.tolist() == [[0, 2, NO_ITEM, NO_ITEM, NO_ITEM]]


@pytest.fixture(scope="module")
def movielens():
    if importlib.util.find_spec("recbole") is None:
        pytest.skip("ml-100k lies in the wheel recbole")
    return prepare(dataset="ml-100k")


def figures(signal, catalog, cases, answer_to=lambda case: case.history):
    """Return HR@10 and NDCG@10 of a full ranking without what the case's history holds."""
    scores = signal.score([answer_to(case) for case in cases])
    for row, case in enumerate(cases):
        scores[row, catalog.rows(case.history.items)] = -np.inf
    targets = np.array(catalog.rows(case.target for case in cases))
    ranks = ranks_of_targets(scores, targets, tie_order(len(catalog), 0))
    return [round(float(RANK_METRICS[name](ranks, 10).mean()), 4) for name in ("hr", "ndcg")]


def test_movielens_figures(movielens):
    catalog, split = movielens.catalog, movielens.split()
    assert figures(Popularity.fit(catalog, split.train), catalog, split.test) == [0.0838, 0.0443]
    assert figures(CoOccurrence.fit(catalog, split.train), catalog, split.test) == [0.2057, 0.1092]
    assert figures(ItemKNN.fit(catalog, split.train, decay=0.9), catalog, split.test) == [0.1972, 0.1002]


def test_item_knn_gives_recboles_figures_on_recboles_order(movielens):
    """RecBole 1.2.1 rescales times to [0, 1] in single precision, which makes equal what lies a second apart.

    Its ItemKNN weighs all items alike and does not see the validation item of a test case. HR@10 0.1145, NDCG@10
    0.0629.
    """
    events = read_source("ml-100k").events
    times = events["time"].cast(pl.Float64).to_numpy()
    scaled = ((times - times.min()) / (times.max() - times.min())).astype(np.float32)
    log = [
        history(*part["item"], user=user)
        for (user,), part in events[np.argsort(scaled, kind="stable")].group_by("user", maintain_order=True)
    ]
    split = leave_one_out(log)
    signal = ItemKNN.fit(movielens.catalog, split.train, neighbours=100, decay=1.0)
    found = figures(signal, movielens.catalog, split.test, lambda case: case.history.until(-1))
    assert found == pytest.approx([0.1145, 0.0629], abs=1.1e-4), "equal scores may be ordered otherwise"
