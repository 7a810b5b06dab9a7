"""Runs on a hub: what goes up, what comes down, and what is never asked of one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from genrec import evaluate
from genrec.data.prepared import load_prepared
from genrec.errors import ArtefactError, ConfigError
from genrec.recommender import Recommender
from genrec.runs.card import model_card
from genrec.runs.hub import figures, run_folder
from tests.hub_server import Hub, running


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of its own, and an empty cache."""
    with running() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def run(toy_run: Path, toy_data: Path, tmp_path: Path) -> Path:
    """An evaluated run of its own."""
    shutil.copytree(toy_run, tmp_path / "films")
    rec = Recommender.from_pretrained(tmp_path / "films", "cpu", "fp32")
    evaluate(rec, toy_data, baselines="popularity", sample=20, out=tmp_path / "films" / "evaluation" / "test")
    return tmp_path / "films"


def answers(recommender: Recommender) -> list[Any]:
    return [entry.to_json() for entry in recommender.recommend(["nig1", "nig2"], k=5)]


def test_up_and_down_again(hub: Hub, run: Path, toy_data: Path, tmp_path: Path) -> None:
    rec = Recommender.from_pretrained(run, "cpu", "fp32")
    url = rec.push_to_hub("someone/films", token="hf_given")
    assert hub.private == {"someone/films": True}
    assert url.startswith(f"{hub.url}/someone/films/commit/")
    assert hub.tokens == {"Bearer hf_given"}
    files = hub.files("someone/films")
    # The base was made here, so it goes with the run; nothing else than the manifest lists, and the card.
    assert set(files) == {*json.loads(files["genrec.json"])["files"], "genrec.json", "README.md", ".gitattributes"}
    assert {"base/config.json", "base/model.safetensors", "adapter/adapter_model.safetensors"} <= set(files)
    assert not [name for name in files if re.search("checkpoint|histories|evaluation|begun|[.]bin|[.]pkl", name)]
    users = {history.user for history in load_prepared(toy_data).histories}
    for name, data in files.items():
        assert not any(user.encode() in data for user in users), name
        assert str(tmp_path).encode() not in data, name
        assert str(toy_data.parent).encode() not in data, name
    shutil.rmtree(run)
    again = Recommender.from_pretrained("someone/films", "cpu", "fp32")
    assert answers(again) == answers(rec)
    # What was loaded from a hub can be saved and grown like any other.
    again.save_pretrained(tmp_path / "saved")
    assert answers(Recommender.from_pretrained(tmp_path / "saved", "cpu", "fp32")) == answers(rec)


def test_a_revision_and_what_is_kept_offline(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rec = Recommender.from_pretrained(run, "cpu", "fp32")
    first = rec.push_to_hub("someone/films").rpartition("/")[2]
    rec.fusion = None
    second = rec.push_to_hub("someone/films").rpartition("/")[2]
    assert "fusion.json" not in hub.files("someone/films")
    assert Recommender.from_pretrained("someone/films", "cpu", revision=first).fusion is not None
    assert Recommender.from_pretrained("someone/films", "cpu").fusion is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.calls)
    assert run_folder("someone/films").name == second
    assert run_folder("someone/films", first).name == first
    with pytest.raises(ArtefactError, match=r"no folder someone/other, and the hub did not give .* HF_HUB_OFFLINE"):
        Recommender.from_pretrained("someone/other")
    assert len(hub.calls) == asked


def test_what_looks_like_a_path_is_never_asked_of_a_hub(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in (
        "runs/films",
        Path("someone/films"),
        "./someone/films",
        "films",
        "some/one/films",
        "~/films",
        "../a/b",
    ):
        with pytest.raises(ArtefactError, match="there is no folder"):
            Recommender.from_pretrained(name)
    with pytest.raises(ArtefactError, match="only a hub's run has revisions"):
        Recommender.from_pretrained(tmp_path / "runs", revision="main")
    assert hub.calls == []


def test_what_is_no_run_is_refused(hub: Hub) -> None:
    hub.repositories["someone/other"] = {}
    hub.commit("someone/other", {"config.json": b"{}"})
    hub.private["someone/other"] = False
    with pytest.raises(ArtefactError, match="someone/other"):
        Recommender.from_pretrained("someone/other")


def test_a_public_repository_is_not_written_as_if_it_were_private(hub: Hub, toy_run: Path) -> None:
    hub.repositories["someone/films"] = {}
    hub.commit("someone/films", {})
    hub.private["someone/films"] = False
    rec = Recommender.from_pretrained(toy_run, "cpu", "fp32")
    with pytest.raises(ConfigError, match="someone/films is public on the hub"):
        rec.push_to_hub("someone/films")
    assert hub.files("someone/films") == {}
    for wrong in ("films", "a/b/c", "some one/films", "/films"):
        with pytest.raises(ConfigError, match="is not a repository id"):
            rec.push_to_hub(wrong)


def test_without_a_network_the_remedy_is_told(toy_run: Path) -> None:
    rec = Recommender.from_pretrained(toy_run, "cpu", "fp32")
    with pytest.raises(ArtefactError, match=r"the hub did not take someone/films .*HF_HUB_OFFLINE"):
        rec.push_to_hub("someone/films", token="hf_secret")


def test_the_card_is_read_by_huggingface_hub(run: Path, toy_data: Path) -> None:
    rec = Recommender.from_pretrained(run, "cpu", "fp32")
    report = figures(rec)
    assert report is not None
    text = model_card(rec.manifest, "someone/films", rec.catalog.items[:2], len(rec.catalog), report)
    card = ModelCard(text)
    assert card.data.library_name == "genrec"
    assert "recommendation" in card.data.tags
    assert card.data.get("license") is None
    assert card.data.base_model is None  # it was made here, and no hub has it
    found = {result.metric_type: result for result in card.data.eval_results}
    figure = report.systems["genrec"]["ndcg@10"]
    assert found["ndcg@10"].metric_value == round(figure.value, 6)
    assert found["ndcg@10"].metric_name == f"NDCG@10 (95 % interval {figure.low:.4f} to {figure.high:.4f})"
    assert found["ndcg@10"].dataset_revision == rec.manifest.data
    for said in ("## Limits", "| popularity |", 'from_pretrained("someone/films")', rec.manifest.data):
        assert said in text
    users = {history.user for history in load_prepared(toy_data).histories}
    assert not any(user in text for user in users)


def test_a_base_of_a_hub_is_named(toy_run: Path) -> None:
    rec = Recommender.from_pretrained(toy_run, "cpu", "fp32")
    known = rec.manifest.models["base"]
    for kind, name, base in (
        ("hub", "org/base", "org/base"),
        ("starter", "starter", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ):
        models = {**rec.manifest.models, "base": replace(known, kind=kind, name=name)}
        card = ModelCard(model_card(rec.manifest.changed(models=models), "someone/films", rec.catalog.items[:2], 30))
        assert card.data.base_model == base
        assert "was not evaluated in this state" in card.text


def test_figures_of_another_state_are_left_out(run: Path) -> None:
    rec = Recommender.from_pretrained(run, "cpu", "fp32")
    assert figures(rec) is not None
    rec.fusion = None
    assert figures(rec) is None
