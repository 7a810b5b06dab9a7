"""What makes LoRA fast on a GPU: tokens a second of one training step, one change after another.

    python benchmarks/gpu_lora.py [--out FILE] [--seconds 6] [--device cpu --tiny]

A Llama of the starter's shape (135M weights, random) learns from random tokens in batches of 64 x 512, LoRA on all linear
layers as in `genrec train`, the loss over 20,000 tokens at the supervised places. Each way is timed after a warm-up and
written to the file at once. Operations are counted in two ways: 4 for each weight of the blocks and token, which is what LoRA
computes (no gradient of the base's weights), and 6, which is what other tables count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
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


def make(options: argparse.Namespace, liger: bool) -> tuple[Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.backbone import add_adapter, restrict_head
    from training.recipe import load_recipe

    if liger:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama(
            rope=True, rms_norm=True, swiglu=True, cross_entropy=False, fused_linear_cross_entropy=False
        )
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2} if options.tiny else {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30
    }  # fmt: skip
    config = LlamaConfig(
        vocab_size=49152, num_attention_heads=small["hidden_size"] // 64, num_key_value_heads=max(1, small["hidden_size"] // 192),
        tie_word_embeddings=True, **small,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(options.device, torch.bfloat16)
    blocks = sum(one.numel() for name, one in model.named_parameters() if "embed" not in name)
    restrict_head(model, torch.arange(20_000))
    adapted = add_adapter(model, load_recipe("gpu-lora", ["gradient_checkpointing=false"]))
    adapted.config.use_cache = False
    return adapted.train(), blocks


def measure(options: argparse.Namespace, way: dict[str, Any]) -> dict[str, Any]:
    """Return the tokens a second of one way."""
    device = options.device
    model, blocks = make(options, way.get("liger", False))
    rows, length = (2, 32) if options.tiny else (64, 512)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20_000, (rows, length), generator=draw)
    places = (torch.rand(rows * length, generator=draw) < SUPERVISED).nonzero()[:, 0]
    wanted, kept = ids.flatten()[places].to(device), torch.zeros(rows * length, dtype=torch.bool)
    kept[places] = True
    ids, places, kept = ids.to(device), places.to(device), kept.view(rows, length).to(device)
    trained = [one for one in model.parameters() if one.requires_grad]
    masters = [one.detach().clone() for one in trained] if way.get("masters") else trained
    if way.get("masters"):
        for one in trained:
            one.data = one.data.bfloat16()
        for one in masters:
            one.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        masters, 1e-4, fused=way["fused"] and device == "cuda", foreach=False if not way["fused"] else None
    )
    if way.get("compile"):
        for layer in max((one for one in model.modules() if isinstance(one, torch.nn.ModuleList)), key=len):
            layer.compile(dynamic=True, backend="eager" if options.tiny else "inductor")
    head = model.get_base_model().get_output_embeddings()
    if way["places"]:
        head.register_forward_pre_hook(lambda _, given: (given[0].flatten(0, 1).index_select(0, places)[None],))

    def step() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=not way.get("masters")):
            logits = model(input_ids=ids).logits
            logits = logits[0] if way["places"] else logits[kept]
            loss = torch.nn.functional.cross_entropy(logits.float(), wanted)
        loss.backward()
        if way.get("masters"):
            for master, one in zip(masters, trained, strict=True):
                master.grad = torch.empty_like(master)
            torch._foreach_copy_([one.grad for one in masters], [one.grad for one in trained])
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if way.get("masters"):
            with torch.no_grad():
                torch._foreach_copy_(trained, masters)
            for one in trained:
                one.grad = None
        return loss.detach()

    begun = time.perf_counter()
    for _ in range(3):
        loss = step()
    float(loss)
    warm = time.perf_counter() - begun
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < options.seconds:
        for _ in range(4):
            loss = step()
            steps += 1
        float(loss)
    seconds = time.perf_counter() - begun
    rate = steps * rows * length / seconds
    result: dict[str, Any] = {
        "tokens_per_second": rate, "warm_up_seconds": warm, "loss": float(loss),
        "tflop_per_second_of_6": 6 * blocks * rate / 1e12, "tflop_per_second_of_4": 4 * blocks * rate / 1e12,
    }  # fmt: skip
    if device == "cuda":
        result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            begun = time.perf_counter()
            float(step())
            wall = time.perf_counter() - begun
        events = [
            one for one in profiler.key_averages() if one.self_device_time_total and not one.key.startswith("aten::")
        ]
        result["device_share_of_a_step"] = sum(one.self_device_time_total for one in events) / 1e6 / wall
        top = sorted(events, key=lambda one: -one.self_device_time_total)[:12]
        result["device_top"] = {one.key[:80]: one.self_device_time_total / 1e6 for one in top}
    return result


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
        call: Callable[[], dict[str, Any]] = lambda way=way: measure(options, way)  # noqa: E731
        try:
            result[name] = call()
        except Exception as error:
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
