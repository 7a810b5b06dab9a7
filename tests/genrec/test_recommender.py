"""The recommender over the toy world: the right answer, the laws about lists, saving and loading."""

from __future__ import annotations

import inspect
import json
import pydoc
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import ArtefactError, DataError, ModelError, Recommender, Settings
from genrec.data.prepared import load_prepared
from genrec.data.splits import History
from genrec.recommendation import Recommendation
from genrec.signals.registry import SIGNALS
from tests.toyworld import PARTS, make_catalog, make_histories


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


def test_the_model_has_learnt_the_world(recommender: Recommender) -> None:
    """Parts 1 to n are followed by part n + 1, for the model alone."""
    catalog = make_catalog()
    right = asked = 0
    for series in range(5):
        for length in range(1, PARTS):
            items = catalog.ids[series * PARTS : series * PARTS + length]
            (answer,) = recommender.recommend_with_parts([History("", items)], Settings(k=1))
            right += answer.model_alone[0] == catalog.ids[series * PARTS + length]
            asked += 1
    assert right > 0.5 * asked  # chance: 0.04 of 25, with a standard error of 0.04


def test_the_five_line_api(recommender: Recommender) -> None:
    found = recommender.recommend(["Night Train 1", "night train 2", make_catalog()["nig3"]], k=5)
    assert [entry.rank for entry in found] == [1, 2, 3, 4, 5]
    assert found[0].item.title == "Night Train 4"
    assert found[0].how == "exact"
    assert found[0].generated == "Night Train 4"
    assert "“Night Train 3”" in found[0].explanation
    with pytest.raises(DataError, match="'Nothing' is neither an id nor a title of the 30 items"):
        recommender.recommend(["Nothing"])


@pytest.mark.parametrize("mode", ["constrained", "free"])
def test_k_distinct_unseen_items_of_the_catalogue(recommender: Recommender, mode: Any) -> None:
    histories = [*make_histories(12, seed=5), History("new", ())]
    for history, found in zip(
        histories, recommender.recommend_many(histories, Settings(k=24, beams=4, mode=mode)), strict=True
    ):
        ids = [entry.item.id for entry in found]
        assert len(set(ids)) == len(ids) == 24
        assert not set(ids) & set(history.items)
        assert all(item in recommender.catalog for item in ids)
        assert all((*entry.signals, "again") == SIGNALS for entry in found)


def test_seen_items_are_kept_when_asked(recommender: Recommender) -> None:
    history = History("", make_catalog().ids[:3])
    (found,) = recommender.recommend_many([history], Settings(k=30, beams=30, exclude_seen=False))
    assert {entry.item.id for entry in found} == set(make_catalog().ids)


def test_a_batch_gives_what_single_calls_give(recommender: Recommender) -> None:
    histories = list(make_histories(17, seed=6))
    together = recommender.recommend_many(histories, Settings(k=5, batch_size=16))
    for history, found in zip(histories, together, strict=True):
        (alone,) = recommender.recommend_many([history], Settings(k=5))
        assert [entry.item.id for entry in alone] == [entry.item.id for entry in found]
        for one, other in zip(alone, found, strict=True):
            assert one.signals["lm"] == pytest.approx(other.signals["lm"], abs=1e-4)


def test_free_texts_say_how_they_became_items(recommender: Recommender) -> None:
    (found,) = recommender.recommend_many([History("", make_catalog().ids[:2])], Settings(k=5, mode="free"))
    assert found[0].item.title == "Red Harbour 3"
    assert found[0].how == "exact"
    assert {entry.how for entry in found} <= {"exact", "normalised", "nearest", "collaborative", "popularity"}


def test_save_load_recommend_is_the_same(recommender: Recommender, toy_run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(toy_run, tmp_path / "moved")
    history = History("", make_catalog().ids[6:8])
    again = Recommender.from_pretrained(moved, precision="fp32")
    assert again.recommend_many([history], Settings()) == recommender.recommend_many([history], Settings())


def test_recommendations_survive_json(recommender: Recommender) -> None:
    (found,) = recommender.recommend_many([make_histories(1)[0]], Settings(k=3, explain="sentence"))
    for entry in found:
        again = Recommendation.from_json(json.loads(json.dumps(entry.to_json())), entry.item)
        assert again.to_json() == entry.to_json()


def test_an_adapter_holds_no_path_and_no_pickle(toy_run: Path) -> None:
    names = {path.name for path in toy_run.rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    assert {"genrec.json", "template.toml", "recipe.yaml", "adapter_model.safetensors", "index.faiss"} <= names


@pytest.mark.parametrize(
    "name", ["trie.safetensors", "adapter/adapter_model.safetensors", "items.jsonl", "template.toml"]
)
@pytest.mark.parametrize("harm", ["cut", "removed", "changed"])
def test_damage_is_found_when_loading(toy_run: Path, tmp_path: Path, name: str, harm: str) -> None:
    run = shutil.copytree(toy_run, tmp_path / "run")
    content = (run / name).read_bytes()
    if harm == "removed":
        (run / name).unlink()
    else:
        (run / name).write_bytes(content[:-1] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtefactError, match=r"is missing|is not the file that was written"):
        Recommender.from_pretrained(run)


def test_a_missing_base_names_the_run(toy_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(toy_run, tmp_path / "run")
    manifest = json.loads((run / "genrec.json").read_text(encoding="utf-8"))
    manifest["base"] = "./gone"
    manifest["models"]["base"]["way"] = "gone"
    del manifest["checksum"]  # as one does who changes it by hand
    (run / "genrec.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ModelError, match=r"the base of .*run is not where it was: there is no folder .*/run/gone nor "):
        Recommender.from_pretrained(run)


def test_unfinished_and_other_folders(tmp_path: Path, toy_data: Path) -> None:
    with pytest.raises(ArtefactError, match="there is no folder"):
        Recommender.from_pretrained(tmp_path / "none")
    with pytest.raises(ArtefactError, match=r"has no genrec\.json: it is unfinished"):
        Recommender.from_pretrained(tmp_path)
    with pytest.raises(ArtefactError, match="holds 'data', expected a genrec run folder"):
        Recommender.from_pretrained(toy_data)


def test_prepared_data_names_the_world(toy_data: Path) -> None:
    assert load_prepared(toy_data).catalog.ids == make_catalog().ids


def test_it_shows_what_it_is_and_no_caches(recommender: Recommender) -> None:
    recommender.recommend(["Night Train 1"], k=2, mode="free", taste="a night train")
    shown = repr(recommender)
    assert shown.startswith(f"<Recommender of 30 items: LlamaForCausalLM in {recommender.computing}, with similarity, ")
    assert len(shown) < 200
    parameters = inspect.signature(Recommender).parameters
    assert len(parameters) == 12
    assert not [name for name in parameters if name.startswith("_")]
    shown = pydoc.render_doc(Recommender, renderer=pydoc.plaintext)
    assert "recommend_many" in shown
    assert not re.findall(r"^ \|  (_[a-z]\w*)", shown, re.MULTILINE)


def test_what_is_exchanged_is_used_at_once(recommender: Recommender) -> None:
    """Caches must hold nothing that the next line may exchange."""
    own = replace(recommender, signals=dict(recommender.signals))
    before = own.recommend(["Night Train 1"], k=3)
    own.fusion = None
    assert own.recommend(["Night Train 1"], k=3)[0].score != before[0].score
    own.signals["flat"] = replace(own.signals["popularity"], scores=np.zeros(30, np.float32))
    assert own.recommend(["Night Train 1"], k=3)[0].signals["flat"] == 0.0
