"""Baselines: one contract for all systems, worlds with a known answer, the search, and agreement with libraries."""

import dataclasses
import importlib.util
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from genrec.baselines.als import ALS
from genrec.baselines.search import BASELINES, Material, baseline_lists, fit_baseline, ranked_lists, tune
from genrec.baselines.search import search as baselines
from genrec.baselines.sequence import GRU4Rec, SASRec, SequenceSettings, _windows, catalogue_loss
from genrec.data.catalog import Catalog, Item
from genrec.data.prepared import prepare
from genrec.data.splits import Case, History, leave_one_out
from genrec.errors import ConfigError, DataError, MissingExtra
from genrec.evaluation.compare import evaluate_lists

SERIES, LENGTH = 6, 8
WORLD = Catalog.from_items(
    Item(id=f"{series}.{part}", title=f"Series {series} part {part}")
    for series in range(SERIES)
    for part in range(LENGTH)
)
VECTORS = np.repeat(np.eye(SERIES, dtype=np.float32), LENGTH, axis=0)
"""Titles of one series are alike, so content knows the series and not the part."""

QUICK = {
    "sasrec": {"dimension": 16, "layers": 1, "epochs": 2, "learning_rate": 0.01, "batch_size": 16},
    "gru4rec": {"dimension": 16, "layers": 1, "epochs": 2, "learning_rate": 0.01, "batch_size": 16},
    "als": {"dimension": 4},
}


def series_histories(users=90, seed=0):
    """Users who read one series in order, from anywhere, and after its end its start: after part n comes n + 1."""
    rng = np.random.default_rng(seed)
    histories = []
    for user in range(users):
        start, length = rng.integers(LENGTH), rng.integers(5, LENGTH + 1)
        parts = (f"{user % SERIES}.{(start + step) % LENGTH}" for step in range(length))
        histories.append(History(f"user {user}", tuple(parts)))
    return histories


SPLIT = leave_one_out(series_histories())
MATERIAL = Material(WORLD, SPLIT.train, VECTORS)
CASES = SPLIT.test[:20]


def test_the_names_are_those_of_the_tables():
    assert list(BASELINES) == [
        "random",
        "popularity",
        "recent-popularity",
        "content",
        "co-occurrence",
        "co-occurrence+content",
        "item-knn",
        "als",
        "sasrec",
        "gru4rec",
    ]


@pytest.fixture(scope="module", params=BASELINES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def signal(name):
    return fit_baseline(name, MATERIAL, QUICK.get(name), seed=1)


class TestContract:
    def test_names_itself(self, name, signal):
        assert signal.name == name

    def test_lists_distinct_unseen_items(self, signal):
        for case, items in zip(CASES, ranked_lists(signal, WORLD, CASES, 10), strict=True):
            assert len(items) == len(set(items)) == 10
            assert set(items) <= set(WORLD.ids)
            assert not set(items) & set(case.history.items)

    def test_lists_all_that_is_left_where_fewer_are_left(self, signal):
        case = CASES[0]
        (items,) = ranked_lists(signal, WORLD, [case], len(WORLD) + 5)
        assert sorted(items) == sorted(set(WORLD.ids) - set(case.history.items))

    def test_keeps_seen_items_where_asked(self, signal):
        (items,) = ranked_lists(signal, WORLD, CASES[:1], len(WORLD), exclude_seen=False)
        assert sorted(items) == sorted(WORLD.ids)

    def test_answers_any_history(self, signal):
        odd = [
            Case(History("stranger", ()), "0.0"),
            Case(History("stranger", ("0.3",)), "0.4"),
            Case(History("stranger", ("0.3", "1.2") * 40), "0.4"),
        ]
        assert [len(items) for items in ranked_lists(signal, WORLD, odd, 5)] == [5, 5, 5]

    def test_a_batch_gives_what_single_calls_give(self, signal):
        together = signal.score([case.history for case in CASES])
        assert together.dtype == np.float32
        assert np.isfinite(together).all()
        alone = np.concatenate([signal.score([case.history]) for case in CASES])
        assert np.array_equal(together, alone)
        assert np.array_equal(together[::-1], signal.score([case.history for case in CASES[::-1]]))

    def test_the_same_seed_gives_the_same_lists(self, name):
        chosen = {name: QUICK[name]} if name in QUICK else None
        first, second = (baseline_lists([name], MATERIAL, CASES, 10, 3, chosen)[name] for _ in range(2))
        assert first == second

    def test_does_not_know_the_target(self, signal):
        asked = [Case(case.history, "0.0") for case in CASES]
        assert ranked_lists(signal, WORLD, asked, 10) == ranked_lists(signal, WORLD, CASES, 10)


@pytest.mark.parametrize("known_right", ["co-occurrence", "co-occurrence+content", "sasrec", "gru4rec"])
def test_continues_a_series(known_right):
    trained = {"dimension": 16, "layers": 1, "epochs": 40, "learning_rate": 0.01, "batch_size": 16, "dropout": 0.1}
    chosen = {known_right: trained if known_right in QUICK else {}}
    lists = baseline_lists([known_right], MATERIAL, SPLIT.test, 1, 0, chosen)[known_right]
    assert np.mean([items == [case.target] for items, case in zip(lists, SPLIT.test, strict=True)]) > 0.7


@pytest.mark.parametrize("known_series", ["content", "item-knn", "als"])
def test_stays_in_the_series(known_series):
    lists = baseline_lists([known_series], MATERIAL, CASES, 1, 0, QUICK)[known_series]
    assert [items[0].split(".")[0] for items in lists] == [case.target.split(".")[0] for case in CASES]


def test_equal_scores_are_ordered_by_the_seed_and_not_by_the_catalogue():
    crowd = Material(WORLD, [History("u", ("0.0", "0.1"))])
    asked = [Case(History("u", ("5.5",)), "0.0")]
    ranked = [baseline_lists(["co-occurrence"], crowd, asked, 48, seed)["co-occurrence"][0] for seed in (0, 0, 1)]
    assert ranked[0] == ranked[1] != ranked[2]
    assert ranked[0] != sorted(ranked[0])


def test_content_is_added_to_co_occurrence_as_it_is():
    weights = {"weight": 2.5, "content_decay": 0.0}
    both, alone, content = (
        fit_baseline(name, MATERIAL, chosen).score([CASES[0].history])
        for name, chosen in (("co-occurrence+content", weights), ("co-occurrence", {}), ("content", {}))
    )
    assert both == pytest.approx(alone + 2.5 * content)
    assert content.any()


def test_random_differs_between_histories_and_seeds():
    first, second = fit_baseline("random", MATERIAL, seed=0), fit_baseline("random", MATERIAL, seed=1)
    asked = [History("a", ("0.0",)), History("b", ("0.0",)), History("a", ("0.0", "0.1"))]
    scores = np.concatenate([first.score(asked), second.score(asked)])
    assert len(np.unique(scores[:, 0])) == 6


class TestTune:
    def test_looks_at_validation_cases_only(self):
        blind = dataclasses.replace(SPLIT, test=())
        assert tune("co-occurrence", blind, WORLD, budget=3) == tune("co-occurrence", SPLIT, WORLD, budget=3)

    def test_judges_as_the_evaluation_does(self):
        # Popular items are in every history, so leaving them out decides.
        popular = [f"0.{part}" for part in range(LENGTH)]
        log = [History(str(user), (*popular, f"1.{user % 3}", f"1.{user % 3 + 1}", "2.2")) for user in range(9)]
        split = leave_one_out(log)
        lists = baseline_lists(["popularity"], Material(WORLD, split.train), split.valid, 10)
        report = evaluate_lists(split.valid, lists, catalog=WORLD, train=split.train, reference=None, resamples=10)
        found = tune("popularity", split, WORLD, budget=1).value
        assert found == pytest.approx(report.systems["popularity"]["ndcg@10"].value)
        assert found > 0.3

    def test_finds_what_is_better_than_the_defaults(self):
        default = tune("item-knn", SPLIT, WORLD, budget=1)
        found = tune("item-knn", SPLIT, WORLD, budget=20)
        assert default.settings == BASELINES["item-knn"].defaults
        assert found.value > default.value
        assert found.tried == 20

    def test_a_budget_beyond_the_space_is_not_spent(self):
        assert tune("popularity", SPLIT, WORLD, budget=5).tried == 1

    def test_says_what_was_done(self):
        data = tune("co-occurrence+content", SPLIT, WORLD, budget=2, embeddings=VECTORS).to_json()
        assert data["name"] == "co-occurrence+content"
        assert data["metric"] == "ndcg@10"
        assert data["tried"] == 2
        assert data["cases"] == 90
        assert data["settings"].keys() == BASELINES["co-occurrence+content"].defaults.keys()

    def test_finds_the_epochs_of_a_sequence_model_and_training_that_long_gives_the_same(self, monkeypatch):
        monkeypatch.setattr(baselines, "LOOK_EVERY", 2)
        monkeypatch.setattr(baselines, "PATIENCE", 2)
        found = tune("gru4rec", SPLIT, WORLD, budget=1, seed=4)
        assert found.settings["epochs"] % 2 == 0
        again = fit_baseline("gru4rec", MATERIAL, found.settings, seed=4)
        assert baselines._figure(again, WORLD, SPLIT.valid, 4) == pytest.approx(found.value, abs=1e-12)

    def test_looks_at_a_sample_where_there_are_many_cases(self, monkeypatch):
        monkeypatch.setattr(baselines, "TUNING_CASES", 25)
        assert tune("popularity", SPLIT, WORLD, budget=1).cases == 25

    def test_refuses_what_cannot_be_searched(self):
        with pytest.raises(ConfigError, match="a budget of at least 1; given 0"):
            tune("popularity", SPLIT, WORLD, budget=0)
        with pytest.raises(DataError, match="there are no validation cases"):
            tune("popularity", dataclasses.replace(SPLIT, valid=()), WORLD, budget=1)


def test_refuses_an_unknown_baseline_or_setting():
    with pytest.raises(ConfigError, match="there is no baseline 'knn'; choose from random, popularity"):
        fit_baseline("knn", MATERIAL)
    with pytest.raises(ConfigError, match="item-knn has no setting 'k'; it has decay, neighbours, shrink"):
        fit_baseline("item-knn", MATERIAL, {"k": 5})


@pytest.mark.parametrize("reader", ["content", "co-occurrence+content"])
def test_refuses_to_read_titles_without_embeddings(reader):
    with pytest.raises(DataError, match="need item embeddings"):
        fit_baseline(reader, Material(WORLD, SPLIT.train))


def test_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(MissingExtra, match=r"The als baseline needs .* pip install 'genrec\[baselines\]'"):
        fit_baseline("als", MATERIAL)


@pytest.mark.parametrize("wrong", [{"dimension": 0}, {"regularization": 0.0}, {"alpha": -1.0}])
def test_als_refuses_parameters_out_of_range(wrong):
    with pytest.raises(DataError, match="als needs at least 1 dimension"):
        ALS.fit(WORLD, SPLIT.train, **wrong)


def test_als_solves_a_history_as_implicit_does():
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy import sparse
    from threadpoolctl import threadpool_limits

    signal = ALS.fit(WORLD, SPLIT.train, dimension=5, regularization=2.0, alpha=3.0, decay=1.0)
    asked = History("u", ("0.0", "0.1", "3.4"))
    row = np.zeros((1, len(WORLD)), dtype=np.float32)
    row[0, WORLD.rows(asked.items)] = 1 + 3.0
    with threadpool_limits(1, "blas"):
        other = AlternatingLeastSquares(factors=5, regularization=2.0)
        other.item_factors = signal.factors
        own = other.recalculate_user(0, sparse.csr_matrix(row))
    assert signal.score([asked])[0] == pytest.approx(signal.factors @ own, abs=1e-5)


def test_als_keeps_the_librarys_warning_from_users(monkeypatch):
    """It warns where BLAS has threads of its own; warnings are errors here."""
    from threadpoolctl import threadpool_limits

    monkeypatch.setattr("implicit.utils._checked_blas_config", False)
    with threadpool_limits(2, "blas"):
        ALS.fit(WORLD, SPLIT.train, dimension=2)


def test_als_gives_zero_to_what_no_one_took():
    larger = WORLD.with_items([Item(id="new", title="New")])
    scores = ALS.fit(larger, SPLIT.train, dimension=4).score([SPLIT.test[0].history])
    assert scores[0, -1] == 0


@pytest.mark.parametrize("model", [ALS, SASRec, GRU4Rec])
def test_saved_and_loaded_it_scores_the_same_and_new_items_change_nothing(model, tmp_path):
    shape = SequenceSettings(dimension=8, heads=1, epochs=1)
    extra = () if model is ALS else (shape,)
    signal = ALS.fit(WORLD, SPLIT.train, dimension=4) if model is ALS else model.fit(WORLD, SPLIT.train, shape)
    save_file(signal.to_arrays(), tmp_path / "model.safetensors")
    arrays = load_file(tmp_path / "model.safetensors")
    asked = [case.history for case in CASES]
    assert np.array_equal(model.from_arrays(WORLD, arrays, *extra).score(asked), signal.score(asked))
    larger = WORLD.with_items([Item(id="new", title="New")])
    scores = model.from_arrays(larger, arrays, *extra).score(asked)
    assert scores[:, :-1] == pytest.approx(signal.score(asked), abs=1e-5)
    assert (scores[:, -1] <= 0).all()


class TestSequenceModels:
    def test_the_loss_and_its_gradient_are_torchs_own(self):
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(600, 7, generator=generator, requires_grad=True)
        items = torch.randn(11, 7, generator=generator, requires_grad=True)
        targets = torch.randint(0, 11, (600,), generator=generator)
        offsets = torch.randn(11, generator=generator)
        own = catalogue_loss(hidden, items, targets, offsets)
        own_grads = torch.autograd.grad(2 * own, (hidden, items))
        other = F.cross_entropy(hidden @ items.T + offsets, targets)
        other_grads = torch.autograd.grad(2 * other, (hidden, items))
        assert own.item() == pytest.approx(other.item(), rel=1e-5)
        for mine, theirs in zip(own_grads, other_grads, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)

    @given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 9), st.integers(0, 99))
    @settings(max_examples=60, deadline=None)
    def test_every_item_but_the_first_is_a_target_once(self, lengths, length, seed):
        ends = np.cumsum([0, *lengths])
        sequences = [np.arange(start, end) for start, end in pairwise(ends)]
        windows = _windows(sequences, length, np.random.default_rng(seed))
        assert all(2 <= len(window) <= length + 1 for window in windows)
        targets = sorted(int(row) for window in windows for row in window[1:])
        assert targets == sorted(int(row) for rows in sequences for row in rows[1:])

    def test_an_item_that_no_one_took_comes_last(self):
        larger = WORLD.with_items([Item(id="new", title="New")])
        shape = SequenceSettings(dimension=8, heads=1, epochs=1, popularity_offset=1.0)
        scores = SASRec.fit(larger, SPLIT.train, shape).score([CASES[0].history, History("u", ("new",))])
        assert (scores.argmin(axis=1) == len(WORLD)).all()

    @pytest.mark.parametrize("model", [SASRec, GRU4Rec])
    def test_does_not_look_ahead(self, model):
        signal = model.fit(WORLD, SPLIT.train, SequenceSettings(dimension=8, heads=1, epochs=1))
        with torch.inference_mode():
            short = signal.network(torch.tensor([[3, 1, 4, 0, 0]]))
            long = signal.network(torch.tensor([[3, 1, 4, 15, 9]]))
        assert torch.equal(short[:, :3], long[:, :3])
        assert not torch.equal(short[:, 3:], long[:, 3:])

    def test_leaves_torchs_own_seed_as_it_was(self):
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        for _ in SASRec.fit_epochs(WORLD, SPLIT.train, SequenceSettings(dimension=8, epochs=2)):
            pass
        assert torch.equal(torch.rand(1), expected)

    def test_refuses_to_learn_from_nothing(self):
        with pytest.raises(DataError, match="histories of at least two items; none was given"):
            SASRec.fit(WORLD, [History("u", ("0.0",))], SequenceSettings())
        with pytest.raises(DataError, match="at least one epoch; given 0"):
            SASRec.fit(WORLD, SPLIT.train, SequenceSettings(epochs=0))


def test_movielens_figures():
    if importlib.util.find_spec("recbole") is None:
        pytest.skip("ml-100k lies in the wheel recbole")
    data = prepare(dataset="ml-100k")
    split = data.split()
    names = ("popularity", "co-occurrence")
    lists = baseline_lists(names, Material(data.catalog, split.train), split.test, 20)
    report = evaluate_lists(split.test, lists, catalog=data.catalog, train=split.train, reference=None, resamples=10)
    found = {
        name: [round(report.systems[name][f"{figure}@10"].value, 4) for figure in ("hr", "ndcg")] for name in names
    }
    assert found == {"popularity": [0.0838, 0.0443], "co-occurrence": [0.2057, 0.1092]}
    assert all(report.answers[name].seen == report.answers[name].short == 0 for name in names)
