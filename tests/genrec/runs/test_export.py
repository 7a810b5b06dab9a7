"""An exported model is an ordinary folder: plain transformers loads it, and it computes what the run's model does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from genrec.data.prepared import load_prepared
from genrec.runs.export import export_merged
from genrec.storage.folders import read_manifest
from prompts.encoding import PromptEncoder
from prompts.template import load_template
from tests import toyworld
from tests.conftest import train_toy
from training import backbone, merging
from training.backbone import load_adapted, load_base


@pytest.fixture(scope="module")
def half_base(tmp_path_factory: pytest.TempPathFactory, toy_base: Path) -> Path:
    """The toy base in bf16."""
    folder = tmp_path_factory.mktemp("half")
    AutoModelForCausalLM.from_pretrained(toy_base, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(toy_base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def half_run(tmp_path_factory: pytest.TempPathFactory, half_base: Path, toy_data: Path) -> Path:
    return train_toy(half_base, toy_data, tmp_path_factory.mktemp("half") / "run", epochs=1, tuning_cases=0)


@pytest.fixture(scope="module")
def seq2seq_run(tmp_path_factory: pytest.TempPathFactory, toy_base: Path, toy_data: Path) -> Path:
    """A run over a T5 that knows nothing yet; what it computes is compared, not judged."""
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = AutoTokenizer.from_pretrained(toy_base)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0,
        eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    changes = {"template": "instruction-seq2seq", "epochs": 1, "tuning_cases": 0}
    return train_toy(folder, toy_data, tmp_path_factory.mktemp("t5") / "run", **changes)


def prompts(run: Path, base: str, family: Any) -> list[list[int]]:
    from prompts.template import Template

    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    encoder = PromptEncoder(template, backbone.load_tokenizer(base), family, 128)
    catalog = toyworld.make_catalog()
    return [
        list(encoder.prompt([catalog[item].label for item in history.items]).input_ids)
        for history in toyworld.make_histories(4, seed=3)
    ]


@pytest.mark.parametrize(("name", "dtype"), [("toy_run", torch.float32), ("half_run", torch.bfloat16)])
def test_a_causal_model_computes_the_same(
    name: str, dtype: torch.dtype, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(name)
    done = export_merged(run, tmp_path / "model")
    assert (done.architecture, done.precision) == ("LlamaForCausalLM", str(dtype).removeprefix("torch."))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto").eval()
    assert exported.dtype == dtype
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    base = read_manifest(run, "run")["base"]
    own, _ = load_adapted(run, base, "cpu", dtype, None)
    plain, _ = load_base(base, "cpu", dtype)
    for ids in prompts(run, base, "causal"):
        with torch.inference_mode():
            given, wanted, before = (model(torch.tensor([ids])).logits for model in (exported, own, plain))
        torch.testing.assert_close(given, wanted, rtol=0, atol=0)
        assert not torch.equal(given, before)  # the adapter is in it
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("Night Train 1").input_ids == AutoTokenizer.from_pretrained(base)("Night Train 1").input_ids


def test_a_seq2seq_model_computes_the_same(seq2seq_run: Path, tmp_path: Path) -> None:
    assert export_merged(seq2seq_run, tmp_path / "model").architecture == "T5ForConditionalGeneration"
    exported = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", dtype="auto").eval()
    base = read_manifest(seq2seq_run, "run")["base"]
    own, _ = load_adapted(seq2seq_run, base, "cpu", torch.float32, None)
    decoder = torch.tensor([[0, 5, 6]])
    for ids in prompts(seq2seq_run, base, "seq2seq"):
        with torch.inference_mode():
            given, wanted = (
                model(input_ids=torch.tensor([ids]), decoder_input_ids=decoder).logits for model in (exported, own)
            )
        torch.testing.assert_close(given, wanted, rtol=0, atol=0)


def test_the_model_ends_where_a_title_ends(toy_run: Path, tmp_path: Path) -> None:
    export_merged(toy_run, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    encoder = PromptEncoder(load_template("next-item"), tokenizer, "causal", 128)
    prompt = encoder.prompt(["Night Train 1", "Night Train 2"]).input_ids
    written = model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)
    assert tokenizer.decode(written[0, len(prompt) :]) == tokenizer.decode(encoder.answer("Night Train 3"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_rounded_once_and_the_base_is_never_in_fp32(
    dtype: torch.dtype, half_run: Path, half_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out is what merging a whole fp32 copy gives, bit by bit; what goes in is bf16."""
    from peft import PeftModel

    seen = []

    def spy(model: Any, *rest: Any) -> Any:
        seen.append({parameter.dtype for parameter in model.parameters()})
        return merging.merged(model, *rest)

    monkeypatch.setattr(backbone, "merged", spy)
    found, _ = load_adapted(half_run, str(half_base), "cpu", dtype, None)
    assert seen == [{torch.bfloat16}]
    whole, _ = load_base(str(half_base), "cpu", torch.float32)
    wanted = PeftModel.from_pretrained(whole, half_run / "adapter").merge_and_unload().to(dtype)
    for (name, one), (_, other) in zip(found.named_parameters(), wanted.named_parameters(), strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, other), name


def test_the_card_and_what_is_refused(genrec: Any, toy_run: Path, toy_data: Path, tmp_path: Path) -> None:
    code, _, told = genrec("export", "--run", toy_run, "--out", tmp_path / "model")
    assert (code, "add --merged" in told) == (2, True)
    code, shown, told = genrec("export", "--run", toy_run, "--out", tmp_path / "model", "--merged")
    assert (code, told) == (0, "")
    assert shown.startswith("LlamaForCausalLM, ")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert ModelCard(text).data.library_name == "transformers"
    assert not any(history.user in text for history in load_prepared(toy_data).histories)
    code, _, told = genrec("export", "--run", toy_run, "--out", tmp_path / "model", "--merged")
    assert (code, "exists already" in told) == (2, True)
    broken = tmp_path / "broken"
    shutil.copytree(toy_run, broken)
    (broken / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    code, _, told = genrec("export", "--run", broken, "--out", tmp_path / "other", "--merged")
    assert (code, "is not the file that was written" in told) == (2, True)
    assert not (tmp_path / "other").exists()
