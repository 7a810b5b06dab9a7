"""Bases of awkward kinds: refused before anything is trained or written, or served as they were trained."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from genrec import Recommender, Settings
from genrec.batch.worker import to_line
from genrec.data.catalog import Item
from genrec.errors import DataError, ModelError
from genrec.manifest import RunManifest
from genrec.recommendation import Recommendation, Recommendations
from genrec.runs.folder import assemble
from prompts.template import PromptError, Template
from retrieval.trie import TokenTrie
from tests.conftest import train_toy
from tests.toyworld import make_catalog, make_histories
from training.backbone import load_base
from training.computing import choose_computing
from training.pretrain import make_base
from training.pretrain_recipe import PretrainRecipe

FIRST, LATER = datetime(2026, 11, 26, 8, 0, 0), datetime(2027, 3, 1, 23, 59, 59)


def copy_of(base: Path, folder: Path) -> Path:
    return Path(shutil.copytree(base, folder))


def loaded(folder: Path, run: Path, base: Path) -> Recommender:
    """Load a folder that has a run's manifest, on a base that nobody compares with the one it was trained on.

    So it is with runs of before bases were compared.
    """
    manifest = RunManifest.read(run).changed(base=str(base), models={})
    return assemble(folder, manifest, choose_computing("cpu", "fp32"))


def save_words(folder: Path) -> Path:
    """A base of whole words, which knows no title of the toy world."""
    known = ["<pad>", "</s>", "<unk>", ":", ";", "recommend", "the", "next"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(known), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_items_that_a_base_cannot_tell_apart_are_refused_before_training(toy_data: Path, tmp_path: Path) -> None:
    base = save_words(tmp_path / "base")
    template = tmp_path / "t.toml"
    template.write_text('name = "t"\nstyle = "whole-history"\nopening = "next :"\nseparator = " ;"\n', encoding="utf-8")
    with pytest.raises(PromptError, match=r"same tokens of .+ of 30 items"):
        train_toy(base, toy_data, tmp_path / "run", template=str(template))
    assert not (tmp_path / "run").exists()
    labels = ["春夏", "秋冬", "山水"]
    recipe = PretrainRecipe(base=str(base), epochs=1)
    with pytest.raises(PromptError, match="same tokens of 3 of 3 items"):
        make_base(
            [labels], labels, [], Template.from_toml(template.read_text()), recipe, tmp_path / "b", start=str(base)
        )
    assert not (tmp_path / "b").exists()


def test_tokens_beyond_the_embeddings_are_refused_before_training(
    toy_base: Path, toy_data: Path, toy_run: Path, tmp_path: Path
) -> None:
    base = copy_of(toy_base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([" Night Train"])
    tokenizer.save_pretrained(base)
    with pytest.raises(PromptError, match="resize_token_embeddings"):
        train_toy(base, toy_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # The run was trained before the tokenizer grew, and what it serves needs no new token but for this one title.
    with pytest.raises(PromptError, match="resize_token_embeddings"):
        _named(toy_run, base, tmp_path / "other").prompt(make_histories(1)[0].until(1))


def _named(run: Path, base: Path, out: Path) -> Recommender:
    """Load a copy of a run whose titles all begin with the token that its base lacks."""
    shutil.copytree(run, out)
    items = (out / "items.jsonl").read_text(encoding="utf-8")
    for series in ("Red Harbour", "The Long Valley", "Café Étoile", "Moon & Sixpence"):
        items = items.replace(series, f"Night Train {series}")
    (out / "items.jsonl").write_text(items, encoding="utf-8")
    return loaded(out, run, base)


def test_a_base_that_lost_embeddings_since_is_refused_at_load(toy_base: Path, toy_run: Path, tmp_path: Path) -> None:
    base = copy_of(toy_base, tmp_path / "base")
    model, _ = load_base(str(base), "cpu", torch.float32)
    model.resize_token_embeddings(200)
    model.save_pretrained(base)
    with pytest.raises(ModelError, match="embeddings of 200 tokens; the base was changed"):
        loaded(toy_run, toy_run, base)


def test_a_run_whose_items_are_alike_to_its_model_says_so(
    toy_run: Path, toy_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy_of(toy_run, tmp_path / "run")
    trie = TokenTrie.load(run / "trie.safetensors")
    sequences = [trie.sequence(row) for row in range(len(trie))]
    TokenTrie.build([sequences[0], sequences[0], *sequences[2:]]).save(run / "trie.safetensors")
    loaded(toy_run, toy_run, toy_base)
    assert "same tokens" not in caplog.text
    loaded(run, toy_run, toy_base)
    assert "same tokens of 2 of 30 items" in caplog.text


def test_a_new_item_that_the_model_could_not_tell_from_another_is_refused(toy_run: Path) -> None:
    recommender = Recommender.from_pretrained(toy_run, "cpu", "fp32")
    label = recommender.catalog.labels[0]
    tokens = recommender.encoder.item(label)
    recommender.encoder._items["Another"] = tokens  # as a tokenizer would that knows neither title
    with pytest.raises(DataError, match="same tokens of 1 new items as of others, such as 'n'"):
        recommender.with_items([Item("n", "Another"), Item("m", "A third")])


@pytest.mark.parametrize("shape", ["%Y-%m-%d %H:%M:%S", "%d %b %Y", "%A %p"])
def test_a_clock_in_the_chat_changes_no_answer(
    toy_base: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    def at(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return moment

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    base = copy_of(toy_base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ strftime_now('" + shape + "') }}: {{ messages[0]['content'] }}"
    tokenizer.save_pretrained(base)
    at(FIRST)
    values = {"template": "instruction-chat", "max_tokens": 200, "epochs": 1, "max_users": 8, "tuning_cases": 0}
    run = train_toy(base, toy_data, tmp_path / "run", **values)
    histories = [history.until(2) for history in make_histories(6)]
    answers = []
    for moment in (FIRST, LATER):
        at(moment)
        recommender = Recommender.from_pretrained(run, "cpu", "fp32")
        answers.append(recommender.recommend_many(histories, Settings(k=5, beams=5)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float(np.float32(-np.inf))])
def test_a_score_that_is_no_number_is_not_written(score: float) -> None:
    item = make_catalog().items[0]
    with pytest.raises(ModelError, match="scores are not finite"):
        to_line("u", Recommendations([Recommendation(1, item, score, {"lm": -1.0}, "exact", "")]))
