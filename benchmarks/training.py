"""Training targets per second: genrec's whole-history recipe against one prompt per target, as the peers train.

    python benchmarks/training.py [--quick] [--out benchmarks/results/training.json]

A target is one item that the loss asks the model to name after its history. Both sides train the same base (the
starter, all 30 layers) with the same LoRA (rank 16 on all linear layers) in the same number format on the training
histories of ml-100k. genrec's side is the `cpu` recipe through `training.finetune`. The peers' side is a plain
`transformers` Trainer with its own loss over the whole vocabulary, rows in random order, padded to the longest of
their batch, one target in each, in two kinds of prompt: BIGRec's (an instruction, the last ten titles in quotes, one
answer; arXiv 2308.08434) and GLoSS's (an instruction, all of the history that fits, one answer; arXiv 2506.01910).
Where a choice was open it was made in the peers' favour: the better of two batch sizes, one optimiser step for all
batches of a run, a window of 512 tokens for GLoSS, which takes 1,024.

Then the `cpu` recipe with one step changed at a time: what each cheap step adds. Every run is a process of its own,
so that peak memory is its own; its first batch is a warm-up and is not timed. Batches are drawn evenly over the
lengths of the whole training set. Times are processor seconds of the process, not the wall's, so that what else runs
on the machine disturbs them little; with more than one thread they add up all threads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

RECIPE = "cpu"
BIGREC = {
    "opening": "Below is an instruction that describes a task, with an input that gives further context. Write a "
    "response that completes the request.\n\n### Instruction:\nGiven the movies that a user has watched, recommend a "
    "new movie that the user will like.\n\n### Input:\nThe user has watched the following movies before:",
    "item": ' "{label}"',
    "separator": ",",
    "cue": "\n\n### Response:\n",
}
GLOSS = {
    "opening": "Below is a user's watch history in the order of time, earliest first. Each movie stands on a line of "
    "its own. Predict only one movie that the user is most likely to watch next, in the same format.\n\n"
    "### Watch history:\n",
    "item": "Title: {label}",
    "separator": "\n",
    "cue": "\n### Next movie:\n",
}
PEERS: dict[str, tuple[dict[str, str], int]] = {"bigrec": (BIGREC, 10), "gloss": (GLOSS, 1000)}
"""Each peer's kind of prompt, in our words, and at most how many of the newest items it shows."""

CHANGES: dict[str, dict[str, Any]] = {
    "the cpu recipe": {},
    "one-target instead of whole-history": {"template": "instruction"},
    "loss over the whole vocabulary": {"loss": "vocabulary"},
    "random order instead of length grouping": {"random order": True},
    "fp32 instead of bf16": {"precision": "fp32"},
    "LoRA on the top 15 layers only": {"train_layers": 15},
    "the first 8 layers of the base only": {"layers": 8},
    "gradient checkpointing": {"gradient_checkpointing": "true"},
}


def histories() -> tuple[Any, list[list[str]]]:
    """Return the catalogue and the labels of every training history of ml-100k."""
    from genrec.interactions import prepare

    data = prepare(dataset="ml-100k")
    return data.catalog, [[data.catalog[item].label for item in history.items] for history in data.split().train]


def spread(count: int, wanted: int, seed: int) -> list[int]:
    """Return places drawn evenly from 0 to count - 1: one at random from each of `wanted` equal parts."""
    draw = random.Random(seed)
    edges = np.linspace(0, count, wanted + 1).astype(int).tolist()
    return [draw.randrange(low, high) for low, high in itertools.pairwise(edges)]


def run_genrec(job: dict[str, Any]) -> dict[str, Any]:
    """Train on some batches of a recipe, through `training.finetune`."""
    from genrec.basemodels import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training import finetune as finetuning
    from training.backbone import choose_precision, load_base, load_tokenizer
    from training.recipe import load_recipe

    changes = {"precision": "bf16", "epochs": 1, **job["changes"]}
    random_order = changes.pop("random order", False)
    recipe = load_recipe(RECIPE, [f"{key}={value}" for key, value in changes.items()])
    base = resolve_base("starter")
    catalog, labels = histories()
    encoder = PromptEncoder(load_template(recipe.template), load_tokenizer(base), "causal", recipe.max_tokens)
    tokens = sorted({token for answer in encoder.answers(catalog.labels) for token in answer})
    examples = [example for history in labels for example in encoder.examples(history)]
    groups = finetuning.Batches(examples, recipe.batch_tokens, recipe.seed).groups
    if random_order:
        random.Random(job["seed"]).shuffle(examples)
        rows = recipe.batch_tokens // recipe.max_tokens
        groups = [examples[place : place + rows] for place in range(0, len(examples), rows)]
    chosen = [groups[place] for place in spread(len(groups), job["batches"], job["seed"])]
    order: list[int] = []

    class Chosen(finetuning.Batches):
        """The chosen batches; notes in which order they are asked for."""

        def __init__(self, *_: object) -> None:
            self.groups = chosen

        def __getitem__(self, place: int) -> Any:
            order.append(place)
            return super().__getitem__(place)

    finetuning.Batches = Chosen  # type: ignore[misc]
    model, family = load_base(base, "cpu", choose_precision(recipe.precision, "cpu"), layers=recipe.layers)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        finetuning.finetune(
            model,
            family,
            [example for group in chosen for example in group],
            recipe,
            Path(folder),
            catalogue_tokens=tokens,
            progress=lambda *_: times.append(time.process_time()),
        )
    timed = [example for place in order[1:] for example in chosen[place]]
    end = encoder.terminator[-1]
    targets = [sum(label == end for label in example.labels) for example in timed]
    every = sum(label == end for example in examples for label in example.labels)
    return summary(times, order, targets, [len(example.input_ids) for example in timed], chosen) | {
        "epoch": {"targets": every, "tokens": sum(len(example.input_ids) for example in examples)}
    }


def run_peer(job: dict[str, Any]) -> dict[str, Any]:
    """Train on some batches of one prompt per target, with a plain `transformers` Trainer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        DataCollatorForSeq2Seq,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from genrec.basemodels import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import Template
    from training.backbone import load_tokenizer
    from training.recipe import load_recipe

    recipe = load_recipe(RECIPE)
    base = resolve_base("starter")
    tokenizer = load_tokenizer(base)
    pieces, shown = PEERS[job["prompt"]]
    encoder = PromptEncoder(Template(job["prompt"], "one-target", **pieces), tokenizer, "causal", recipe.max_tokens)
    catalog, labels = histories()
    encoder.remember(catalog.labels)
    places = [(user, place) for user, history in enumerate(labels) for place in range(1, len(history))]
    wanted = random.Random(job["seed"]).sample(places, job["rows"] * job["batches"])
    examples = [
        encoder.one_target(labels[user][max(0, place - shown) : place], labels[user][place]) for user, place in wanted
    ]
    rows = [{"input_ids": list(example.input_ids), "labels": list(example.labels)} for example in examples]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.config.use_cache = False
    model = get_peft_model(
        model,
        LoraConfig(
            r=recipe.lora_rank, lora_alpha=recipe.alpha, target_modules="all-linear", bias="none", task_type="CAUSAL_LM"
        ),
    )
    times: list[float] = []

    class Stopwatch(TrainerCallback):  # type: ignore[misc]
        """Notes the time after each batch."""

        def on_substep_end(self, *_: object, **__: object) -> None:
            times.append(time.process_time())

        on_step_end = on_substep_end

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job["rows"],
            gradient_accumulation_steps=job["batches"],
            num_train_epochs=1,
            learning_rate=recipe.learning_rate,
            bf16=True,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
            train_sampling_strategy="sequential",  # the rows were drawn at random already
        )
        collator = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8)
        trainer = Trainer(model, arguments, collator, rows, callbacks=[Stopwatch()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    groups = [examples[start : start + job["rows"]] for start in range(0, len(examples), job["rows"])]
    timed = examples[job["rows"] :]
    return summary(
        times, list(range(job["batches"])), [1] * len(timed), [len(example.input_ids) for example in timed], groups
    )


def summary(
    times: list[float], order: list[int], targets: list[int], lengths: list[int], groups: list[list[Any]]
) -> dict[str, Any]:
    """Return what a run did after its first batch."""
    import torch

    seconds = times[-1] - times[0]
    padded = sum(len(groups[place]) * max(len(example.input_ids) for example in groups[place]) for place in order[1:])
    return {
        "seconds": seconds,
        "steps": len(times) - 1,
        "targets": sum(targets),
        "tokens": sum(lengths),
        "padded_tokens": padded,
        "targets_per_second": sum(targets) / seconds,
        "tokens_per_second": sum(lengths) / seconds,
        "tokens_per_target": sum(lengths) / sum(targets),
        "threads": torch.get_num_threads(),
    }


RUNNERS = {"genrec": run_genrec, "peer": run_peer}


def measure(side: str, name: str, **job: Any) -> dict[str, Any]:
    """Run one side in a process of its own and return what it measured."""
    command = [sys.executable, __file__, "--job", json.dumps({"side": side, **job})]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name}: {result['targets_per_second']:.3f} targets/s, {result['tokens_per_second']:.0f} tokens/s, "
        f"{result['peak_mib']:.0f} MiB ({result['steps']} steps, {result['seconds']:.0f} s)",
        flush=True,
    )
    return result


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of some runs, their range and their peak."""
    speeds = [run["targets_per_second"] for run in runs]
    return {
        "targets_per_second": {"median": float(np.median(speeds)), "runs": speeds},
        "tokens_per_second": float(np.median([run["tokens_per_second"] for run in runs])),
        "tokens_per_target": float(np.mean([run["tokens_per_target"] for run in runs])),
        "padding": 1 - sum(run["tokens"] for run in runs) / sum(run["padded_tokens"] for run in runs),
        "timed_steps": sum(run["steps"] for run in runs),
        "timed_targets": sum(run["targets"] for run in runs),
        "peak_mib": max(run["peak_mib"] for run in runs),
    }


def compare(batches: int, repeats: int) -> dict[str, Any]:
    """Return both sides' speed, turn by turn, with the ratio of their medians."""
    sizes = {
        kind: max(
            (4, 8),
            key=lambda rows: measure("peer", f"{kind}, {rows} rows a batch", prompt=kind, rows=rows, batches=2, seed=0)[
                "targets_per_second"
            ],
        )
        for kind in PEERS
    }
    sides: dict[str, list[dict[str, Any]]] = {"genrec": [], **{kind: [] for kind in PEERS}}
    for repeat in range(1, repeats + 1):
        sides["genrec"].append(measure("genrec", "genrec", changes={}, batches=batches, seed=repeat))
        for kind, rows in sizes.items():
            sides[kind].append(measure("peer", kind, prompt=kind, rows=rows, batches=batches, seed=repeat))
    result = {side: together(runs) for side, runs in sides.items()}
    ours = result["genrec"]["targets_per_second"]
    return {
        "sides": result,
        "rows_a_batch": sizes,
        "ratio": {kind: ours["median"] / result[kind]["targets_per_second"]["median"] for kind in PEERS},
        "ratio_range": {
            kind: [
                min(ours["runs"]) / max(result[kind]["targets_per_second"]["runs"]),
                max(ours["runs"]) / min(result[kind]["targets_per_second"]["runs"]),
            ]
            for kind in PEERS
        },
        "memory_ratio": {kind: result["genrec"]["peak_mib"] / result[kind]["peak_mib"] for kind in PEERS},
        "epoch": sides["genrec"][0]["epoch"],
    }


def steps_one_by_one(batches: int, repeats: int) -> dict[str, Any]:
    """Return the recipe's speed with one thing changed at a time, beside the recipe itself on the same batches."""
    rows = {}
    for name, changes in CHANGES.items():
        rows[name] = together(
            [measure("genrec", name, changes=changes, batches=batches, seed=repeat) for repeat in range(1, repeats + 1)]
        )
    ours = rows["the cpu recipe"]
    for row in rows.values():
        row["recipe_is_faster_by"] = ours["targets_per_second"]["median"] / row["targets_per_second"]["median"]
        row["recipe_memory_ratio"] = ours["peak_mib"] / row["peak_mib"]
    return rows


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
    return {"cpu": names[0], "cores": len(names), "python": platform.python_version(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat of one timed step: to see that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/training.json")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job = json.loads(options.job)
        result = RUNNERS[job.pop("side")](job)
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    batches, repeats = (2, 1) if options.quick else (4, 3)
    comparison = compare(batches, repeats)
    steps = steps_one_by_one(batches - 1, 1)
    result = {
        "what": "supervised items per processor second: genrec's whole-history recipe against one prompt per target",
        "model": "starter (SmolLM2-135M), 30 layers, LoRA rank 16 on all linear layers, bf16",
        "data": "ml-100k, training histories of leave-one-out",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "repeats": repeats,
        "batches_a_run": {"comparison": batches, "steps": batches - 1, "of which warm-up": 1},
        "comparison": comparison,
        "one_change_at_a_time": steps,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for kind, ratio in comparison["ratio"].items():
        print(f"against {kind}: {ratio:.1f} times the targets/s, {comparison['memory_ratio'][kind]:.2f} of the memory")


if __name__ == "__main__":
    main()
