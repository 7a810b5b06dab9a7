"""Quality at equal time: the two styles of examples, the same base, the same minutes, on validation.

    python benchmarks/equal_time.py BASE [--minutes 10] [--dataset ml-100k] [--set key=value ...] [--out FILE]

Both sides fine-tune the same base (a folder or a hub id; a small one made by `genrec pretrain` is enough) with the same
recipe (`cpu`, changed by `--set`) for the same minutes. Only the template differs: with `next-item`, every item after
the first of a history is a target; with `instruction`, a prompt has one target. On both sides the learning rate falls
to zero at the end of the minutes. Then the language model alone recommends ten items for every validation case, under
constrained decoding and without seen items. The base is measured first, with almost no fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

STYLES = {"whole-history": "next-item", "one-target": "instruction"}


def run_style(data: Any, template: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one style for the minutes and measure it on validation."""
    with tempfile.TemporaryDirectory() as folder:
        done = train(data, template, options, Path(folder) / "run", options.minutes, options.epochs)
        figures = judge(data, Path(folder) / "run")
    return {
        "template": template,
        "epochs": done["supervised_tokens"] / supervised_tokens(data, template, options),
        "supervised_tokens": done["supervised_tokens"],
        "seconds": done["seconds"],
        "final_loss": done["final_loss"],
        **figures,
    }


def train(
    data: Any, template: str, options: argparse.Namespace, out: Path, minutes: float, epochs: float
) -> dict[str, Any]:
    """Train for at most some minutes; return what the run's manifest says of it."""
    from genrec.runs.train import train_run
    from training.recipe import load_recipe

    fixed = {"base": options.base, "template": template, "max_minutes": minutes, "epochs": epochs, "tuning_cases": 0}
    recipe = load_recipe("cpu", [*options.set, *(f"{key}={value}" for key, value in fixed.items())])
    manifest = train_run(data, recipe, out, encoder="hashing")
    assert manifest is not None  # noqa: S101 - there is one process
    return manifest.training.model_dump()


def supervised_tokens(data: Any, template: str, options: argparse.Namespace) -> int:
    """Return how many supervised tokens one pass has: those of every item after the first, terminators included."""
    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training.backbone import load_tokenizer

    encoder = PromptEncoder(load_template(template), load_tokenizer(resolve_base(options.base)))
    lengths = {item.id: len(encoder.answer(item.label)) for item in data.catalog}
    return sum(lengths[item] for history in data.split().train for item in history.items[1:])


def judge(data: Any, run: Path) -> dict[str, Any]:
    """Return NDCG@10 of the language model alone over validation, with 95 % bootstrap intervals over the cases."""
    from genrec import Recommender
    from genrec.runs.judging import K, run_ndcg

    cases = [case for case in data.split().valid if case.history.items]
    each = run_ndcg(Recommender.from_pretrained(run), cases)
    draws = np.random.default_rng(0).integers(0, len(each), (1000, len(each)))
    low, high = np.quantile(each[draws].mean(axis=1), [0.025, 0.975])
    return {f"ndcg@{K}": {"value": float(each.mean()), "low": float(low), "high": float(high)}, "cases": len(cases)}


def untrained(data: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the base does by itself under the `next-item` template: its adapter has all but learnt nothing."""
    with tempfile.TemporaryDirectory() as folder:
        train(data, STYLES["whole-history"], options, Path(folder) / "run", 0.01, 1.0)
        return judge(data, Path(folder) / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=float, default=50.0, help="most passes, should the minutes hold more")
    parser.add_argument("--dataset", default="ml-100k", help="ml-100k or amazon-beauty:FOLDER")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe, both sides")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/equal-time.json")
    options = parser.parse_args()
    from genrec.data.prepared import prepare
    from genrec.language.bases import resolve_base

    data = prepare(dataset=options.dataset)
    shape = json.loads((Path(resolve_base(options.base)) / "config.json").read_text())
    result = {
        "what": "validation NDCG@10 of the language model alone after equal minutes of fine-tuning",
        "data": options.dataset.split(":")[0],
        "base": {
            key: shape[key]
            for key in ("model_type", "vocab_size", "hidden_size", "n_embd", "num_hidden_layers", "n_layer")
            if key in shape
        },
        "recipe": ["cpu", *options.set],
        "minutes": options.minutes,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cores_used": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "base_alone": untrained(data, options),
        "styles": {},
    }
    for name, template in STYLES.items():
        result["styles"][name] = run_style(data, template, options)
        figure = result["styles"][name]["ndcg@10"]
        print(f"{name}: NDCG@10 {figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
