"""The whole table: on a toy world whose figures are worked out by hand, and on planted faults."""

import json

import numpy as np
import pytest

from genrec.data.catalog import Catalog, Item
from genrec.data.rows import tie_order, top_rows
from genrec.data.splits import Case, History
from genrec.errors import DataError
from genrec.evaluation.compare import evaluate_lists
from genrec.evaluation.results import Answers, Report
from genrec.evaluation.slices import popularity_groups, slice_cases, takers_of

CATALOG = Catalog.from_items(
    Item(str(number), f"Film {number}", categories=("film", "drama" if number % 2 else "comedy"))
    for number in range(10)
)
TRAIN = [History("a", ("0", "1")), History("b", ("0", "2", "0")), History("c", ("0", "1", "3"))]
CASES = [
    Case(History("a", ("0", "1")), "2"),
    Case(History("b", ("0", "2", "0")), "9"),
    Case(History("c", ("0", "1", "3")), "1"),
    Case(History("d", ("4",) * 7), "5"),
]
GOOD = [["2", "3"], ["8", "9"], ["4", "5"], ["5", "6"]]
EMPTY = [[], [], [], []]


def judge(systems, cases=CASES, **options):
    options = {"ks": (1, 2), "reference": None, "resamples": 200} | options
    return evaluate_lists(cases, systems, catalog=CATALOG, train=TRAIN, **options)


def values(report, system):
    return {figure: estimate.value for figure, estimate in report.systems[system].items()}


def test_figures_by_hand():
    report = judge({"genrec": GOOD})
    figures = values(report, "genrec")
    assert figures["hr@1"] == 2 / 4
    assert figures["hr@2"] == figures["recall@2"] == 3 / 4
    assert figures["precision@2"] == 3 / 8
    assert figures["mrr@2"] == figures["map@2"] == (1 + 1 / 2 + 0 + 1) / 4
    assert figures["ndcg@2"] == pytest.approx((1 + 1 / np.log2(3) + 0 + 1) / 4)
    assert figures["coverage@2"] == 7 / 10
    assert figures["coverage@1"] == 4 / 10
    assert figures["popularity@1"] == (1 + 0 + 0 + 0) / 4
    # User a's hit on 2 is no surprise: 2 and 3 are the most popular items that a has not seen. b's and d's hits are.
    assert figures["serendipity@2"] == 2 / 4
    assert report.users == 4
    assert report.split == "test"
    assert report.systems["genrec"]["coverage@2"].low is None
    interval = report.systems["genrec"]["hr@2"]
    assert interval.low < interval.value < interval.high


def test_every_case_counts_in_every_figure_of_every_system():
    half = [GOOD[0], [], [], []]
    figures = values(judge({"half": half, "empty": EMPTY}), "half")
    assert figures["hr@2"] == 1 / 4
    assert values(judge({"empty": EMPTY}), "empty")["ndcg@2"] == 0
    assert "novelty@2" not in values(judge({"empty": EMPTY}), "empty"), "an empty list has no novelty, not novelty 0"


def test_what_was_wrong_with_the_answers_is_counted():
    lists = [["2", "2"], ["no such film", "9"], [], ["4", "5", "unread"]]
    report = judge({"genrec": lists})
    assert report.answers["genrec"] == Answers(missing=1, short=3, unknown=1, repeated=1, seen=1)
    # The repeat and the unknown item keep their places; a third place is not read at K = 2.
    assert values(report, "genrec")["mrr@2"] == (1 + 1 / 2 + 0 + 1 / 2) / 4


def test_a_list_with_the_whole_of_a_tiny_catalogue_is_not_short():
    every = [list(CATALOG.ids)] * 4
    assert judge({"genrec": every}, ks=(20,)).answers["genrec"].short == 0


def test_repeating_the_target_earns_no_more_than_listing_it_once():
    many = judge({"genrec": [[case.target] * 20 for case in CASES]}, ks=(20,))
    assert values(many, "genrec")["ndcg@20"] == values(many, "genrec")["hr@20"] == 1
    assert many.answers["genrec"].repeated == 19 * 4


def test_a_target_outside_the_catalogue_is_a_miss():
    case = Case(History("a", ("0",)), "gone")
    report = judge({"genrec": [["gone", "1"]]}, cases=[case])
    assert values(report, "genrec")["hr@2"] == 0
    assert report.settings["new_targets"] == 1


def test_the_settings_say_what_a_reader_must_know():
    settings = judge({"genrec": GOOD}, seed=3, settings={"dataset": "toy"}).settings
    assert settings["ks"] == [1, 2]
    assert settings["main_k"] == 2
    assert settings["seed"] == 3
    assert settings["catalog_items"] == 10
    assert settings["training_users"] == 3
    assert settings["training_interactions"] == 8
    assert settings["repeated_targets"] == 1
    assert settings["new_targets"] == 2
    assert settings["dataset"] == "toy"
    assert "all cases" in settings["denominator"]


def test_the_json_has_the_form_others_rely_on_and_comes_back_whole():
    report = judge({"genrec": GOOD, "random": EMPTY}, reference="genrec", hows={"genrec": ["exact", "nearest"]})
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {"split", "users", "systems", "settings"} <= set(data)
    assert set(data["systems"]["genrec"]["hr@2"]) == {"value", "low", "high"}
    assert data["texts"]["genrec"]["exact"] == 0.5
    again = Report.from_json(data)
    assert again.to_json() == data
    assert again.systems["genrec"]["hr@2"].value == 0.75
    assert Report.from_json({**data, "seeds": {}}) == again  # as metrics.json said it before


def test_the_reference_is_compared_with_every_other_system():
    generator = np.random.default_rng(0)
    train = [History(str(user), ("0",)) for user in range(300)]
    cases = [Case(history, str(generator.integers(1, 10))) for history in train]

    def right_in(share):
        return [[case.target if generator.random() < share else "0"] for case in cases]

    systems = {"genrec": right_in(0.5), "worse": right_in(0.2), "alike": right_in(0.5)}
    report = evaluate_lists(cases, systems, catalog=CATALOG, train=train, ks=(1,), resamples=200)
    assert set(report.comparisons) == {"worse", "alike"}
    worse, alike = report.comparisons["worse"]["hr@1"], report.comparisons["alike"]["hr@1"]
    assert worse.value == pytest.approx(values(report, "genrec")["hr@1"] - values(report, "worse")["hr@1"])
    assert worse.low > 0
    assert worse.p_adjusted < 0.01
    assert worse.p_adjusted == pytest.approx(2 * worse.p_value), "Holm: the smaller of two p-values is doubled"
    assert alike.p_adjusted == alike.p_value > 0.05
    assert alike.low < 0 < alike.high


def test_curves_rise_with_k_and_end_at_the_figure():
    report = judge({"genrec": GOOD}, ks=(2,))
    assert report.curves["hr"]["genrec"] == (0.5, 0.75)
    assert report.curves["ndcg"]["genrec"][-1] == values(report, "genrec")["ndcg@2"]


def test_slices_by_hand():
    report = judge({"genrec": GOOD, "empty": EMPTY})
    users = {
        slicing: {label: part.users for label, part in slices.items()} for slicing, slices in report.slices.items()
    }
    assert users == {
        "history-length": {"0-4": 3, "5-9": 1},
        "target-popularity": {"0": 2, "1-4": 2},
        "new-items": {"new": 2, "in training": 2},
        "cold-start": {"item with fewer than 5 takers": 4, "user with fewer than 5 items": 3},
        "repeats": {"taken before": 1, "first time": 3},
        "category": {"drama": 3, "comedy": 1},  # every item is a film: that tells no cases apart
    }
    assert report.slices["new-items"]["new"].systems["genrec"]["hr@2"].value == 1
    assert report.slices["new-items"]["in training"].systems["genrec"]["hr@2"].value == 0.5
    assert report.slices["category"]["drama"].systems["empty"]["ndcg@2"].value == 0


def test_slices_without_overlap_add_up_to_the_whole():
    report = judge({"genrec": GOOD})
    for slicing in ("history-length", "target-popularity", "new-items", "repeats"):
        parts = report.slices[slicing].values()
        hits = sum(part.users * part.systems["genrec"]["hr@2"].value for part in parts)
        assert hits == pytest.approx(4 * values(report, "genrec")["hr@2"]), slicing


def test_a_slicing_into_one_slice_is_left_out():
    cases = [Case(History("a", ("0",)), "1"), Case(History("b", ("0",)), "1")]
    assert "history-length" not in slice_cases(cases, CATALOG, takers_of(TRAIN, CATALOG))


def test_takers_are_users_not_events():
    np.testing.assert_array_equal(takers_of(TRAIN, CATALOG), [3, 2, 1, 1, 0, 0, 0, 0, 0, 0])


def test_popularity_groups_cut_the_catalogue_from_the_top():
    takers = np.arange(100)[::-1].copy()
    groups = popularity_groups(takers, tie_order(100, 0))
    np.testing.assert_array_equal(np.bincount(groups), [1, 4, 15, 30, 50])
    assert groups[0] == 0
    assert groups[99] == 4


def test_exposure_shows_a_system_that_only_knows_the_head():
    train = [History(str(user), tuple(str(item) for item in range(user % 5 + 1))) for user in range(20)]
    report = evaluate_lists(
        CASES, {"head": [["0", "1"]] * 4, "none": EMPTY}, catalog=CATALOG, train=train, ks=(2,), reference=None
    )
    assert report.exposure.items == (0, 0, 2, 3, 5)
    assert report.exposure.systems["head"] == (0, 0, 1, 0, 0)
    assert report.exposure.systems["none"] == (0, 0, 0, 0, 0)
    assert report.exposure.targets == (0, 0, 1 / 4, 1 / 4, 2 / 4)


def test_diversity_by_meaning_needs_embeddings():
    assert "embedding-diversity@2" not in values(judge({"genrec": GOOD}), "genrec")
    figures = values(judge({"genrec": GOOD}, embeddings=np.eye(10)), "genrec")
    assert figures["embedding-diversity@2"] == pytest.approx(1)


def test_an_all_ties_scorer_does_as_well_as_chance_and_no_better():
    # Targets sit at the front of the catalogue, where a plain argsort of equal scores would find every one.
    generator = np.random.default_rng(0)
    catalog = Catalog.from_items(Item(str(number), f"Film {number}") for number in range(100))
    ids = np.array(catalog.ids)
    cases = [Case(History(str(user), ("99",)), str(generator.integers(0, 10))) for user in range(500)]
    rates = []
    for seed in range(100):
        lists = ids[top_rows(np.zeros((500, 100)), 10, tie_order(100, seed))].tolist()
        report = evaluate_lists(
            cases, {"ties": lists}, catalog=catalog, train=[], ks=(10,), seed=seed, reference=None, resamples=2
        )
        rates.append(report.systems["ties"]["hr@10"].value)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("systems", "options", "message"),
    [
        ({"genrec": GOOD[:3]}, {}, "'genrec' gave 3 lists for 4 cases"),
        ({}, {}, "no systems"),
        ({"genrec": GOOD}, {"cases": []}, "no cases"),
        ({"genrec": GOOD}, {"ks": (0, 5)}, "at least 1; given 0, 5"),
        ({"genrec": GOOD}, {"ks": ()}, "given none"),
        ({"lists": GOOD}, {"reference": "genrec"}, "'genrec' is not among the systems lists"),
        ({"genrec": GOOD}, {"embeddings": np.eye(3)}, "3 embeddings for 10 items"),
    ],
)
def test_what_cannot_be_judged_is_refused(systems, options, message):
    with pytest.raises(DataError, match=message):
        judge(systems, **options)


def test_the_same_input_gives_the_same_report():
    systems = {"genrec": GOOD, "empty": EMPTY}
    assert judge(systems, reference="genrec").to_json() == judge(systems, reference="genrec").to_json()
