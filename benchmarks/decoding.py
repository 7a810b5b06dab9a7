"""Users per second of constrained beam search: genrec's decoder against `transformers`' generate().

    python benchmarks/decoding.py [--beauty FOLDER] [--out benchmarks/results/decoding.json]

Both sides get the same model (the starter), prompts, beams, number format and constraint. The reference is
`generate(prefix_allowed_tokens_fn=...)` over a dictionary trie, at its better batch size. The decoder is measured with
its default, which normalises over the catalogue's tokens, and also over the whole vocabulary, as the reference does.
Both are measured again with normalisation over the allowed tokens (the reference's `renormalize_logits=True`), where a
forced token costs nothing. Each side runs in its own process, so that peak memory is its own; the sides take turns, so
that drift affects both alike. Then the decoder is measured alone: its speed by beams, history length and catalogue
size, and the parts of its time. Results in `--out` from a machine of the same kind are kept; delete the file to measure
them again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
EVERY = 8
"""The reference is asked for one user in so many, in the order of their prompts' lengths."""
BATCH = 16
"""Users that genrec decodes side by side: the caches of their beams must not take more memory than the reference's."""
sys.path.insert(0, str(ROOT))


def load(source: str, history: int, users: int, catalogue: int | None = None) -> dict[str, Any]:
    """Return prompts, sequences and exclusions for a seeded sample of users."""
    from genrec.data.prepared import prepare
    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training.backbone import load_tokenizer

    data = prepare(dataset=source)
    base = resolve_base("starter")
    encoder = PromptEncoder(load_template("next-item"), load_tokenizer(base), max_tokens=8000)
    users = min(users, len(data.histories))
    chosen = np.random.default_rng(0).choice(len(data.histories), users, replace=False)
    histories = [data.histories[place].items[-history:] for place in sorted(chosen)]
    labels = list(data.catalog.labels)
    if catalogue is not None:
        labels = invent_titles(labels, catalogue)
    return {
        "base": base,
        "prompts": [encoder.prompt([data.catalog[item].label for item in items]).input_ids for items in histories],
        "sequences": encoder.answers(labels),
        "seen": [np.array(sorted(set(data.catalog.rows(items)))) for items in histories],
    }


def invent_titles(labels: list[str], count: int) -> list[str]:
    """Return real titles, and as many more as needed made of the words of real ones."""
    words = sorted({word for label in labels for word in label.split()})
    random = np.random.default_rng(1)
    titles = dict.fromkeys(labels[:count])
    while len(titles) < count:
        titles[" ".join(words[place] for place in random.integers(0, len(words), random.integers(2, 7)))] = None
    return list(titles)


def load_model(base: str) -> Any:
    import torch

    from training.backbone import load_base
    from training.computing import choose_precision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_base(base, device, choose_precision("auto", device))[0].eval()


def run_genrec(job: dict[str, Any]) -> dict[str, Any]:
    from genrec.language.decoder import Decoder, batches_by_length
    from retrieval.trie import TokenTrie

    world = load(job["source"], job["history"], job["users"], job.get("catalogue"))
    started = time.perf_counter()
    trie = TokenTrie.build(world["sequences"])
    built = time.perf_counter() - started
    decoder = Decoder(load_model(world["base"]), trie, job.get("normalisation", "vocabulary"))
    prompts, seen = world["prompts"], world["seen"]
    lengths = [len(prompt) for prompt in prompts]
    decoder.search(decoder.read(prompts[:1]), 10, job["beams"], seen[:1])  # warm-up
    read = 0.0
    started = time.perf_counter()
    found: list[Any] = [None] * len(prompts)
    for batch in batches_by_length(lengths, job["batch"]):
        before = time.perf_counter()
        state = decoder.read([prompts[place] for place in batch])
        read += time.perf_counter() - before
        answers = decoder.search(state, 10, job["beams"], [seen[place] for place in batch])
        for place, answer in zip(batch, answers, strict=True):
            found[place] = answer
    spent = time.perf_counter() - started
    return {
        "seconds": spent,
        "read_seconds": read,
        "trie_seconds": built,
        "mean_prompt_tokens": float(np.mean(lengths)),
        "answers": [answer.rows.tolist() for answer in found],
    }


def run_reference(job: dict[str, Any]) -> dict[str, Any]:
    from tests.reference import reference_search

    world = load(job["source"], job["history"], job["users"])
    # The middle one of every few by length, so that its prompts are as long as everyone's.
    places = np.argsort([len(prompt) for prompt in world["prompts"]], kind="stable")[job["every"] // 2 :: job["every"]]
    prompts, all_seen = [world["prompts"][place] for place in places], [world["seen"][place] for place in places]
    model, sequences = load_model(world["base"]), world["sequences"]
    normalisation = job.get("normalisation", "vocabulary")
    tokens = sorted({token for sequence in sequences for token in sequence}) if normalisation == "catalogue" else None
    rows = {sequence: row for row, sequence in enumerate(sequences)}
    started = time.perf_counter()
    found = []
    for start in range(0, len(prompts), job["batch"]):
        part = slice(start, start + job["batch"])
        excluded = [set(seen.tolist()) for seen in all_seen[part]]
        found += reference_search(
            model, prompts[part], sequences, excluded, keep=10, beams=job["beams"],
            catalogue_tokens=tokens, over_children=normalisation == "children",
        )  # fmt: skip
    return {
        "seconds": time.perf_counter() - started,
        "mean_prompt_tokens": float(np.mean([len(prompt) for prompt in prompts])),
        "places": places.tolist(),
        "answers": [[rows[sequence] for sequence, _ in answer] for answer in found],
    }


def run_profile(job: dict[str, Any]) -> dict[str, Any]:
    """Return where the decoder's time goes, and how far it is from the machine's own matrix-multiply rate."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from genrec.language.decoder import Decoder
    from retrieval.trie import TokenTrie

    world = load(job["source"], job["history"], job["users"])
    model = load_model(world["base"])
    parameters = sum(parameter.numel() for name, parameter in model.named_parameters() if "embed" not in name)
    decoder = Decoder(model, TokenTrie.build(world["sequences"]), "catalogue")
    order = np.argsort([len(prompt) for prompt in world["prompts"]])
    prompts = [world["prompts"][place] for place in order]
    seen = [world["seen"][place] for place in order]
    decoder.search(decoder.read(prompts[:1]), 10, job["beams"], seen[:1])
    tokens = {"prompt": sum(map(len, prompts)), "beam": 0}
    model.register_forward_pre_hook(
        lambda _, args, kwargs: tokens.__setitem__(
            "beam", tokens["beam"] + (args[0].numel() if "shared_prompts" in kwargs else 0)
        ),
        with_kwargs=True,
    )
    started = time.perf_counter()
    decoder.search(decoder.read(prompts), 10, job["beams"], seen)
    plain = time.perf_counter() - started
    beam_tokens = tokens["beam"]
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        decoder.search(decoder.read(prompts), 10, job["beams"], seen)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = sorted(((event.self_cpu_time_total / total, event.key) for event in events), reverse=True)[:12]
    rate = matmul_rate(model.config.hidden_size, model.config.intermediate_size, next(model.parameters()).dtype)
    flops = 2 * parameters * (tokens["prompt"] + beam_tokens)
    return {
        "seconds": plain,
        "prompt_tokens": tokens["prompt"],
        "beam_tokens": beam_tokens,
        "model_gflop": flops / 1e9,
        "matmul_gflop_per_second": rate / 1e9,
        "floor_seconds": flops / rate,
        "share_of_floor": flops / rate / plain,
        "self_time_shares": {key: round(share, 4) for share, key in shares},
        "threads": torch.get_num_threads(),
    }


def run_calls(job: dict[str, Any]) -> dict[str, Any]:
    """Return how many `aten` calls a user's reading and search make: what a GPU waits for, whatever its speed.

    The model is as deep as the starter and thin, with random weights: calls do not depend on the width of a layer.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    from genrec.language.decoder import Decoder
    from retrieval.trie import TokenTrie

    class Calls(TorchDispatchMode):  # type: ignore[misc]
        count = 0

        def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return call(*args, **(kwargs or {}))

    world = load(job["source"], job["history"], job["users"])
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=30, num_attention_heads=1, vocab_size=49152
    )
    model = AutoModelForCausalLM.from_config(config)
    decoder = Decoder(model, TokenTrie.build(world["sequences"]), fixed_shapes=job["fixed"])
    with Calls() as reading:
        read = decoder.read(world["prompts"])
    with Calls() as searching:
        decoder.search(read, 10, job["beams"], world["seen"])
    users = job["users"]
    return {"users": users, "reading": reading.count / users, "searching": searching.count / users}


def calls(source: str) -> dict[str, Any]:
    """Return the calls of both ways, each at the number of users that it decodes side by side."""
    job = {"source": source, "history": 50, "beams": 30}
    ways = {
        "processor's way": measure("calls", **job, users=BATCH, fixed=False),
        "fixed shapes": measure("calls", **job, users=8 * BATCH, fixed=True),
    }
    few, many = (row["reading"] + row["searching"] for row in (ways["fixed shapes"], ways["processor's way"]))
    return {**ways, "share": few / many}


def matmul_rate(width: int, inner: int, dtype: Any) -> float:
    """Return the measured floating-point operations a second of the model's own largest matrix product."""
    import torch

    left, right = torch.randn(2048, width).to(dtype), torch.randn(inner, width).to(dtype)
    best = 0.0
    for _ in range(20):
        started = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = max(best, 2 * 2048 * width * inner / (time.perf_counter() - started))
    return best


RUNNERS = {"genrec": run_genrec, "reference": run_reference, "profile": run_profile, "calls": run_calls}


def measure(side: str, **job: Any) -> dict[str, Any]:
    """Run one side in a process of its own and return what it measured."""
    command = [sys.executable, __file__, "--job", json.dumps({"side": side, **job})]
    # One process after another, each with all cores; what it prints last is its result.
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "answers" in result:
        result["users_per_second"] = len(result["answers"]) / result["seconds"]
        print(f"{side} {job}: {result['users_per_second']:.3f} users/s, {result['peak_mib']:.0f} MiB", flush=True)
    return result


def compare(source: str, users: int, repeats: int, history: int = 50, beams: int = 30) -> dict[str, Any]:
    """Return both sides' speed on one data set, in turn, with the ratio of their medians.

    The reference is asked for few of the users only: it does best one user at a time, so its users a second do not
    depend on how many there are. The decoder gets them all, since grouping prompts by length is part of its job.
    """
    job = {"source": source, "history": history, "users": users, "beams": beams}
    few = {**job, "every": EVERY}
    # With all of its users: three at a time would be a batch of their own, faster than those of the whole run.
    trial = {batch: measure("reference", **few, batch=batch) for batch in (1, 4)}
    better = max(trial, key=lambda batch: trial[batch]["users_per_second"])
    sides = {
        "reference": partial(measure, "reference", **few, batch=better),
        "genrec": partial(measure, "genrec", **job, batch=BATCH, normalisation="catalogue"),
        "genrec, whole vocabulary": partial(measure, "genrec", **job, batch=BATCH),
        "reference, over children": partial(measure, "reference", **few, batch=better, normalisation="children"),
        "genrec, over children": partial(measure, "genrec", **job, batch=BATCH, normalisation="children"),
    }
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, run in sides.items():
            runs[side].append(run())
    speed = {side: [run["users_per_second"] for run in some] for side, some in runs.items()}
    memory = {side: max(run["peak_mib"] for run in some) for side, some in runs.items()}
    median = {side: float(np.median(some)) for side, some in speed.items()}

    def same(ours: str, theirs: str) -> float:
        answers, few = runs[ours][0]["answers"], runs[theirs][0]
        pairs = zip((answers[place] for place in few["places"]), few["answers"], strict=True)
        return float(np.mean([len(set(one) & set(other)) / 10 for one, other in pairs]))

    def against(ours: str, theirs: str) -> dict[str, Any]:
        return {
            "ratio": median[ours] / median[theirs],
            "ratio_range": [min(speed[ours]) / max(speed[theirs]), max(speed[ours]) / min(speed[theirs])],
            "memory_ratio": memory[ours] / memory[theirs],
        }

    return {
        "users": {side: users // EVERY if "reference" in side else users for side in sides},
        "history_items": history,
        "beams": beams,
        "mean_prompt_tokens": {side: some[0]["mean_prompt_tokens"] for side, some in runs.items()},
        "batch": {side: better if "reference" in side else BATCH for side in sides},
        "users_per_second": {side: {"median": median[side], "runs": speed[side]} for side in sides},
        "peak_mib": memory,
        **against("genrec", "reference"),
        "ratio_whole_vocabulary": median["genrec, whole vocabulary"] / median["reference"],
        "same_top_10_items": same("genrec, whole vocabulary", "reference"),
        "over_children": {
            **against("genrec, over children", "reference, over children"),
            "same_top_10_items": same("genrec, over children", "reference, over children"),
        },
    }


def growth(users: int) -> dict[str, Any]:
    """Return the decoder's speed by beams, history length and catalogue size."""
    size = {"history": 50, "users": users, "beams": 30, "batch": BATCH}
    plain = {"source": "ml-100k", "normalisation": "catalogue", **size}

    def row(**change: Any) -> dict[str, float]:
        run = measure("genrec", **{**plain, **change})
        return {name: run[name] for name in ("users_per_second", "peak_mib", "mean_prompt_tokens", "trie_seconds")}

    return {
        "settings": plain,
        "beams": {beams: row(beams=beams) for beams in (10, 30, 100)},
        "history_items": {history: row(history=history) for history in (10, 50, 200)},
        "catalogue_items": {size: row(catalogue=size) for size in (1_000, 10_000, 100_000, 1_000_000)},
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    import torch

    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {
        "cpu": names[0],
        "cores": len(names),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        **versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beauty", help="the amazon-beauty folder, for the second comparison")
    parser.add_argument("--users", type=int, default=72)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/decoding.json")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job = json.loads(options.job)
        result = RUNNERS[job.pop("side")](job)
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    sources = {"ml-100k": "ml-100k"} | ({"amazon-beauty": f"amazon-beauty:{options.beauty}"} if options.beauty else {})
    result: dict[str, Any] = {
        "what": "constrained beam search: genrec's decoder (genrec) against transformers' generate (reference)",
        "model": "starter (SmolLM2-135M)",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "repeats": options.repeats,
        "comparisons": {},
    }
    parts = {
        **{name: partial(compare, source, options.users, options.repeats) for name, source in sources.items()},
        "aten_calls_per_user": partial(calls, sources.get("amazon-beauty", "ml-100k")),
        "growth": partial(growth, options.users // 3),
        "profile": partial(measure, "profile", source="ml-100k", history=50, users=16, beams=30),
    }
    before = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    if before.get("machine") == result["machine"]:
        result = {**result, **before}
    for name, part in parts.items():
        if name in result or name in result["comparisons"]:
            continue
        (result["comparisons"] if name in sources else result)[name] = part()
        # After each part, since all of them take an hour on a slow processor.
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, row in result["comparisons"].items():
        print(f"{name}: {row['ratio']:.1f} times the users/s, {row['memory_ratio']:.2f} of the memory")


if __name__ == "__main__":
    main()
