"""Fine-tuning on small real models: what is trained, that padding changes nothing, that a resumed run is the same."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, T5Config

from prompts.encoding import IGNORED, Example
from training import finetune as finetuning
from training.backbone import add_adapter, load_base, restrict_head
from training.batches import Batches
from training.computing import choose_device, choose_precision
from training.errors import BackboneError, RecipeError
from training.finetune import finetune
from training.recipe import make_recipe

VOCABULARY = 40
TOKENS = list(range(2, 20))
LLAMA = LlamaConfig(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
    vocab_size=VOCABULARY, pad_token_id=0,
)  # fmt: skip
T5 = T5Config(
    d_model=32,
    d_kv=8,
    d_ff=64,
    num_layers=2,
    num_heads=4,
    vocab_size=VOCABULARY,
    decoder_start_token_id=0,
    dropout_rate=0.0,
)


def make_model(family: str = "causal") -> Any:
    torch.manual_seed(0)
    if family == "causal":
        return AutoModelForCausalLM.from_config(LLAMA)
    return AutoModelForSeq2SeqLM.from_config(T5)


def make_examples(count: int = 24, family: str = "causal") -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    examples = []
    for place in range(count):
        ids = torch.randint(2, 20, (4 + place % 9,), generator=generator).tolist()
        if family == "seq2seq":
            examples.append(Example(tuple(ids), tuple(ids[:3])))
        else:
            examples.append(Example(tuple(ids), (IGNORED, IGNORED, *ids[2:])))
    return examples


def recipe(**changes: Any) -> Any:
    values = {"max_tokens": 16, "batch_tokens": 32, "epochs": 2, "lora_rank": 4, "precision": "fp32", **changes}
    return make_recipe(values)


def run(folder: Path, family: Any = "causal", resume: bool = False, **changes: Any) -> Any:
    examples = make_examples(family=family)
    return finetune(
        make_model(family), family, examples, recipe(**changes), folder, catalogue_tokens=TOKENS, resume=resume
    )


def test_batches_hold_every_example_once_within_the_budget() -> None:
    examples = make_examples()
    batches = Batches(examples, 32, seed=0)
    assert sorted(id(e) for group in batches.groups for e in group) == sorted(map(id, examples))
    for place, group in enumerate(batches.groups):
        batch = batches[place]
        assert batch["input_ids"].numel() <= 32
        for row, example in enumerate(group):
            length = len(example.input_ids)
            assert tuple(batch["input_ids"][row, :length].tolist()) == example.input_ids
            assert batch["labels"][row, length:].tolist() == [IGNORED] * (batch["labels"].shape[1] - length)


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
@pytest.mark.parametrize("loss", ["catalogue", "vocabulary"])
def test_the_loss_is_the_mean_over_supervised_tokens(tmp_path: Path, family: Any, loss: Any) -> None:
    """Against a plain sum over single examples: padding, batches and the restricted head change nothing."""
    examples = make_examples(6, family)
    _, outcome = finetune(
        make_model(family), family, examples, recipe(batch_tokens=600, epochs=1, loss=loss), tmp_path,
        catalogue_tokens=TOKENS,
    )  # fmt: skip
    model, total, count = make_model(family), 0.0, 0
    for example in examples:
        ids = torch.tensor([example.input_ids])
        with torch.no_grad():
            if family == "seq2seq":
                start = torch.tensor([[0, *example.labels[:-1]]])
                logits, wanted = model(input_ids=ids, decoder_input_ids=start).logits[0], list(example.labels)
            else:
                logits, wanted = model(ids).logits[0, 1:-1], list(example.labels[2:])
        if loss == "catalogue":
            logits, wanted = logits[:, TOKENS], [TOKENS.index(token) for token in wanted]
        gains = logits.log_softmax(-1)[torch.arange(len(wanted)), torch.tensor(wanted)]
        total, count = total - float(gains.sum()), count + len(wanted)
    assert [step for step, _ in outcome.losses] == [1]
    assert outcome.losses[0][1] == pytest.approx(total / count, abs=1e-3)


def test_only_the_adapter_learns_and_the_loss_falls(tmp_path: Path) -> None:
    adapted, outcome = run(tmp_path, epochs=20, learning_rate=1e-2)
    fresh = dict(make_model().named_parameters())
    for name, parameter in adapted.get_base_model().named_parameters():
        plain = name.replace(".base_layer", "")
        if "lora_" in name:
            assert parameter.requires_grad
        elif plain in fresh and fresh[plain].shape == parameter.shape:
            assert not parameter.requires_grad
            assert torch.equal(parameter, fresh[plain])
    assert outcome.losses[-1][1] < outcome.losses[0][1] - 0.2


def test_a_resumed_run_has_the_losses_of_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, outcome = run(tmp_path / "whole")
    original = finetuning._Clock.on_step_end

    def save_then_break(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        original(self, args, state, control, **kwargs)
        control.should_save = state.global_step == 5
        if state.global_step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning._Clock, "on_step_end", save_then_break)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken")
    again, resumed = run(tmp_path / "broken", resume=True)
    assert resumed.losses == outcome.losses
    assert resumed.steps == outcome.steps
    for (name, one), (_, other) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_the_clock_stops_training_and_brings_the_learning_rate_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=0.2)  # seconds, one tick for each look at the clock
    monkeypatch.setattr(finetuning, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    _, outcome = run(tmp_path, epochs=100_000, max_minutes=0.1, learning_rate=1.0)
    assert 20 < outcome.steps < 40
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.7
    assert rates[-1] < 0.2  # it falls to zero at the end of the minutes, not of the passes


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[float, float, float | None]] = []
    finetune(
        make_model(), "causal", make_examples(), recipe(), tmp_path, catalogue_tokens=TOKENS,
        progress=lambda *args: told.append(args),
    )  # fmt: skip
    assert told
    assert all(0 <= share <= 1 and math.isfinite(loss) and left is not None for share, loss, left in told)


def test_losses_for_tensorboard_on_request(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, outcome = run(tmp_path, report_to=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in shown] == [step for step, _ in outcome.losses]
    assert [loss for _, loss in shown] == pytest.approx([loss for _, loss in outcome.losses], abs=1e-5)


def test_tensorboard_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.reporting.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'genrec\[tensorboard\]'"):
        run(tmp_path, report_to=["tensorboard"])
    assert not list(tmp_path.iterdir())


def test_adapter_on_the_top_layers_only() -> None:
    adapted = add_adapter(make_model(), recipe(train_layers=1))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".layers.2." in name for name in trained)


def test_the_depth_dial_keeps_the_first_layers(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    model, family = load_base(str(tmp_path), "cpu", torch.float32, layers=2)
    assert (family, len(model.model.layers)) == ("causal", 2)
    with pytest.raises(BackboneError, match="layers=9 is more than the base's 3"):
        load_base(str(tmp_path), "cpu", torch.float32, layers=9)


def test_the_restricted_head_gives_the_same_logits() -> None:
    model, ids = make_model(), torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        full = model(ids).logits
        restrict_head(model, torch.tensor(TOKENS))
        assert torch.allclose(model(ids).logits, full[..., TOKENS])


def test_a_base_that_is_not_there() -> None:
    with pytest.raises(BackboneError, match="cannot load the base model"):
        load_base("/nowhere/at/all", "cpu", torch.float32)


def test_the_device_is_asked_for_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_DEVICE", "meta")
    monkeypatch.delenv("GENREC_PRECISION", raising=False)  # with which the suite may run
    assert choose_device() == "meta"
    assert choose_device("cpu") == "cpu"
    assert choose_precision("fp32", "cpu") == torch.float32
    assert choose_precision("auto", "mps") == torch.float32


def test_four_bit_weights_train_on_a_cpu(tmp_path: Path) -> None:
    """QLoRA's code path: NF4 with double quantisation; the same as on a GPU but for the kernels."""
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, intermediate_size=64,
        vocab_size=VOCABULARY, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    model, family = load_base(str(tmp_path / "base"), "cpu", torch.float32, "4bit")
    assert "Linear4bit" in {type(module).__name__ for module in model.modules()}
    settings = make_recipe({"max_tokens": 16, "batch_tokens": 32, "epochs": 1, "lora_rank": 2, "quantisation": "4bit"})
    _, outcome = finetune(model, family, make_examples(8), settings, tmp_path, catalogue_tokens=TOKENS)
    assert outcome.steps > 0
    assert all(math.isfinite(loss) for _, loss in outcome.losses)


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_a_loss_that_is_no_number_ends_training_at_once(tmp_path: Path, family: Any) -> None:
    """The trainer would write the last good loss in its place, and train on to the end."""
    model = make_model(family)
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = float("nan")
    with pytest.raises(BackboneError, match=r"not finite at step [1-5]; lower learning_rate"):
        finetune(model, family, make_examples(family=family), recipe(epochs=50), tmp_path, catalogue_tokens=TOKENS)
    log = tmp_path / "loss.jsonl"
    assert not log.exists() or "NaN" not in log.read_text(encoding="utf-8")


def test_a_decoder_that_does_not_know_how_to_start_is_refused(tmp_path: Path) -> None:
    model = make_model("seq2seq")
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    model.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="decoder_start_token_id"):
        load_base(str(tmp_path), "cpu", torch.float32)
