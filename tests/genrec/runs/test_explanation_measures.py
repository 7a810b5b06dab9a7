"""The measures of explanations against their definitions, worked by hand or prompt by prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import History, Recommender, Settings
from genrec.data.prepared import load_prepared
from genrec.evaluation.results import Report
from genrec.evaluation.uncertainty import bootstrap_ratio
from genrec.explain.writer import Explanation
from genrec.report.explanation_figures import FIGURES
from genrec.report.page import render_report
from genrec.runs.evaluate import evaluate_run
from genrec.runs.explanation_measures import compare_explanations, drops_of, measure_explanations

TAKEN = ("red1", "nig1", "red2", "nig2", "the1", "nig3")


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


def likelihood(recommender: Recommender, items: list[str], target: str) -> float:
    prompt = recommender.prompt(History("", tuple(items))).input_ids
    row = np.array([recommender.catalog.row(target)])
    return float(recommender.decoder.score(recommender.decoder.read([prompt]), [row])[0][0])


def test_drops_are_those_of_shortened_histories(recommender: Recommender) -> None:
    catalog, taken = recommender.catalog, [*TAKEN, "nig1"]
    items, cited = [catalog["nig4"], catalog["red3"]], [[catalog["nig1"], catalog["nig3"]], []]
    found = drops_of(recommender, History("", tuple(taken)), items, cited, seed=4, draws=3)
    whole = likelihood(recommender, taken, "nig4")
    left = [item for item in taken if item not in ("nig1", "nig3")]  # taken twice, left out twice
    assert found.cited[0] == pytest.approx(whole - likelihood(recommender, left, "nig4"), abs=1e-3)
    assert np.isnan(found.cited[1])
    assert np.isnan(found.random[1])
    draw = np.random.default_rng([4, len(taken)])
    falls = []
    for _ in range(3):
        gone = draw.choice(sorted(set(taken)), 2, replace=False).tolist()
        falls.append(whole - likelihood(recommender, [item for item in taken if item not in gone], "nig4"))
    assert found.random[0] == pytest.approx(np.mean(falls), abs=1e-3)


def test_what_moves_the_model_is_faithful_and_what_does_not_is_not(recommender: Recommender) -> None:
    """The last part of the series moves its next part; a stray film of another series does not."""
    history = History("", TAKEN)
    (answer,) = recommender.recommend_with_parts([history], Settings(k=1))
    entry = replace(answer.recommendations[0], item=recommender.catalog["nig4"])

    def faithfulness(cited: str) -> float:
        told = Explanation("“Night Train 4” it is.", (recommender.catalog[cited],))
        judged = replace(answer, recommendations=[entry], explanations=[told])
        return measure_explanations(recommender, [history] * 2, [judged] * 2)["faithfulness"].value

    assert faithfulness("nig3") > 2
    assert faithfulness("the1") < 1


def test_shares_are_over_texts(recommender: Recommender) -> None:
    history, catalog = History("", ("red1", "nig1")), recommender.catalog
    (answer,) = recommender.recommend_with_parts([history], Settings(k=2))
    entries = [replace(answer.recommendations[0], item=catalog[item]) for item in ("red2", "nig2")]
    told = [
        Explanation("“Red Harbour 2” for “Red Harbour 1”.", (catalog["red1"],), "words"),
        Explanation("“Night Train 2” for “Café Étoile 1”.", (), "sentence", ("it names no evidence",)),
    ]
    found = measure_explanations(recommender, [history], [replace(answer, recommendations=entries, explanations=told)])
    assert [name for name in FIGURES if name in found] == list(found)
    values = {name: estimate.value for name, estimate in found.items()}
    assert [values[name] for name in ("citation_validity", "written", "fallbacks", "words")] == [0.5, 0.5, 0.5, 7]
    assert values["distinct_1"] == pytest.approx(9 / 14)  # red, harbour, 2, for, 1, night, train, café, étoile


def test_a_ratio_of_means_and_its_interval() -> None:
    top, bottom = np.array([2.0, 4.0, 6.0]), np.array([1.0, 1.0, 2.0])
    assert bootstrap_ratio(top, bottom, seed=0).value == 3
    assert bootstrap_ratio(top, top / 3, seed=0).to_json() == {"value": 3, "low": 3, "high": 3}
    unbounded = bootstrap_ratio(top, np.array([3.0, -1.0, -1.0]), seed=0)
    assert (unbounded.value, unbounded.high) == (12, None)
    endless = bootstrap_ratio(top, -bottom, seed=0)
    assert np.isnan(endless.value)
    assert (endless.low, endless.high) == (None, None)
    mixed = bootstrap_ratio(top, np.array([2.0, -1.0, -1.0]), seed=0)
    assert np.isnan(mixed.value)
    assert mixed.low == 1  # thrice the first: 2 / 2
    assert np.isnan(bootstrap_ratio(top[:0], bottom[:0], seed=0).value)


def test_an_evaluation_measures_explanations_when_asked(recommender: Recommender, toy_data: Path) -> None:
    data = load_prepared(toy_data)
    cases = data.split().test[:8]
    options: dict[str, Any] = {"baselines": ("popularity",)}
    settings = Settings(k=20, beams=20)
    report = evaluate_run(recommender, data, "test", cases, settings, explanations=4, **options).report
    assert set(report.explanations) == {"sentence", "measured", "words"}
    assert report.settings["explained_users"] == 4
    for figures in report.explanations.values():
        assert figures["citation_validity"].value == 1
    assert report.explanations["words"]["fallbacks"].value > 0
    again = Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    page = render_report(again)
    assert "explained in each way" in page
    for name in FIGURES:
        assert f">{name.replace('_', ' ')}</abbr>" in page
    plain = evaluate_run(recommender, data, "test", cases[:2], settings, **options).report
    assert plain.explanations == {}
    assert "explained in each way" not in render_report(plain)
    drawn = [case.history for case in cases[:2]]
    assert compare_explanations(recommender, drawn, Settings(k=2)) == compare_explanations(
        recommender, drawn, Settings(k=2, explain="words")
    )
