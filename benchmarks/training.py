"""Training targets per second: genrec's whole-history recipe against one prompt per target, as the peers train.

    python benchmarks/training.py [--layers N] [--quick] [--out benchmarks/results/training.json]

A target is one item that the loss asks the model to name after its history. Both sides train the same base (the
starter) with the same LoRA (rank 16 on all linear layers) in the same number format on the training histories of
ml-100k. genrec's side is the `cpu` recipe through `training.finetune`. The peers' side is a plain `transformers`
Trainer with its own loss over the whole vocabulary. Its rows are in random order, padded to the longest of their batch,
with one target each. There are two kinds of prompt: BIGRec's (an instruction, the last ten titles in quotes, one
answer; arXiv 2308.08434) and GLoSS's (an instruction, all of the history that fits, one answer; arXiv 2506.01910). Open
choices were made in the peers' favour: one optimiser step for all batches of a run, and a window of 512 tokens for
GLoSS, which uses 1,024.

Then a ladder: from the peers' way to the recipe, one step at a time, and what further steps would add to it. Every run
is a process of its own, so that peak memory is its own; its first batch is a warm-up and is not timed. Batches are
drawn evenly over the lengths of the whole training set, with the repeat's number as seed; the sides take turns. Times
are processor seconds, not wall-clock seconds, so that other work on the machine affects them little; with several
threads they are summed. `--layers` reduces the base's depth on both sides, and is recorded in the result.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

RECIPE = "cpu"
BATCH_TOKENS = 2048
"""Tokens of a batch of genrec's in the comparison: the recipe's own."""
LADDER_TOKENS = 1024
"""Tokens of a batch on the ladder, whose slow rungs would take too long with more."""
ROWS = 4
"""Rows of a batch of the peers'."""
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

LADDER: dict[str, dict[str, Any]] = {
    "one-target, random order, whole vocabulary": {
        "template": "instruction", "random order": True, "loss": "vocabulary"
    },
    "+ whole-history examples": {"random order": True, "loss": "vocabulary"},
    "+ length grouping": {"loss": "vocabulary"},
    "+ loss over the catalogue's tokens: the recipe": {},
}  # fmt: skip
"""From the peers' way to the recipe, one step at a time; each row holds what it still lacks of the recipe."""

VARIANTS: dict[str, dict[str, Any]] = {
    "packed instead of padded": {"packed": True},
    "gradient checkpointing": {"gradient_checkpointing": "true"},
    "LoRA on the top half of the layers only": {"train_layers": 0.5},
    "the first quarter of the layers only": {"layers": 0.25},
}
"""One change each to the recipe; layers as a share of the base's."""

RECIPE_ROW = list(LADDER)[-1]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        batches: batches of a run, the first of them a warm-up.
        repeats: turns of the comparison.
        ladder_repeats: turns of the ladder.
        layers: the base's first layers that are used; None: all.
    """

    batches: int
    repeats: int
    ladder_repeats: int
    layers: int | None


def histories() -> tuple[Any, list[list[str]]]:
    """Return the catalogue and the labels of every training history of ml-100k."""
    from genrec.data.prepared import prepare

    data = prepare(dataset="ml-100k")
    return data.catalog, [[data.catalog[item].label for item in history.items] for history in data.split().train]


def spread(count: int, wanted: int, seed: int) -> list[int]:
    """Return places drawn evenly from 0 to count - 1: one at random from each of `wanted` equal parts."""
    draw = random.Random(seed)
    edges = np.linspace(0, count, wanted + 1).astype(int).tolist()
    return [draw.randrange(low, high) for low, high in itertools.pairwise(edges)]


def pack(examples: list[Any]) -> dict[str, Any]:
    """Return examples one behind the other in one row; places start anew with each, so none sees another.

    `transformers` reads the starts from `position_ids`: a block-diagonal mask under SDPA, cumulative lengths under
    flash attention. It does so only where no attention mask is given and no cache is kept (`use_cache=False`).

    Returns:
        `input_ids`, `labels` and `position_ids`, each of shape (1, tokens of all examples).
    """
    import torch

    return {
        "input_ids": torch.tensor([[token for example in examples for token in example.input_ids]]),
        "labels": torch.tensor([[label for example in examples for label in example.labels]]),
        "position_ids": torch.tensor([[place for example in examples for place in range(len(example.input_ids))]]),
    }


def run_genrec(job: dict[str, Any]) -> dict[str, Any]:
    """Train on some batches of a recipe, through `training.finetune`."""
    from transformers import AutoConfig

    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training import finetune as finetuning
    from training.backbone import load_base, load_tokenizer
    from training.computing import choose_precision
    from training.recipe import load_recipe

    base = resolve_base("starter")
    depth = job["layers"] or AutoConfig.from_pretrained(base).num_hidden_layers
    changes = {"epochs": 1, "layers": depth, "batch_tokens": job["batch_tokens"], **job["changes"]}
    random_order, packed = changes.pop("random order", False), changes.pop("packed", False)
    for key in ("layers", "train_layers"):
        if isinstance(changes.get(key), float):
            changes[key] = max(1, round(changes[key] * depth))
    recipe = load_recipe(RECIPE, [f"{key}={value}" for key, value in changes.items()])
    catalog, labels = histories()
    encoder = PromptEncoder(load_template(recipe.template), load_tokenizer(base), "causal", recipe.max_tokens)
    tokens = sorted({token for answer in encoder.answers(catalog.labels) for token in answer})
    if encoder.template.style == "one-target":  # all of them would fill the memory that is being measured
        places = draw_places(labels, 2000, job["seed"])
        examples = [encoder.one_target(labels[user][:place], labels[user][place]) for user, place in places]
    else:
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
            return pack(self.groups[place]) if packed else super().__getitem__(place)

    finetuning.Batches = Chosen  # type: ignore[misc]
    if packed:
        finetuning.summed_loss = packed_loss
    model, family = load_base(base, "cpu", choose_precision(recipe.precision, "cpu"), layers=recipe.layers)
    times: list[float] = []
    losses: list[float] = []

    def note(_: float, loss: float, __: float | None) -> None:
        times.append(time.process_time())
        losses.append(loss)

    with tempfile.TemporaryDirectory() as folder:
        finetuning.finetune(
            model,
            family,
            [example for group in chosen for example in group],
            recipe,
            Path(folder),
            catalogue_tokens=tokens,
            progress=note,
        )
    timed = [example for place in order[1:] for example in chosen[place]]
    end = encoder.terminator[-1]
    targets = [sum(label == end for label in example.labels) for example in timed]
    every = sum(label == end for example in examples for label in example.labels)
    return summary(times, order, targets, [len(example.input_ids) for example in timed], chosen, packed=packed) | {
        "first_loss": losses[0],
        "epoch": {"targets": every, "tokens": sum(len(example.input_ids) for example in examples)},
    }


def packed_loss(model: Any, family: str, inputs: dict[str, Any], tokens: Any) -> tuple[Any, int]:
    """`training.supervision.summed_loss` for a packed row."""
    import torch
    from torch.nn import functional

    from prompts.encoding import IGNORED

    row = {"input_ids": inputs["input_ids"], "position_ids": inputs["position_ids"]}
    logits = model(**row, use_cache=False).logits[:, :-1]
    labels = inputs["labels"][:, 1:]
    kept = labels != IGNORED
    wanted = labels[kept] if tokens is None else torch.searchsorted(tokens, labels[kept])
    return functional.cross_entropy(logits[kept].float(), wanted, reduction="sum"), len(wanted)


def draw_places(labels: list[list[str]], count: int, seed: int) -> list[tuple[int, int]]:
    """Return seeded (history, place) pairs, each place after its history's first."""
    places = [(user, place) for user, history in enumerate(labels) for place in range(1, len(history))]
    return random.Random(seed).sample(places, count)


def run_peer(job: dict[str, Any]) -> dict[str, Any]:
    """Train on some batches of one prompt per target, with a plain `transformers` Trainer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        DataCollatorForSeq2Seq,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import Template
    from training.backbone import load_tokenizer
    from training.computing import choose_precision
    from training.recipe import load_recipe

    recipe = load_recipe(RECIPE)
    base = resolve_base("starter")
    tokenizer = load_tokenizer(base)
    pieces, shown = PEERS[job["prompt"]]
    encoder = PromptEncoder(Template(job["prompt"], "one-target", **pieces), tokenizer, "causal", recipe.max_tokens)
    catalog, labels = histories()
    encoder.remember(catalog.labels)
    examples = [
        encoder.one_target(labels[user][max(0, place - shown) : place], labels[user][place])
        for user, place in draw_places(labels, job["rows"] * job["batches"], job["seed"])
    ]
    rows = [{"input_ids": list(example.input_ids), "labels": list(example.labels)} for example in examples]
    dtype = choose_precision(recipe.precision, "cpu")
    config = AutoConfig.from_pretrained(base)
    config.num_hidden_layers = job["layers"] or config.num_hidden_layers
    model = AutoModelForCausalLM.from_pretrained(base, config=config, dtype=dtype)
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
            bf16=dtype == torch.bfloat16,
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
    times: list[float],
    order: list[int],
    targets: list[int],
    lengths: list[int],
    groups: list[list[Any]],
    packed: bool = False,
) -> dict[str, Any]:
    """Return what a run did after its first batch."""
    import torch

    if len(times) != len(order):
        raise RuntimeError(f"{len(order)} batches were asked for and {len(times)} were timed")
    seconds = times[-1] - times[0]
    padded = sum(len(groups[place]) * max(len(example.input_ids) for example in groups[place]) for place in order[1:])
    return {
        "seconds": seconds,
        "steps": len(times) - 1,
        "targets": sum(targets),
        "tokens": sum(lengths),
        "padded_tokens": sum(lengths) if packed else padded,
        "targets_per_second": sum(targets) / seconds,
        "tokens_per_second": sum(lengths) / seconds,
        "tokens_per_target": sum(lengths) / sum(targets),
        "threads": torch.get_num_threads(),
    }


RUNNERS = {"genrec": run_genrec, "peer": run_peer}


def measure(side: str, name: str, **job: Any) -> dict[str, Any]:
    """Run one side in a process of its own and return what it measured."""
    command = [sys.executable, __file__, "--job", json.dumps({"side": side, **job})]
    started = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name}: {result['targets_per_second']:.3f} targets/s, {result['tokens_per_second']:.0f} tokens/s, "
        f"{result['peak_mib']:.0f} MiB ({result['steps']} steps, {result['seconds']:.0f} s; "
        f"{time.monotonic() - started:.0f} s on the wall in all)",
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


def compare(plan: Plan) -> dict[str, Any]:
    """Return both sides' speed, turn by turn, with the ratio of their medians."""
    sides: dict[str, list[dict[str, Any]]] = {"genrec": [], **{kind: [] for kind in PEERS}}
    common = {"batches": plan.batches, "layers": plan.layers}
    for repeat in range(1, plan.repeats + 1):
        sides["genrec"].append(
            measure("genrec", "genrec", changes={}, seed=repeat, batch_tokens=BATCH_TOKENS, **common)
        )
        for kind in PEERS:
            sides[kind].append(measure("peer", kind, prompt=kind, rows=ROWS, seed=repeat, **common))
    result = {side: together(runs) for side, runs in sides.items()}
    ours = result["genrec"]["targets_per_second"]
    return {
        "sides": result,
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


def climb(plan: Plan) -> dict[str, Any]:
    """Return the speed on each step of the ladder and of the recipe's variants, turn by turn."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*LADDER, *VARIANTS)}
    for repeat in range(1, plan.ladder_repeats + 1):
        for name, changes in (LADDER | VARIANTS).items():
            runs[name].append(
                measure(
                    "genrec", name, changes=changes, seed=repeat, batches=plan.batches, layers=plan.layers,
                    batch_tokens=LADDER_TOKENS,
                )
            )  # fmt: skip
    rows = {name: together(results) for name, results in runs.items()}
    for before, name in itertools.pairwise(LADDER):
        rows[name]["times_the_step_before"] = _times(rows, name, before)
    for name in VARIANTS:
        rows[name]["times_the_recipe"] = _times(rows, name, RECIPE_ROW)
    for name in rows:
        rows[name]["memory_of_the_recipe"] = rows[name]["peak_mib"] / rows[RECIPE_ROW]["peak_mib"]
    for packed, padded in zip(runs["packed instead of padded"], runs[RECIPE_ROW], strict=True):
        if abs(packed["first_loss"] - padded["first_loss"]) > 1e-3:
            raise SystemExit(f"packed rows lose {packed['first_loss']}, padded ones {padded['first_loss']}")
    return rows


def _times(rows: dict[str, Any], name: str, other: str) -> float:
    return float(rows[name]["targets_per_second"]["median"] / rows[other]["targets_per_second"]["median"])


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
    return {
        "cpu": names[0],
        "cores": len(names),
        "cores_used": len(os.sched_getaffinity(0)),
        "load_at_the_end": os.getloadavg()[1],
        "python": platform.python_version(),
        **versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, help="use the first layers of the base only, on both sides")
    parser.add_argument("--quick", action="store_true", help="one repeat of one timed batch: to see that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/training.json")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job = json.loads(options.job)
        result = RUNNERS[job.pop("side")](job)
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return
    plan = Plan(2, 1, 1, options.layers) if options.quick else Plan(3, 3, 1, options.layers)
    result = {
        "what": "supervised items per processor second: genrec's whole-history recipe against one prompt per target",
        "model": f"starter (SmolLM2-135M), {plan.layers or 'all'} layers, LoRA rank 16 on all linear layers",
        "layers": plan.layers,
        "precision": precision(),
        "data": "ml-100k, training histories of leave-one-out; seeded batches drawn evenly over their lengths",
        "date": datetime.now(UTC).date().isoformat(),
        "batches": {
            "per run": plan.batches,
            "of which warm-up": 1,
            "genrec": f"up to {BATCH_TOKENS} tokens",
            "peers": f"{ROWS} rows",
            "ladder": f"up to {LADDER_TOKENS} tokens",
        },
        "repeats": {"comparison": plan.repeats, "ladder": plan.ladder_repeats},
    }
    result["comparison"] = compare(plan)
    write(options.out, result)
    result["ladder"] = climb(plan)
    write(options.out, result)
    for kind, ratio in result["comparison"]["ratio"].items():
        memory = result["comparison"]["memory_ratio"][kind]
        print(f"against {kind}: {ratio:.1f} times the targets/s, {memory:.2f} of the memory")


def precision() -> str:
    from training.computing import choose_precision

    return str(choose_precision("auto", "cpu")).removeprefix("torch.")


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
