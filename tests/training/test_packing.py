"""Packing without attending across users: what the benchmark measures is the same training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

from benchmarks.training import pack, packed_loss
from prompts.encoding import IGNORED, Example
from training.batches import Batches
from training.supervision import summed_loss

VOCABULARY = 40
COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0}
CONFIGS = {
    "llama": LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        **COMMON,
    ),
    "qwen2": Qwen2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        **COMMON,
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **COMMON),
}  # fmt: skip


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[request.param], attn_implementation="sdpa").eval()


def make_examples() -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in (5, 11, 2, 7)]
    return [Example(tuple(row), (IGNORED, *row[1:])) for row in rows]


def test_packed_logits_are_those_of_each_alone(model: Any) -> None:
    examples = make_examples()
    row = pack(examples)
    with torch.no_grad():
        packed = model(input_ids=row["input_ids"], position_ids=row["position_ids"], use_cache=False).logits[0]
        alone = torch.cat([model(torch.tensor([example.input_ids])).logits[0] for example in examples])
        mixed = model(input_ids=row["input_ids"], use_cache=False).logits[0]
    assert torch.allclose(packed, alone, atol=1e-5)
    assert not torch.allclose(mixed, alone, atol=1e-2)  # what packing is without the starts


def test_the_loss_is_that_of_padded_rows(model: Any) -> None:
    batches = Batches(make_examples(), 1000, seed=0)
    with torch.no_grad():
        padded, count = summed_loss(model, "causal", batches[0], None)
        packed, same = packed_loss(model, "causal", pack(batches.groups[0]), None)
    assert same == count
    assert float(packed) == pytest.approx(float(padded), rel=1e-5)
