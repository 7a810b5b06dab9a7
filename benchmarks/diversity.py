"""The cost of variety: accuracy against intra-list distance and coverage, for MMR and for calibration.

    python benchmarks/diversity.py [--dataset ml-100k] [--run RUN] [--out benchmarks/results/diversity.json]

The first 50 items of each test case's fused list are re-ranked to ten (`genrec.ranking.reranking`), once for each
weight from 0 to 0.9. With --run, it is the fused list of that run, including its language model; otherwise it is the
fused signals without a language model. The curve is drawn as an SVG file beside the JSON.

    ndcg@10, hr@10         accuracy, with 95 % intervals
    intra-list distance    mean over the list's pairs of 1 - cosine of title vectors
    calibration            divergence of the list's categories from the history's; lower is closer to the user's mix
    coverage, gini         of the catalogue, over all lists
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pooled import ROOT, fit_pool, title_vectors

from genrec.data.catalog import Catalog
from genrec.data.prepared import PreparedData, prepare
from genrec.data.rows import tie_order, top_rows
from genrec.data.splits import Case
from genrec.evaluation.compare import evaluate_lists
from genrec.ranking.reranking import ItemFacts, Reranking, rerank
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.signals.registry import fit_signals
from genrec.storage.folders import write_json

K, CANDIDATES = 10, 50
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FIGURES = {
    "ndcg@10": "ndcg@10",
    "hr@10": "hr@10",
    "intra-list distance": "embedding-diversity@10",
    "category diversity": "category-diversity@10",
    "calibration": "calibration@10",
    "novelty": "novelty@10",
    "coverage": "coverage@10",
    "gini": "gini@10",
}

Scored = list[tuple[NDArray[np.int64], NDArray[np.float32]]]
"""For each case its candidates' rows, best first, and their scores."""


def main() -> None:
    arguments = read_arguments()
    name = arguments.dataset.split(":")[0]
    data = prepare(dataset=arguments.dataset)
    vectors = title_vectors(data, arguments.work / f"{name}.npy")
    split = data.split()
    signals = fit_signals(data.catalog, split.train, vectors)
    popularity = signals["popularity"].scores  # type: ignore[attr-defined]
    facts = ItemFacts.of(data.catalog, vectors, popularity)
    if arguments.run:
        scored = by_run(Recommender.from_pretrained(arguments.run), data.catalog, split.test)
    else:
        scored = by_signals(data, vectors, split.test)
    wishes = {f"diversity {weight}": Reranking(diversity=weight) for weight in WEIGHTS}
    wishes |= {f"calibration {weight}": Reranking(calibration=weight) for weight in WEIGHTS[1:]}
    ids = data.catalog.ids
    lists: dict[str, list[list[str]]] = {}
    for label, wish in wishes.items():
        lists[label] = []
        for case, (rows, scores) in zip(split.test, scored, strict=True):
            places = rerank(rows, scores, K, wish, facts, data.catalog.rows(case.history.items))
            lists[label].append([ids[row] for row in rows[places]])
    report = evaluate_lists(
        split.test,
        lists,
        catalog=data.catalog,
        train=split.train,
        ks=(K,),
        embeddings=vectors,
        reference="diversity 0.0",
    )
    result: dict[str, Any] = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "dataset": name,
        "ranking": "genrec" if arguments.run else "genrec-without-lm",
        "cases": report.users,
        "what": f"{K} of the {CANDIDATES} best, re-ranked; title vectors of all-MiniLM-L6-v2",
        "curves": {
            wish: [
                {"weight": weight}
                | {
                    figure: report.systems[label][key].to_json()
                    for figure, key in FIGURES.items()
                    if key in report.systems[label]
                }
                for weight in WEIGHTS
                if (label := f"{wish if weight else 'diversity'} {weight}") in lists
            ]
            for wish in ("diversity", "calibration")
        },
    }
    out = arguments.out or ROOT / "benchmarks/results/diversity.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    draw(result, out.with_suffix(".svg"))
    show(result)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k", help="NAME or NAME:PATH")
    parser.add_argument("--run", type=Path, help="a run over that data")
    parser.add_argument("--work", default=Path("runs/new-items"), type=Path, help="where title vectors are kept")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def by_signals(data: PreparedData, vectors: NDArray[np.float32], cases: tuple[Case, ...]) -> Scored:
    """Return the candidates of the fused signals."""
    split, catalog = data.split(), data.catalog
    pool = fit_pool(fit_signals(catalog, split.train, vectors), catalog, split.valid, seed=0)
    order, scored = tie_order(len(catalog), 0), []
    for start in range(0, len(cases), 128):
        block = cases[start : start + 128]
        scores = pool.score([case.history for case in block])
        for user, case in enumerate(block):
            scores[user, catalog.rows(case.history.items)] = -np.inf
        for user, rows in enumerate(top_rows(scores, CANDIDATES, order)):
            kept = rows[rows >= 0]
            scored.append((kept, scores[user, kept]))
    return scored


def by_run(recommender: Recommender, catalog: Catalog, cases: tuple[Case, ...]) -> Scored:
    """Return the fused candidates of a run."""
    scored = []
    for start in range(0, len(cases), 128):
        block = [case.history for case in cases[start : start + 128]]
        for found in recommender.recommend_many(block, Settings(k=CANDIDATES)):
            rows = np.array(catalog.rows(entry.item.id for entry in found), np.int64)
            scored.append((rows, np.array([entry.score for entry in found], np.float32)))
    return scored


def draw(result: dict[str, Any], out: Path) -> None:
    """Plot accuracy against distance and against coverage."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "genrec"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    shown = (("intra-list distance", "diversity"), ("coverage", "diversity"), ("calibration", "calibration"))
    for axis, (across, only) in zip(axes, shown, strict=True):
        for wish, marker in (("diversity", "o"), ("calibration", "s")):
            points = [point for point in result["curves"][wish] if across in point]
            if across == "calibration" and wish != only:
                continue
            x, y = ([point[key]["value"] for point in points] for key in (across, "ndcg@10"))
            label, colour = ("MMR", "C0") if wish == "diversity" else ("calibration", "C1")
            axis.plot(x, y, marker=marker, label=label, color=colour)
            for point, left, height in zip(points, x, y, strict=True):
                axis.annotate(f"{point['weight']:g}", (left, height), textcoords="offset points", xytext=(4, 4), size=7)
        axis.set_xlabel(across if across != "calibration" else "divergence from the user's categories")
        axis.set_ylabel("NDCG@10")
        axis.legend()
    figure.savefig(out, metadata={"Date": None})


def show(result: dict[str, Any]) -> None:
    for wish, points in result["curves"].items():
        print(wish)
        for point in points:
            values = "  ".join(f"{figure} {point[figure]['value']:.4f}" for figure in FIGURES if figure in point)
            print(f"  {point['weight']:4} {values}")


if __name__ == "__main__":
    main()
