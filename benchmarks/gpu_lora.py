"""What makes LoRA fast on a GPU: tokens a second of one training step, one change after another.

    python benchmarks/gpu_lora.py [--out FILE] [--seconds 6] [--device cpu --tiny]

A Llama of the starter's shape (135M weights, random) learns from random tokens in batches of 64 x 512, with LoRA on all
linear layers as in `genrec train`, and the loss over 20,000 tokens at the supervised places. Each way is timed after a
warm-up and written to the file at once. Operations are counted in two ways: 4 for each weight of the blocks and token,
which is what LoRA computes (no gradient of the base's weights), and 6, which is what other tables count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
SUPERVISED = 0.5
"""The share of tokens that are supervised: titles are, what stands between them is not."""

WAYS: dict[str, dict[str, Any]] = {
    "logits of all tokens, AdamW in a loop": {"places": False, "fused": False},
    "logits of supervised tokens": {"places": True, "fused": False},
    "and AdamW in one call": {"places": True, "fused": True},
    "and compiled layers": {"places": True, "fused": True, "compile": True},
    "and adapters in bf16 beside fp32": {"places": True, "fused": True, "compile": True, "masters": True},
    "not compiled, Liger's kernels": {"places": True, "fused": True, "liger": True},
}


def make(options: argparse.Namespace, liger: bool) -> tuple[Any, int]:
    """Return a model with its adapter, and the number of weights of its blocks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.backbone import add_adapter, restrict_head
    from training.recipe import load_recipe

    if liger:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama(cross_entropy=False, fused_linear_cross_entropy=False)
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    if options.tiny:
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=49152, tie_word_embeddings=True, **shape, **heads))
    model = model.to(options.device, torch.bfloat16)
    blocks = sum(one.numel() for name, one in model.named_parameters() if "embed" not in name)
    restrict_head(model, torch.arange(20_000))
    adapted = add_adapter(model, load_recipe("gpu-lora", ["gradient_checkpointing=false"]))
    adapted.config.use_cache = False
    return adapted.train(), blocks


class Learning:
    """One way to learn from one batch.

    Args:
        model: with its adapter.
        way: one of `WAYS`.
        options: of the command line.
    """

    def __init__(self, model: Any, way: dict[str, Any], options: argparse.Namespace) -> None:
        self.model, self.way, self.device = model, way, options.device
        rows, length = (2, 32) if options.tiny else (64, 512)
        self.tokens = rows * length
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(0, 20_000, (rows, length), generator=draw)
        kept = torch.rand(rows, length, generator=draw) < SUPERVISED
        places = kept.flatten().nonzero()[:, 0].to(self.device)
        self.ids, self.kept, self.wanted = ids.to(self.device), kept.to(self.device), ids[kept].to(self.device)
        self.trained = [one for one in model.parameters() if one.requires_grad]
        self.masters = self.trained
        if way.get("masters"):
            self.masters = [one.detach().clone().requires_grad_() for one in self.trained]
            for one in self.trained:
                one.data = one.data.bfloat16()
        in_one = {"fused": True} if way["fused"] and self.device == "cuda" else {"foreach": way["fused"]}
        self.optimiser = torch.optim.AdamW(self.masters, 1e-4, **in_one)
        if way.get("compile"):
            for layer in max((one for one in model.modules() if isinstance(one, torch.nn.ModuleList)), key=len):
                layer.compile(dynamic=True, backend="eager" if options.tiny else "inductor")
        if way["places"]:
            head = model.get_base_model().get_output_embeddings()
            head.register_forward_pre_hook(lambda _, given: (given[0].flatten(0, 1).index_select(0, places)[None],))

    def step(self) -> torch.Tensor:
        """Learn once; return the loss before."""
        with torch.autocast(self.device, torch.bfloat16, enabled=not self.way.get("masters")):
            logits = self.model(input_ids=self.ids).logits
            logits = logits[0] if self.way["places"] else logits[self.kept]
            loss = torch.nn.functional.cross_entropy(logits.float(), self.wanted)
        loss.backward()
        if self.way.get("masters"):
            for one, master in zip(self.trained, self.masters, strict=True):
                master.grad, one.grad = one.grad.float(), None
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.way.get("masters"):
            with torch.no_grad():
                torch._foreach_copy_(self.trained, self.masters)
        return loss.detach()


def measure(options: argparse.Namespace, way: dict[str, Any]) -> dict[str, Any]:
    """Return the tokens a second of one way."""
    model, blocks = make(options, way.get("liger", False))
    learning = Learning(model, way, options)
    begun = time.perf_counter()
    for _ in range(3):
        float(learning.step())
    warm = time.perf_counter() - begun
    begun, steps, loss = time.perf_counter(), 0, 0.0
    while time.perf_counter() - begun < options.seconds:
        for _ in range(3):
            learning.step()
        loss = float(learning.step())
        steps += 4
    rate = steps * learning.tokens / (time.perf_counter() - begun)
    result: dict[str, Any] = {
        "tokens_per_second": rate,
        "warm_up_seconds": warm,
        "loss": loss,
        "tflop_per_second_of_6": 6 * blocks * rate / 1e12,
        "tflop_per_second_of_4": 4 * blocks * rate / 1e12,
    }
    if options.device == "cuda":
        result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        result.update(profiled(learning))
    return result


def profiled(learning: Learning) -> dict[str, Any]:
    """Return the share of a step in which the device works, and what it does."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        begun = time.perf_counter()
        float(learning.step())
        wall = time.perf_counter() - begun
    events = [one for one in profiler.key_averages() if not one.key.startswith("aten::")]
    seconds = {one.key[:80]: one.self_device_time_total / 1e6 for one in events if one.self_device_time_total}
    top = sorted(seconds.items(), key=lambda entry: -entry[1])[:12]
    return {"device_share_of_a_step": sum(seconds.values()) / wall, "device_top": dict(top)}


def matrix_rate(device: str) -> float:
    size = 8192 if device == "cuda" else 512
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        one @ one
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(20):
        two = one @ one
    float(two[0, 0])
    return 20 * 2 * size**3 / (time.perf_counter() - begun) / 1e12


def main() -> None:
    """Measure each way, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of two layers, to try the script")
    options = parser.parse_args()
    result: dict[str, Any] = {"tflop_per_second_of_matrix_products": matrix_rate(options.device)}
    if options.device == "cuda":
        result["name"] = torch.cuda.get_device_name()
    for name, way in WAYS.items():
        try:
            result[name] = measure(options, way)
        except Exception as error:  # one way that fails leaves the others
            result[name] = {"failed": f"{type(error).__name__}: {error}"[:600]}
        found = dict(result[name])
        found.pop("device_top", None)
        print(name, json.dumps(found), flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        torch._dynamo.reset()
        if options.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
