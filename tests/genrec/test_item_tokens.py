"""New items through the model: a token and a vector from what the item is, in memory, on disk, and exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import genrec
from genrec import Item, Recommender, Settings
from genrec.data.prepared import save_prepared
from genrec.language.item_tokens import ItemTokens, item_text
from genrec.ranking.fusion import Fusion
from genrec.ranking.new_items import NewItems
from genrec.runs.export import export_merged
from genrec.runs.grow import add_to_run
from tests.toyworld import make_base, make_data

NEW = Item("nig7", "Night Train 7", categories=("Night Train",))
OTHER = Item("red7", "Red Harbour 7", categories=("Red Harbour",))
SMALL = {
    "epochs": 12, "width": 32, "layers": 1, "dropout": 0.1, "learning_rate": 1e-2, "warmup": 10, "batch_tokens": 128,
    "max_tokens": 32,
}  # fmt: skip


@pytest.fixture(scope="module", params=["causal", "seq2seq", "base"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a base of each family made from nothing, and over a trained one whose titles were made tokens."""
    folder = tmp_path_factory.mktemp(f"meaning-{request.param}")
    files = tmp_path_factory.mktemp("files")
    data = make_data(files)
    save_prepared(data, folder / "data")
    if request.param == "base":
        start = str(make_base(tmp_path_factory.mktemp("start")))
        how = {"base": start, "epochs": 20, "learning_rate": 1e-2, "warmup": 10, "batch_tokens": 128, "max_tokens": 64}
    else:
        how = {"family": request.param, **SMALL}
    base = genrec.pretrain(folder / "data", folder / "base", encoder="hashing", **how)
    genrec.train(
        folder / "data", folder / "run", base=base.folder, encoder="hashing", max_minutes=0.02,
        tuning_minutes=0.05,
    )  # fmt: skip
    return folder / "run"


def _fusion(recommender: Recommender, new_items: NewItems | None) -> Fusion:
    names = tuple(recommender.signals)
    return Fusion(names, (1.0,) * len(names), (0.1,) * len(names), 0.7, 100, 100, new_items=new_items)


def by_model(recommender: Recommender, items: list[str]) -> list[str]:
    """Return what the model finds by itself, best first."""
    (found,) = recommender.candidates(_batch(items), Settings(k=10))
    return [recommender.catalog.ids[row] for row in found.found.rows.tolist()]


def _batch(items: list[str]) -> list[genrec.History]:
    return [genrec.History("", tuple(items))]


def test_a_new_item_is_one_token_that_the_model_writes_and_reads(run: Path) -> None:
    before = Recommender.from_pretrained(run, precision="fp32")
    grown = before.with_items([NEW]).with_items([OTHER])
    assert before.tokens is None
    assert before.encoder.max_tokens in (32, 64), "the base's own window is taken"
    assert grown.tokens is not None
    assert grown.tokens.rows.tolist() == [30, 31]
    size = before.encoder.embeddings
    assert size is not None
    assert [grown.encoder.item(item.title) for item in (NEW, OTHER)] == [(size,), (size + 1,)]
    night, red = [[f"{series}{part}" for part in range(1, 7)] for series in ("nig", "red")]
    assert by_model(grown, night)[0] == "nig7"
    assert by_model(grown, red)[0] == "red7"
    # Read in a history, it says what a night train says.
    assert by_model(grown, ["nig7"])[0].startswith("nig")
    # Whatever else is known, the best new items are candidates, and are scored as the fit says.
    (own,) = grown.candidates(_batch(night), Settings(k=1, beams=1), count=1, each=0)
    assert (own.new == (own.rows >= 30)).all()
    assert set(own.rows[own.new].tolist()) == {30, 31}
    judged = replace(grown, fusion=_fusion(grown, NewItems(0.5, 2.0, 9.0, 1)))
    plain = replace(grown, fusion=_fusion(grown, None))
    lists = [{one.item.id: one for one in rec.recommend(night, k=26, waterfall=True)} for rec in (judged, plain)]
    for item, entry in lists[0].items():
        same, new = lists[1][item], item in ("nig7", "red7")
        assert entry.waterfall is not None
        assert sum(entry.waterfall.parts.values()) == pytest.approx(entry.score, abs=1e-4)
        told = 0.5 * same.score + 2.0 * (same.signals["lm"] or 0.0) + 9.0 if new else same.score
        assert entry.score == pytest.approx(told, abs=1e-4)
    # What was known is as it was.
    (old,) = before.candidates(_batch(night[:3]), Settings(k=5))
    (new,) = grown.candidates(_batch(night[:3]), Settings(k=5))
    known = dict(zip(new.found.rows.tolist(), new.found.scores.tolist(), strict=True))
    for row, score in zip(old.found.rows.tolist(), old.found.scores.tolist(), strict=True):
        assert row not in known or known[row] == pytest.approx(score, abs=0.5)
    prompt = grown.prompt(_batch(["nig1", "nig7"])[0])
    assert " Night Train 1\n Night Train 7\n" in grown.encoder.text(prompt.input_ids)
    assert [match.item.id for match in grown.recommend(["nig7"], k=3, mode="free")]


def test_on_disk_saved_and_exported_it_is_the_same(run: Path, tmp_path: Path) -> None:
    assert add_to_run(run, [NEW], tmp_path / "one").items == 31
    assert add_to_run(tmp_path / "one", [OTHER], tmp_path / "two").items == 32
    loaded = Recommender.from_pretrained(tmp_path / "two", precision="fp32")
    memory = Recommender.from_pretrained(run, precision="fp32").with_items([NEW, OTHER])
    memory.save_pretrained(tmp_path / "saved")
    saved = Recommender.from_pretrained(tmp_path / "saved", precision="fp32")
    tokens = ItemTokens.load(tmp_path / "two")
    assert tokens is not None
    assert memory.tokens is not None
    assert tokens.inside == pytest.approx(memory.tokens.inside, abs=1e-6)
    for history in (["nig1", "nig2"], ["nig7"], ["red5", "red6", "red7"]):
        lists = [
            [(one.item.id, round(one.score, 4)) for one in rec.recommend(history, k=8)]
            for rec in (loaded, memory, saved)
        ]
        assert lists[0] == lists[1] == lists[2]
    export_merged(tmp_path / "two", tmp_path / "model")
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    kind = AutoModelForSeq2SeqLM if loaded.manifest.family == "seq2seq" else AutoModelForCausalLM
    model = kind.from_pretrained(tmp_path / "model")
    (token,) = tokenizer(loaded.encoder.template.item_text("Night Train 7"), add_special_tokens=False)["input_ids"]
    prompt = loaded.prompt(_batch(["nig5", "nig6"])[0]).input_ids
    seq2seq = loaded.manifest.family == "seq2seq"
    given = {"decoder_input_ids": torch.tensor([[model.config.decoder_start_token_id]])} if seq2seq else {}
    with torch.inference_mode():
        scores = model(input_ids=torch.tensor([prompt]), **given).logits[0, -1]
    assert model.get_input_embeddings().weight[token].detach().numpy() == pytest.approx(tokens.inside[0], abs=1e-5)
    # nig1 to nig4 are seen before, in this world, and of the known ones nothing else is as likely.
    first = torch.tensor([answer[0] for answer in loaded.encoder.answers(loaded.catalog.labels[:30])])
    assert int((scores[first] > scores[token]).sum()) < 6


def test_another_encoder_cannot_make_the_vectors(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recommender = Recommender.from_pretrained(run, precision="fp32")
    models = dict(recommender.manifest.models)
    models["encoder"] = models["encoder"].__class__("other", "built-in")
    recommender.manifest = recommender.manifest.changed(models=models)
    grown = recommender.with_items([NEW])
    assert grown.tokens is None
    assert len(grown.encoder.item("Night Train 7")) > 1


def test_the_text_of_an_item_says_what_it_is() -> None:
    item = Item("1", "Kolya (Comedy)", "", ("Comedy", "Drama"), {"year": "1996", "url": "x", "brand": ""})
    assert item_text(item) == "Kolya (Comedy). Drama. year 1996"
