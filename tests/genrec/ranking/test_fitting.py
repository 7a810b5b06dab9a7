"""What a list is made of: weights found again, parts that must prove themselves, and the last gate."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from genrec.errors import DataError
from genrec.ranking.cases import FOLDS, FitCase, Table
from genrec.ranking.choice import FOREST, MODEL, MODEL_FOREST, SIGNALS, WITH_MODEL, choose, overtaken
from genrec.ranking.fitting import fit_model
from genrec.ranking.forest import ENOUGH_CASES, shares_of
from genrec.ranking.fusion import Fusion
from genrec.ranking.model_cases import settled
from genrec.ranking.proof import errors_for, paired
from genrec.ranking.weights import fit_sum, fit_weights
from genrec.ranking.without_model import fit_signals_fusion

CANDIDATES = 20


def two_signals(cases, seed=0, told=True):
    """Who has a short history takes what the first signal puts first, who has a long one what the second does."""
    draw, made = np.random.default_rng(seed), []
    for case in range(cases):
        rows = draw.random((CANDIDATES, 2)).astype(np.float32)
        length = int(draw.integers(1, 21))
        target = int(rows[:, int(length > 10)].argmax()) if told else int(draw.integers(CANDIDATES))
        made.append(FitCase(rows, shares_of(rows), length, target, case % FOLDS))
    return made


def asked(cases, seed, says):
    """The same world, and a model: right where the history is long, always right, or knowing nothing."""
    draw, made = np.random.default_rng(seed + 100), []
    for case in two_signals(cases, seed):
        likelihoods = draw.normal(-5, 1, CANDIDATES).astype(np.float32)
        if says == "the contrary":
            likelihoods[case.target] = -20
        if says == "right" or (says == "right for long histories" and case.length > 10):
            likelihoods[case.target] = -0.5
        made.append(replace(case, likelihoods=likelihoods, found=likelihoods >= np.sort(likelihoods)[-5]))
    return made


def gains_of(cases, scores, k=10):
    return Table(cases).gains(np.concatenate(scores), k)


def one_case(values, target, fold=0):
    rows = np.array(values, np.float32)
    return FitCase(rows, shares_of(rows), 3, target, fold)


def planted(weights, cases, seed=0):
    """Candidates of random columns, and targets drawn with probability proportional to exp(w.x)."""
    draw = np.random.default_rng(seed)
    columns, made = [], []
    for case in range(cases):
        rows = draw.normal(size=(int(draw.integers(5, 30)), len(weights)))
        odds = np.exp(rows @ weights)
        columns.append(rows)
        made.append(one_case(rows, int(draw.choice(len(rows), p=odds / odds.sum())), case % FOLDS))
    return np.concatenate(columns), Table(made)


def test_planted_weights_are_found_again_within_their_errors():
    wanted = np.array([1.2, -0.7, 0.0])
    columns, table = planted(wanted, 3000)
    found, errors = fit_weights(columns, table, np.arange(3000))
    assert found == pytest.approx(wanted, abs=0.08)
    assert np.abs(found - wanted).max() < 4 * errors.max()
    assert errors == pytest.approx(np.full(3, 0.02), abs=0.01)


def test_the_fit_by_hand():
    # One signal, two candidates, taken three times in four: exp(w) / (exp(w) + 1) = 3/4 but for the prior, which pulls
    # down: the derivative of all four cases together is 4 (p - 3/4) + w / 10 = 0.
    table = Table([one_case([[1.0], [0.0]], target) for target in (0, 0, 0, 1)])
    (weight,), _ = fit_weights(table.values, table, np.arange(4))
    assert weight < math.log(3)
    assert 4 * (math.exp(weight) / (math.exp(weight) + 1) - 0.75) + weight / 10 == pytest.approx(0, abs=1e-6)


def test_what_is_thought_beforehand_matters_less_the_more_cases_there_are():
    few, many = (Table([one_case([[1.0], [0.0]], target) for target in (0, 0, 0, 1)] * times) for times in (1, 100))
    (first,), (second,) = (fit_weights(table.values, table, np.arange(len(table.cases)))[0] for table in (few, many))
    assert math.log(3) - first > 0.1
    assert math.log(3) - second < 0.002


def test_only_the_cases_that_are_given_say_anything():
    table = Table([one_case([[1.0], [0.0]], target) for target in (0, 0, 0, 1, 1, 1, 1)])
    some = fit_weights(table.values, table, np.arange(4))[0]
    assert some == pytest.approx(fit_weights(Table(table.cases[:4]).values, Table(table.cases[:4]), np.arange(4))[0])
    among = np.ones(len(table.values), np.bool_)
    among[::2] = False  # the first candidate of each is none: only the last three cases have theirs, and no other
    (weight,), _ = fit_weights(table.values, table, np.arange(7), among)
    assert weight == pytest.approx(0)


def test_no_case_is_said():
    table = Table([one_case([[1.0], [0.0]], None)])
    with pytest.raises(DataError, match="no validation case whose item is among the candidates"):
        fit_weights(table.values, table, np.arange(1))


def test_gains_by_hand_and_a_miss_is_a_zero():
    table = Table([one_case([[3.0], [2.0], [1.0], [2.0]], target) for target in (0, 1, None)])
    scores = table.values[:, 0]
    assert table.gains(scores, 10).tolist() == pytest.approx([1, 1 / 2, 0])  # the equal one stands before: rank 3
    assert table.gains(scores, 2).tolist() == [1, 0, 0]
    among = np.array([False, True, True, True] * 3)
    assert table.gains(scores, 10, among).tolist() == pytest.approx([0, 1 / np.log2(3), 0])


def test_places_are_within_a_case():
    table = Table([one_case([[3.0], [5.0]], 0), one_case([[4.0], [9.0], [1.0]], 0)])
    assert table.places(table.values[:, 0]).tolist() == [1, 0, 1, 0, 2]


def test_a_signal_that_says_nothing_is_not_used():
    draw, cases = np.random.default_rng(7), []
    for case in range(300):
        rows = draw.random((CANDIDATES, 3)).astype(np.float32)
        cases.append(
            FitCase(rows, shares_of(rows), 3, int((rows[:, 0] + 0.6 * draw.random(CANDIDATES)).argmax()), case % FOLDS)
        )
    fusion = fit_sum(("good", "noise", "more noise"), Table(cases), np.arange(300))
    assert fusion.weights[0] > 5
    assert 0.0 in fusion.weights[1:]
    assert fusion.cases == 300


def test_chance_gets_no_forest():
    fit = fit_signals_fusion(("one", "other"), Table(two_signals(ENOUGH_CASES, told=False)), 10, seed=0)
    assert fit.fusion.forest_weight == 0
    assert fit.fusion.forest == ""
    assert any("forest" in sentence and "left out" in sentence for sentence in fit.words)


def test_few_cases_give_no_forest():
    fit = fit_signals_fusion(("one", "other"), Table(two_signals(ENOUGH_CASES - 1)), 10, seed=0)
    assert fit.fusion.forest == ""
    assert not set(FOREST.values()) & set(fit.gains)


def test_each_case_is_judged_by_a_fit_that_does_not_know_it():
    draw = np.random.default_rng(2)
    cases = [
        replace(case, target=int((case.values + 0.3 * draw.random((CANDIDATES, 2))).sum(axis=1).argmax()))
        for case in two_signals(FOLDS * 8)
    ]
    fit = fit_signals_fusion(("one", "other"), Table(cases), 10, seed=0)
    for fold, own in enumerate(fit.folds):
        others = [case for case in cases if case.fold != fold]
        again = fit_sum(("one", "other"), Table(others), np.arange(len(others)))
        assert own.weights == pytest.approx(again.weights, abs=1e-4)


def test_a_signal_that_is_better_alone_is_served_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "genrec.ranking.without_model.fit_sum",
        lambda signals, table, cases: Fusion(signals, (1.0, 1.0), (0.0, 1.0), 0, 9, 0),
    )
    draw, cases = np.random.default_rng(8), []
    for case in range(100):
        rows = draw.random((CANDIDATES, 2)).astype(np.float32)
        cases.append(FitCase(rows, shares_of(rows), 3, int(rows[:, 0].argmax()), case % FOLDS))
    fit = fit_signals_fusion(("good", "noise"), Table(cases), 10, seed=0)
    assert fit.used == "good"
    assert fit.fusion.weights == (1.0, 0.0)
    assert "Good alone ranks better than the weighted sum" in " ".join(fit.words)


@pytest.fixture(scope="module")
def by_signals():
    """Fits of the sum alone, for models of all kinds."""
    return fit_signals_fusion(("one", "other"), Table(two_signals(ENOUGH_CASES - 1)), 10, seed=0)


def test_a_model_that_is_right_counts_and_one_that_knows_nothing_does_not(by_signals) -> None:
    right = fit_model(by_signals, asked(300, 0, "right"), 0, 10, True)
    assert right.model > 0 or right.others_weight == 0
    assert right.model_cases == 300
    nothing = fit_model(by_signals, asked(300, 0, "nothing"), 0, 10, True)
    assert (nothing.model, nothing.model_forest_weight, nothing.others_weight) == (0, 0, 1)
    assert "The language model does not count" in " ".join(nothing.to_words())


def test_a_model_that_is_asked_where_the_item_is_missing_proves_nothing(by_signals) -> None:
    """Misses count: the same few cases are no proof among many that nobody could have got right."""
    few = asked(40, 3, "right for long histories")
    missed = [replace(case, target=None) for case in asked(400, 4, "nothing")]
    both = fit_model(by_signals, few + missed, 0, 10, True)
    assert both.proof.cases == 440
    assert both.proof.value <= 40 / 440


def test_a_model_right_for_some_users_only_is_read_by_trees(by_signals) -> None:
    fitted = fit_model(by_signals, asked(ENOUGH_CASES + 50, 0, "right for long histories"), 0, 10, True)
    assert fitted.model == 0
    assert fitted.model_forest_weight > 0
    assert "forest with lm" in fitted.describe()
    assert Fusion.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    cases = asked(200, 1, "right for long histories")
    weighed = replace(fitted, model_forest_weight=0.0, model=1.0)

    def gain(fusion):
        parts = [
            (
                fusion.evidence(case.values, case.shares, case.length),
                case.values,
                case.shares,
                case.length,
                case.likelihoods,
            )
            for case in cases
        ]
        return gains_of(cases, [fusion.with_model(*part) for part in parts]).mean()

    assert gain(fitted) > gain(weighed) + 0.05


def gains(size=400, **means):
    """Gains of which each way's mean is planted, all with the same noise and a little of their own."""
    draw = np.random.default_rng(9)
    common = draw.random(size)
    return {name: common + mean + 0.05 * draw.standard_normal(size) for name, mean in means.items()}


def named(**means):
    short = {"half": WITH_MODEL[0.5], "trees": MODEL_FOREST, "model": MODEL, "sum": SIGNALS}
    every = {"sum": 0.0, "half": 0.0, "trees": 0.0, "model": -0.2, **means}
    found = {short.get(name, name): own for name, own in gains(**every).items()}
    return {**found, WITH_MODEL[0.25]: found[SIGNALS].copy(), WITH_MODEL[1.0]: found[SIGNALS] - 0.1}


def test_what_is_richer_must_earn_more_than_its_error():
    assert choose(named(), SIGNALS) == SIGNALS
    assert choose(named(half=0.01), SIGNALS) == WITH_MODEL[0.5]
    assert choose(named(half=0.01, trees=0.1), SIGNALS) == MODEL_FOREST
    assert choose(named(half=-0.1, trees=-0.1), SIGNALS) == SIGNALS


def test_what_is_simpler_takes_over_where_it_is_better():
    assert choose(named(half=0.01, model=0.1), SIGNALS) == MODEL
    assert choose(named(popularity=0.05), SIGNALS) == "popularity"


def test_of_ten_simpler_ways_the_luckiest_needs_more_than_luck():
    draw = np.random.default_rng(3)
    served = draw.random(400)
    lucky = {f"way {number}": served + 0.05 * draw.standard_normal(400) for number in range(9)}
    ahead = {name: paired(own, served).size for name, own in lucky.items()}
    assert 1 < max(ahead.values()) < errors_for(9)
    assert overtaken(lucky, served) is None
    assert overtaken({**lucky, "better": served + 0.01 + 0.05 * draw.standard_normal(400)}, served) == "better"
    assert overtaken({}, served) is None


def test_the_last_gate_serves_the_best_part(by_signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice that is wrong on other cases than those it was made on is taken back, and that is said."""
    cases = asked(300, 0, "nothing")
    for module in ("fitting", "choice"):
        monkeypatch.setattr(f"genrec.ranking.{module}.choose", lambda gains, used: WITH_MODEL[1.0])
    monkeypatch.setattr("genrec.ranking.model_cases.relative", lambda weights: 5.0)  # far too much
    fusion = fit_model(by_signals, cases, 0, 10, True)
    assert fusion.model == 0
    assert "The last gate" in " ".join(fusion.to_words())


def test_a_model_of_weight_nothing_has_no_shares_to_speak_of(by_signals) -> None:
    fusion = fit_model(by_signals, asked(200, 0, "the contrary"), 0, 10, True)
    assert fusion.model == 0
    told = " ".join(fusion.to_words())
    assert "on 200 cases its likeliest weight is 0" in told
    assert "of what the language model is worth" not in told


def test_more_cases_are_asked_until_what_the_model_earns_is_known(by_signals) -> None:
    assert not settled(by_signals, asked(100, 0, "nothing"), 10)  # too few, however clear
    assert settled(by_signals, asked(ENOUGH_CASES, 0, "nothing"), 10)  # its likeliest weight is next to nothing
    assert not settled(by_signals, asked(ENOUGH_CASES, 0, "right for long histories"), 10)


def test_the_fewest_candidates_that_are_enough_and_recalls(by_signals) -> None:
    fusion = fit_model(by_signals, asked(200, 0, "right"), 0, 10, True)
    assert (fusion.together, fusion.each) == (50, 0)
    recalls = fusion.proof.recalls
    assert recalls["all together"] == 1
    assert recalls["the language model"] == 1
    assert recalls["one (20)"] == 1
