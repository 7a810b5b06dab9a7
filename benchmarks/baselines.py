"""The whole table on one data set: baselines tuned on validation, genrec without and with a language model, on test.

    python benchmarks/baselines.py --dataset ml-100k --out benchmarks/results/ml-100k.json
    python benchmarks/baselines.py --dataset amazon-beauty:PATH --out benchmarks/results/amazon-beauty.json
    python benchmarks/baselines.py --dataset ml-100k --run RUN --out benchmarks/results/ml-100k.json

Each system's lists and settings are saved in `--work` as soon as they are made. So a run that was stopped continues
with the missing systems, and `--systems` can make some of them now and the others later. `--add NAME=FILE` adds the
lists of another run to the table; the file has the format that `genrec evaluate` reads. To make a system again, delete
its two files.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pooled import fit_pool, title_vectors

from genrec.baselines.registry import SEQUENCE_MODELS
from genrec.baselines.search import BASELINES, ranked_lists, tune
from genrec.data.prepared import PreparedData, prepare
from genrec.data.splits import Case
from genrec.evaluation.compare import evaluate_lists
from genrec.evaluation.list_files import lists_for_cases, read_recommendations
from genrec.evaluation.results import Report
from genrec.ranking.fusion import Fusion
from genrec.recommender import Recommender
from genrec.report.tables import to_markdown
from genrec.settings import Settings
from genrec.signals.registry import fit_signals
from genrec.signals.simple import Signal
from genrec.storage.folders import read_json, write_json, write_text

KS = (5, 10, 20)
BLOCK = 128
FUSED, POOL, MODEL = "genrec", "genrec-without-lm", "genrec-lm-only"
"""genrec as it is, without its language model, and the language model alone."""

logger = logging.getLogger("baselines")


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    data = prepare(dataset=arguments.dataset)
    name = arguments.dataset.split(":")[0]
    work = arguments.work / name
    work.mkdir(parents=True, exist_ok=True)
    vectors = title_vectors(data, work / "titles.npy")
    for system in arguments.systems:
        if not settings_file(work, system).exists():
            make_lists(system, data, vectors, work, budget(system, arguments), arguments.seed)
    if arguments.run and not settings_file(work, FUSED).exists():
        make_run_lists(arguments.run, data, work)
    if not settings_file(work, POOL).exists():
        make_pool_lists(data, vectors, work, arguments.seed)
    cases = data.split().test
    lists = {system: read_lists(lists_file(work, system), cases) for system in made(work)}
    for addition in arguments.add:
        system, _, path = addition.partition("=")
        lists[system] = read_lists(Path(path), cases)
    report = evaluate_lists(
        cases,
        lists,
        catalog=data.catalog,
        train=data.split().train,
        ks=KS,
        seed=arguments.seed,
        reference=next(system for system in (FUSED, POOL) if system in lists),
        embeddings=vectors,
        settings={
            "dataset": name,
            "seen_items": "left out of every list",
            "learnt_from": "training histories; the validation item is in the test history and is not learnt from",
            "titles": "all-MiniLM-L6-v2",
            "search": "random, by ndcg@10 on validation cases; defaults first",
            "tuning": {system: read_json(settings_file(work, system)) for system in made(work)},
            "versions": {package: version(package) for package in ("implicit", "torch", "scipy", "numpy")},
        },
    )
    write_json(arguments.out, report.to_json())
    text = to_markdown(report) + "\n"
    if arguments.published:
        text += "\n" + beside_published(report, arguments.published)
    write_text(arguments.out.with_suffix(".md"), text)
    print(text)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="NAME or NAME:PATH")
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    parser.add_argument("--work", default=Path("runs/baselines"), type=Path, help="where lists are kept")
    parser.add_argument("--systems", nargs="*", default=list(BASELINES), choices=list(BASELINES), help="which to make")
    parser.add_argument("--run", type=Path, help="a finished run on the same data, to stand in the table")
    parser.add_argument(
        "--published", type=Path, help="JSON of published rows: results: name: [HR@5, NDCG@5, HR@10, NDCG@10]"
    )
    parser.add_argument("--add", nargs="*", default=[], metavar="NAME=FILE", help="other systems' recommendations")
    parser.add_argument("--budget", default=60, type=int, help="settings tried for each system")
    parser.add_argument("--sequence-budget", default=4, type=int, help="the same for sasrec and gru4rec")
    parser.add_argument("--seed", default=0, type=int)
    return parser.parse_args()


def budget(system: str, arguments: argparse.Namespace) -> int:
    return int(arguments.sequence_budget if system in SEQUENCE_MODELS else arguments.budget)


def make_lists(
    system: str, data: PreparedData, vectors: NDArray[np.float32], work: Path, tries: int, seed: int
) -> None:
    """Tune one system on validation, fit it, rank for the test cases, and keep all that."""
    split, started = data.split(), time.process_time()
    lists: list[list[str]] = []

    def rank(signal: Signal) -> None:
        lists[:] = ranked_lists(signal, data.catalog, split.test, max(KS), seed)
        logger.info("%s: a better setting or epoch", system)

    # The lists of the best so far are made on the way: fitting it again would give the same ones, at twice the time.
    tuned = tune(system, split, data.catalog, tries, seed, vectors, rank)
    seconds = {"cpu_seconds": round(time.process_time() - started)}
    write_lists(lists_file(work, system), split.test, lists)
    # Last, since its presence means that the system is done.
    write_json(settings_file(work, system), {**tuned.to_json(), **seconds})
    logger.info("%s: %s", system, json.dumps({**tuned.to_json(), **seconds}))


def make_pool_lists(data: PreparedData, vectors: NDArray[np.float32], work: Path, seed: int) -> None:
    """Rank by genrec's signals under the weights that validation cases give, without any language model."""
    split, started = data.split(), time.process_time()
    pool = fit_pool(fit_signals(data.catalog, split.train, vectors), data.catalog, split.valid, seed)
    write_lists(lists_file(work, POOL), split.test, ranked_lists(pool, data.catalog, split.test, max(KS), seed))
    seconds = round(time.process_time() - started)
    write_json(settings_file(work, POOL), {"fusion": told(pool.fusion), "cpu_seconds": seconds})


def make_run_lists(run: Path, data: PreparedData, work: Path) -> None:
    """Rank by a run: fused, without its language model, and by that alone.

    Leaving the model out of the run itself, and not fitting another fusion without it, is what shows the model's share.
    """
    recommender, cases = Recommender.from_pretrained(run), data.split().test
    answers = []
    for start in range(0, len(cases), BLOCK):
        block = [case.history for case in cases[start : start + BLOCK]]
        answers += recommender.recommend_with_parts(block, Settings(k=max(KS)))
        logger.info("%s: %d of %d users", FUSED, len(answers), len(cases))
    fused = [[entry.item.id for entry in answer.recommendations] for answer in answers]
    write_lists(lists_file(work, MODEL), cases, [answer.model_alone for answer in answers])
    write_lists(lists_file(work, POOL), cases, [answer.without_model for answer in answers])
    write_lists(lists_file(work, FUSED), cases, fused)
    weights = told(recommender.fusion) if recommender.fusion else None
    for system in (MODEL, POOL, FUSED):
        training = recommender.manifest.training.model_dump()
        write_json(settings_file(work, system), {"fusion": weights, "training": training})


def told(fusion: Fusion) -> dict[str, Any]:
    """Return a fusion's numbers without the text of its trees."""
    return {name: value for name, value in fusion.to_json().items() if name != "forest"}


def write_lists(path: Path, cases: Sequence[Case], lists: Sequence[Sequence[str]]) -> None:
    rows = [
        json.dumps({"user": case.history.user, "recommendations": [{"item": item} for item in items]})
        for case, items in zip(cases, lists, strict=True)
    ]
    write_text(path, "\n".join(rows) + "\n")


def beside_published(report: Report, path: Path) -> str:
    """Return one table of this run's systems and published rows, best NDCG@10 first."""
    names = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")
    rows = [
        (system, "measured here", [figures[name].value for name in names]) for system, figures in report.systems.items()
    ]
    published = read_json(path)["results"]
    rows += [(system, "published", [*figures, *[None] * (4 - len(figures))]) for system, figures in published.items()]
    rows.sort(key=lambda row: -(row[2][3] or row[2][1] or 0))
    lines = ["| system | | HR@5 | NDCG@5 | HR@10 | NDCG@10 |", "|---|---|--:|--:|--:|--:|"]
    for system, kind, figures in rows:
        cells = " | ".join("" if value is None else f"{value:.4f}" for value in figures)
        lines.append(f"| {system} | {kind} | {cells} |")
    return "\n".join(lines) + "\n"


def made(work: Path) -> list[str]:
    systems = (FUSED, POOL, MODEL, *BASELINES)
    return [system for system in systems if settings_file(work, system).exists()]


def lists_file(work: Path, system: str) -> Path:
    return work / f"{system}.jsonl"


def settings_file(work: Path, system: str) -> Path:
    return work / f"{system}.settings.json"


def read_lists(path: Path, cases: Sequence[Case]) -> list[tuple[str, ...]]:
    return lists_for_cases(cases, read_recommendations(path), path.name)


if __name__ == "__main__":
    main()
