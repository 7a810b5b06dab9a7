"""Explanations of a run: are they valid, do they cite the items that moved the model, and what do they cost?

    python benchmarks/explanations.py --run runs/films --data data/films

The first three recommendations of 200 seeded test users are explained. Measured for every way to explain: citation
validity, shares of texts written and replaced, variety and length. Measured for evidence by leave-one-out: its speed
and its faithfulness, which is the fall of the item's log-likelihood without the cited items, over the fall without as
many random items. Also reported: users a second without explanations and with each kind, and twenty explanations drawn
by the seed, unedited.

Finished parts are saved in a file beside the output, so an interrupted run continues from there.
"""

# ruff: noqa: E402 - the path is set before what is found by it

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # before this folder, whose training.py is not the package

from genrec import Recommender, Settings
from genrec.baselines.search import sample_cases
from genrec.data.catalog import Item
from genrec.data.prepared import load_prepared
from genrec.data.splits import History
from genrec.evaluation.uncertainty import bootstrap_means, bootstrap_ratio
from genrec.explain.evidence import MOST_EVIDENCE, Explain, measured_evidence
from genrec.explain.influence import Influence, influences
from genrec.runs.explanation_measures import compare_explanations, drops_of
from genrec.storage.folders import MANIFEST, fingerprint, write_json

BAR = 3.0
"""Faithfulness that must be shown for evidence by leave-one-out."""

SHOWN = 20
KINDS: tuple[Explain, ...] = ("none", "sentence", "measured", "words")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/explanations.json")
    parser.add_argument("--markdown", type=Path, help="write the twenty explanations here, as Markdown")
    options = parser.parse_args()
    recommender = Recommender.from_pretrained(options.run, "cpu" if not torch.cuda.is_available() else None)
    prepared = load_prepared(options.data)
    cases = sample_cases(prepared.split().test, options.users, options.seed)
    histories = [case.history for case in cases]
    settings = Settings(k=options.k)
    answers = recommender.recommend_with_parts(histories, settings)
    items = [[entry.item for entry in answer.recommendations] for answer in answers]
    asked = {"run": fingerprint(options.run / MANIFEST), "users": len(cases), "k": options.k, "seed": options.seed}
    steps = Steps(options.out.with_suffix(".part.json"), asked)
    seed = options.seed
    result = {
        "what": "explanations of a run: validity, faithfulness, cost",
        "data": prepared.report.source,
        "model": {
            "base": Path(recommender.manifest.base).name,
            "parameters": sum(parameter.numel() for parameter in recommender.decoder.model.parameters()),
        },
        "users": len(cases),
        "recommendations_each": options.k,
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "ways": steps("ways", lambda: figures_of_ways(recommender, histories, settings, seed)),
        "evidence": steps("evidence", lambda: evidence(recommender, histories, items, seed, options.repeats)),
        "throughput": steps("throughput", lambda: throughput(recommender, histories, settings, options.repeats)),
        "examples": steps("examples", lambda: examples(recommender, histories, items, seed)),
    }
    result["ratio"] = result["evidence"]["faithfulness"]["value"]
    result["bar"] = BAR
    falls = result["evidence"]["faithfulness"]
    result["bar_is_met"] = falls["drop_cited"]["low"] > 0 and (
        falls["drop_cited"]["value"] >= BAR * falls["drop_random"]["value"]
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    steps.path.unlink(missing_ok=True)
    text = markdown(result)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)


class Steps:
    """Results of finished steps, kept in a file; those of another run or other users are not taken up."""

    def __init__(self, path: Path, asked: dict[str, Any]) -> None:
        self.path = path
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.done: dict[str, Any] = before if before.get("asked") == asked else {"asked": asked}

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """Return a step's result, made now or before."""
        if name not in self.done:
            started = time.perf_counter()
            self.done[name] = make()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.done)
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        return self.done[name]


def figures_of_ways(
    recommender: Recommender, histories: Sequence[History], settings: Settings, seed: int
) -> dict[str, Any]:
    ways = compare_explanations(recommender, histories, settings, seed)
    return {how: {name: figure.to_json() for name, figure in found.items()} for how, found in ways.items()}


def evidence(
    recommender: Recommender, histories: Sequence[History], items: Sequence[Sequence[Item]], seed: int, repeats: int
) -> dict[str, Any]:
    """Return the faithfulness of what is measured by leaving out, and the speed of measuring."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = [attribute(recommender, *asked) for asked in zip(histories, items, strict=True)]
        seconds.append(time.perf_counter() - started)
    most = MOST_EVIDENCE["short"]
    drops = [
        drops_of(recommender, history, own, [measured_evidence(one, most).items for one in moved], seed)
        for history, own, moved in zip(histories, items, found, strict=True)
    ]
    pairs = [(np.nanmean(one.cited), np.nanmean(one.random)) for one in drops if not np.isnan(one.cited).all()]
    cited, at_random = np.array(pairs).T
    columns = np.column_stack((cited, at_random, cited - at_random))
    names = ("drop_cited", "drop_random", "drop_beyond_random")
    means = dict(zip(names, bootstrap_means(columns, seed=seed), strict=True))
    ratio = bootstrap_ratio(cited, at_random, seed=seed)
    return {
        "faithfulness": {
            # None where random items do not lower the likelihood at all: then every fall is more than any multiple.
            "value": None if np.isnan(ratio.value) else round(ratio.value, 6),
            "low": ratio.low,
            "high": ratio.high,
            **{name: estimate.to_json() for name, estimate in means.items()},
            "users": len(pairs),
        },
        "users_per_second": len(histories) / float(np.median(seconds)),
        "seconds": seconds,
    }


def attribute(recommender: Recommender, history: History, items: Sequence[Item]) -> list[list[Influence]]:
    ids = [item.id for item in items]
    return influences(recommender.catalog, recommender.encoder, recommender.decoder, history.items, ids)


def throughput(
    recommender: Recommender, histories: Sequence[History], settings: Settings, repeats: int
) -> dict[str, Any]:
    """Return users a second with each kind of explanation, in turn, and what each part adds to a user."""
    recommender.recommend_many(histories[:8], replace(settings, explain="words"))  # loads what is loaded once
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    sources: Counter[str] = Counter()
    for _ in range(repeats):
        for kind in KINDS:
            started = time.perf_counter()
            answers = recommender.recommend_with_parts(histories, replace(settings, explain=kind))
            seconds[kind].append(time.perf_counter() - started)
            if kind == "words":
                sources = Counter(one.source for answer in answers for one in answer.explanations)
    median = {kind: float(np.median(runs)) for kind, runs in seconds.items()}
    milliseconds = {kind: 1000 * value / len(histories) for kind, value in median.items()}
    return {
        "users_per_second": {kind: len(histories) / value for kind, value in median.items()},
        "seconds": seconds,
        "milliseconds_a_user": {
            "recommending": milliseconds["none"],
            "sentence": milliseconds["sentence"] - milliseconds["none"],
            "measuring evidence": milliseconds["measured"] - milliseconds["none"],
            "writing words": milliseconds["words"] - milliseconds["measured"],
        },
        "sources": dict(sources),
    }


def examples(
    recommender: Recommender, histories: Sequence[History], items: Sequence[Sequence[Item]], seed: int
) -> list[dict[str, Any]]:
    """Return explanations drawn by the seed, as they are; no user is named."""
    settings = Settings()
    told = recommender.explainer.explain(histories, items, "words", settings.wording, settings.batch_size)
    places = [(user, rank) for user, own in enumerate(items) for rank in range(len(own))]
    chosen = np.random.default_rng(seed).choice(len(places), min(SHOWN, len(places)), replace=False)
    shown = []
    for user, rank in (places[place] for place in sorted(chosen.tolist())):
        one = told[user][rank]
        shown.append(
            {
                "newest": [recommender.catalog[item].title for item in histories[user].items[-3:]],
                "rank": rank + 1,
                "item": items[user][rank].title,
                "text": one.text,
                "by": one.source,
                "problems": list(one.problems),
            }
        )
    return shown


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a block for RESULTS.md."""
    found, pace = result["evidence"], result["throughput"]
    lines = [
        f"{result['users']} users, the first {result['recommendations_each']} recommendations each, seed "
        f"{result['seed']}; {result['machine']['cpu']}.",
        "",
        "| explained by | citations valid | faithfulness | written by the model | replaced | distinct-2 | words |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for how, figures in result["ways"].items():
        cells = [value(figures, name) for name in ("citation_validity", "faithfulness", "written", "fallbacks")]
        cells += [value(figures, name) for name in ("distinct_2", "words")]
        lines.append(f"| {how} | {' | '.join(cells)} |")
    lines += ["", "| evidence by | faithfulness | fall, cited | fall, random | difference | users a second |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    figures = found["faithfulness"]
    drops = [f"{figures[name]['value']:.3f}" for name in ("drop_cited", "drop_random")]
    drops.append(interval(figures["drop_beyond_random"]))
    lines.append(f"| leave-one-out | {interval(figures)} | {' | '.join(drops)} | {found['users_per_second']:.1f} |")
    lines += [
        "",
        "| | users a second |",
        "|---|--:|",
        *(f"| recommend, explain {kind} | {pace['users_per_second'][kind]:.1f} |" for kind in KINDS),
        "",
        "Each user costs: "
        + ", ".join(f"{name} {cost:.1f} ms" for name, cost in pace["milliseconds_a_user"].items())
        + ".",
        "",
        f"{len(result['examples'])} explanations drawn by the seed, as they are:",
        "",
    ]
    for one in result["examples"]:
        why = f"; the model's text failed: {one['problems'][0]}" if one["problems"] else ""
        lines.append(f"1. {one['text']} *({one['by']}{why})*")
    return "\n".join(lines) + "\n"


def value(figures: dict[str, Any], name: str) -> str:
    return f"{figures[name]['value']:.3f}" if name in figures else "–"  # noqa: RUF001 - a dash


def interval(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        low = "no bound" if figure["low"] is None else f"{figure['low']:.2f}"
        return f"no bound (at least {low})"
    high = "∞" if figure["high"] is None else f"{figure['high']:.2f}"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {high})"


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "cpu": names[0],
        "cores": len(names),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "numpy")},
    }


if __name__ == "__main__":
    main()
