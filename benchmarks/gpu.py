"""The speed of genrec on this machine's GPU, in steps that each write a JSON file when done.

    python benchmarks/gpu.py [--beauty FOLDER] [--minutes 10] [--out FOLDER] [--steps card,decoding-ml-100k,...]

Steps: the card's own rates; decoding against `transformers`' generate() on ml-100k and on Amazon Beauty, with genrec's
method for processors and its method for GPUs; the parts of one batch's time; `genrec pretrain`, its quality, and
recommending from it; LoRA on the starter, in tokens a second and against the card's rate of matrix products. Nothing is
downloaded. Each step is its own process with a time limit. A step whose JSON exists is not run again, and the steps
that remain are listed at the end. `--device cpu --users 4` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
BEAMS, KEEP, HISTORY = 30, 10, 50
WAYS = (
    ("nothing given up, batches of 256, not compiled", 8, 0.0, False),
    ("batches of 256, not compiled", 8, 0.75, False),
    ("not compiled", 32, 0.75, False),
    ("batches of 256", 8, 0.75, True),
    ("fixed shapes", 32, 0.75, True),
)
"""Ways to decode: their batches, as `genrec recommend` asks for them, the share from which on users and tokens of lost
beams are given up, and whether the layers are compiled. The last is the way that is compared with `generate()`."""

LIMITS = {
    "card": 60, "decoding-ml-100k": 120, "decoding-beauty": 170, "profile": 75, "profile-not-compiled": 60,
    "pretrain": 330, "lora": 150,
}  # fmt: skip
"""Seconds that each step may take."""


def sync() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    sync()
    started = time.perf_counter()
    result = call()
    sync()
    return result, time.perf_counter() - started


def card(options: argparse.Namespace) -> dict[str, Any]:
    """Return the card's measured rates."""
    import torch

    if options.device == "cpu":
        return {"name": None, "torch": torch.__version__}
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    _, seconds = timed(lambda: [left @ right for _ in range(20)])
    source, target = (torch.empty(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(2))
    _, copied = timed(lambda: [target.copy_(source) for _ in range(20)])
    return {
        "name": torch.cuda.get_device_name(),
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30,
        "torch": torch.__version__,
        "bf16_tflop_per_second": 20 * 2 * 8192**3 / seconds / 1e12,
        "copy_tb_per_second": 20 * 2 * (1 << 30) / copied / 1e12,
    }


def world(options: argparse.Namespace, name: str) -> dict[str, Any]:
    from benchmarks.decoding import load

    return load(f"amazon-beauty:{options.beauty}" if name == "beauty" else name, HISTORY, options.users)


def model(base: str, options: argparse.Namespace) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.backbone import load_base
    from training.computing import choose_precision

    precision = choose_precision("auto", options.device)
    if options.random_weights:
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(base)
        return AutoModelForCausalLM.from_config(config, dtype=precision).to(options.device).eval()
    return load_base(base, options.device, precision)[0].eval()


def batches(decoder: Any, prompts: list[Any], side_by_side: int) -> list[list[int]]:
    from genrec.language.decoder import batches_by_length

    lengths = [len(prompt) for prompt in prompts]
    if decoder.fixed_shapes:
        return list(batches_by_length(lengths, *decoder.limits(side_by_side)))
    return list(batches_by_length(lengths, side_by_side, 10**9))


def decode(
    decoder: Any, prompts: list[Any], seen: list[Any], side_by_side: int, scoring: bool = True
) -> dict[str, Any]:
    """Return the answers, and the seconds of reading, searching and, if asked for, scoring 100 candidates a user."""
    answers: list[Any] = [None] * len(prompts)
    seconds: Counter[str] = Counter()
    random = np.random.default_rng(0)
    candidates = [np.sort(random.choice(len(decoder.trie), 100, replace=False)) for _ in prompts]
    sizes = []
    for batch in batches(decoder, prompts, side_by_side):
        sizes.append(len(batch))
        read, spent = timed(lambda: decoder.read([prompts[place] for place in batch]))  # noqa: B023
        seconds["reading"] += spent
        found, spent = timed(lambda: decoder.search(read, KEEP, BEAMS, [seen[place] for place in batch]))  # noqa: B023
        seconds["searching"] += spent
        if scoring:
            _, spent = timed(lambda: decoder.score(read, [candidates[place] for place in batch]))  # noqa: B023
            seconds["scoring 100 candidates"] += spent
        for place, answer in zip(batch, found, strict=True):
            answers[place] = answer.rows.tolist()
    return {
        "users": len(prompts),
        "largest_batch": max(sizes),
        "users_per_second": len(prompts) / (seconds["reading"] + seconds["searching"]),
        **({"users_per_second_with_scoring": len(prompts) / sum(seconds.values())} if scoring else {}),
        "seconds": dict(seconds),
        "answers": answers,
    }


def overlap(ones: list[Any], others: list[Any]) -> float:
    return float(np.mean([len(set(one) & set(other)) / KEEP for one, other in zip(ones, others, strict=True)]))


def decoding(options: argparse.Namespace, name: str, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Compare both of genrec's ways and generate(), over the catalogue's tokens."""
    import torch

    from genrec.language import fixed_shapes
    from genrec.language.decoder import Decoder
    from retrieval.trie import TokenTrie
    from tests.reference import reference_search

    torch.backends.cuda.enable_cudnn_sdp(options.cudnn)
    data = world(options, name)
    prompts, seen, sequences = data["prompts"], data["seen"], data["sequences"]
    trie = TokenTrie.build(sequences)
    result: dict[str, Any] = {
        "beams": BEAMS,
        "mean_prompt_tokens": float(np.mean([len(prompt) for prompt in prompts])),
        "longest_title_tokens": max(map(len, sequences)),
    }
    fixed = Decoder(model(data["base"], options), trie, "catalogue", fixed_shapes=True)
    answers = {}
    last = WAYS[-1][0]
    for way, side_by_side, given_up, compiled in WAYS:
        if options.ways and way not in options.ways.split(";"):
            continue
        if compiled:
            fixed.fuse()
        fixed_shapes.GIVEN_UP = given_up
        try:
            first = decode(fixed, prompts, seen, side_by_side, scoring=False)
            second = decode(fixed, prompts, seen, side_by_side, scoring=way == last)
        except torch.OutOfMemoryError as error:
            result[way] = {"out_of_memory": str(error)[:300]}
        if "out_of_memory" in result.get(way, {}):  # outside, where nothing holds the memory any more
            gc.collect()
            torch.cuda.empty_cache()
            save(result)
            continue
        first.pop("answers")
        answers[way] = second.pop("answers")
        result[way] = {"first pass": first, "second pass": second}
        if options.device == "cuda":
            result[way]["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
        print(f"{name}, {way}: {second['users_per_second']:.1f} users/s", flush=True)
        save(result)
    ours = list(answers.values())[-1]
    result["same_top_10_compiled_or_not"] = {way: overlap(ours, theirs) for way, theirs in answers.items()}
    places = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    few = places[len(places) // 16 :: max(1, len(places) // 8)][:8].tolist()
    rows = {sequence: row for row, sequence in enumerate(sequences)}
    tokens = sorted({token for sequence in sequences for token in sequence})
    reference = model(data["base"], options)

    def generate(some: list[int]) -> list[Any]:
        return reference_search(
            reference, [prompts[place] for place in some], sequences, [set(seen[place].tolist()) for place in some],
            keep=KEEP, beams=BEAMS, catalogue_tokens=tokens,
        )  # fmt: skip

    generate(few[:1])
    theirs, spent = timed(lambda: [answer for start in (0, 4) for answer in generate(few[start : start + 4])])
    result["generate()"] = {"users": len(few), "batch": 4, "users_per_second": len(few) / spent}
    result["times generate()"] = second["users_per_second"] / result["generate()"]["users_per_second"]
    told = [[rows[sequence] for sequence, _ in answer] for answer in theirs]
    result["same_top_10_as_generate"] = overlap([ours[place] for place in few], told)
    save(result)
    some = places[:: max(1, len(places) // 32)][:32].tolist()
    ragged = Decoder(model(data["base"], options), trie, "catalogue", fixed_shapes=False)
    before = decode(ragged, [prompts[place] for place in some], [seen[place] for place in some], 16)
    result["same_top_10_as_the_processors_way"] = overlap([ours[place] for place in some], before.pop("answers"))
    result["the processor's way"] = before
    return result


def profile(options: argparse.Namespace, compiled: bool) -> dict[str, Any]:
    """Return where the time of one batch goes: reading, searching, scoring."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    from genrec.language.decoder import Decoder
    from retrieval.trie import TokenTrie

    torch.backends.cuda.enable_cudnn_sdp(options.cudnn)
    data = world(options, "beauty" if options.beauty else "ml-100k")
    decoder = Decoder(model(data["base"], options), TokenTrie.build(data["sequences"]), fixed_shapes=True)
    if compiled:
        decoder.fuse()
    batch = max(batches(decoder, data["prompts"], options.side_by_side), key=len)
    prompts, seen = [data["prompts"][place] for place in batch], [data["seen"][place] for place in batch]
    decoder.search(decoder.read(prompts), KEEP, BEAMS, seen)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if options.device == "cuda" else [])
    result: dict[str, Any] = {"users": len(batch)}
    read: Any = None

    def reading() -> None:
        nonlocal read
        read = decoder.read(prompts)

    candidates = [np.arange(0, len(decoder.trie), len(decoder.trie) // 100)] * len(batch)
    for part, call in (
        ("reading", reading),
        ("searching", lambda: decoder.search(read, KEEP, BEAMS, seen)),
        ("scoring", lambda: decoder.score(read, candidates)),
    ):
        _, spent = timed(call)
        with profiling(activities=activities) as profiler:
            _, traced = timed(call)
        events = profiler.key_averages()
        device = {event.key: event.self_device_time_total / 1e6 for event in events if event.self_device_time_total}
        host = {event.key: event.self_cpu_time_total / 1e6 for event in events if event.key.startswith("aten::")}
        result[part] = {
            "seconds": spent,
            "seconds_traced": traced,
            "device_seconds": sum(seconds for key, seconds in device.items() if not key.startswith("aten::")),
            "aten_calls": sum(event.count for event in events if event.key.startswith("aten::")),
            "device_top": dict(Counter(device).most_common(14)),
            "host_top": dict(Counter(host).most_common(8)),
        }
    return result


def command(options: argparse.Namespace, *words: object) -> tuple[float, str]:
    """Run genrec's command line; return its seconds and its last lines."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "genrec.cli.main", *map(str, words)], check=False, capture_output=True, text=True,
        env={**os.environ, "GENREC_DEVICE": options.device, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    # A crash on the card is followed by pages of frames, which say nothing.
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("frame #")]
    said = "\n".join(lines)[-3000:]
    if done.returncode:
        raise SystemExit(f"genrec {' '.join(map(str, words))} ended with {done.returncode}:\n{said}")
    return time.perf_counter() - started, said


def pretrain(options: argparse.Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return what `genrec pretrain` reaches in three minutes, and how fast its run recommends."""
    source = f"amazon-beauty:{options.beauty}" if options.beauty else "ml-100k"
    work = options.out / "work"
    result: dict[str, Any] = {"source": source.partition(":")[0], "minutes": options.pretrain_minutes}
    command(options, "prepare", "--dataset", source, "--out", work / "data")
    result["pretrain_seconds"], result["pretrain_said"] = command(
        options, "pretrain", "--data", work / "data", "--minutes", options.pretrain_minutes, "--out", work / "base",
        "--encoder", options.encoder,
    )  # fmt: skip
    save(result)
    made = result["pretrain_said"]
    template = made.rpartition("--set template=")[2].split()[0]
    tokens = made.rpartition("--set max_tokens=")[2].split()[0]
    result["train_seconds"], result["train_said"] = command(
        options, "train", "--data", work / "data", "--recipe", "pretrained", "--set", f"base={work / 'base'}",
        "--set", f"template={template}", "--set", f"max_tokens={tokens}", "--set", "tuning_cases=0",
        "--encoder", options.encoder, "--out", work / "run",
    )  # fmt: skip
    save(result)
    result["evaluate_seconds"], result["evaluate_said"] = command(
        options, "evaluate", "--run", work / "run", "--sample", 5000, "--baselines", "quick"
    )
    return result


def lora(options: argparse.Namespace) -> dict[str, Any]:
    """Return the tokens a second of LoRA on all layers of the starter, on Beauty where it is given."""
    import tempfile

    from genrec.data.prepared import prepare
    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training import finetune as finetuning
    from training.backbone import load_base, load_tokenizer
    from training.computing import choose_precision
    from training.recipe import load_recipe

    data = prepare(dataset=f"amazon-beauty:{options.beauty}" if options.beauty else "ml-100k")
    base = resolve_base("starter")
    recipe = load_recipe(
        "gpu-lora", [f"base={base}", "epochs=1", "batch_tokens=32768", "gradient_checkpointing=false", "max_minutes=1"]
    )
    encoder = PromptEncoder(load_template(recipe.template), load_tokenizer(base), "causal", recipe.max_tokens)
    labels = [[data.catalog[item].label for item in history.items] for history in data.split().train]
    examples = [example for history in labels for example in encoder.examples(history)]
    tokens = sorted({token for answer in encoder.answers(data.catalog.labels) for token in answer})
    network, family = load_base(base, options.device, choose_precision(recipe.precision, options.device))
    parameters = sum(one.numel() for name, one in network.named_parameters() if "embed" not in name)
    times: list[float] = []
    groups = finetuning.Batches(examples, recipe.batch_tokens, recipe.seed).groups
    mean = float(np.mean([sum(len(example.input_ids) for example in group) for group in groups]))
    with tempfile.TemporaryDirectory() as folder:
        finetuning.finetune(
            network, family, examples, recipe, Path(folder), catalogue_tokens=tokens,
            progress=lambda *_: times.append(time.perf_counter()),
        )  # fmt: skip
    third = len(times) // 3
    per_second = mean * (len(times) - 1 - third) / (times[-1] - times[third])
    return {
        "steps": len(times),
        "mean_batch_tokens": mean,
        "tokens_per_second": per_second,
        "tflop_per_second": 6 * parameters * per_second / 1e12,
        "seconds": times[-1] - times[0],
    }


def run_step(name: str, options: argparse.Namespace) -> None:
    path = options.out / f"{name}.json"
    started = time.perf_counter()

    def save(result: dict[str, Any], whole: bool = False) -> None:
        marks = {"date": datetime.now(UTC).date().isoformat(), "seconds": time.perf_counter() - started, "whole": whole}
        path.write_text(json.dumps({**marks, **result}, indent=1) + "\n", encoding="utf-8")

    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "card": lambda: card(options),
        "decoding-ml-100k": lambda: decoding(options, "ml-100k", save),
        "decoding-beauty": lambda: decoding(options, "beauty", save),
        "profile": lambda: profile(options, compiled=True),
        "profile-not-compiled": lambda: profile(options, compiled=False),
        "pretrain": lambda: pretrain(options, save),
        "lora": lambda: lora(options),
    }
    save(steps[name](), whole=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beauty", type=Path, help="the amazon-beauty folder; without it, ml-100k alone")
    parser.add_argument("--minutes", type=float, default=10.0, help="no step starts, or goes on, after that")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu", help="where each step writes its JSON")
    parser.add_argument("--steps", default=",".join(LIMITS))
    parser.add_argument("--users", type=int, default=2048, help="for decoding")
    parser.add_argument("--side-by-side", type=int, default=32, help="the batch size, as in genrec recommend")
    parser.add_argument("--pretrain-minutes", type=float, default=3.0)
    parser.add_argument("--encoder", default="starter", help="as in genrec train")
    parser.add_argument("--ways", help="of decoding, separated by semicolons; the last is always needed")
    parser.add_argument("--random-weights", action="store_true", help="the starter's shape: same speed, no agreement")
    parser.add_argument("--cudnn", action="store_true", help="let attention be cuDNN's")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.step:
        run_step(options.step, options)
        return
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here; --device cpu tries the script without one")
    end = time.monotonic() + 60 * options.minutes
    left = []
    for name in options.steps.split(","):
        path = options.out / f"{name}.json"
        if (path.exists() and json.loads(path.read_text(encoding="utf-8"))["whole"]) or (
            name == "decoding-beauty" and not options.beauty
        ):
            continue
        seconds = min(LIMITS[name], end - time.monotonic())
        if seconds < 15:
            left.append(f"{name} (no time)")
            continue
        try:
            done = subprocess.run([sys.executable, *sys.argv, "--step", name], timeout=seconds, check=False)
            if done.returncode:
                left.append(f"{name} (ended with {done.returncode})")
        except subprocess.TimeoutExpired:
            left.append(f"{name} (stopped after {seconds:.0f} s)")
        if path.exists():
            print(f"--- {name}\n{path.read_text(encoding='utf-8')[:1800]}", flush=True)
    print("left: " + (", ".join(left) or "nothing"))


if __name__ == "__main__":
    main()
