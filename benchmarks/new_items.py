"""Are new items found? A seeded share of the items loses all its interactions and is added again by title alone.

    python benchmarks/new_items.py --dataset amazon-beauty:PATH [--out benchmarks/results/new-items-amazon-beauty.json]
    python benchmarks/new_items.py --dataset ml-100k --share 0.1 --folds 10

The test cases are those whose next item is such a new item (`new`), and a sample of the others (`known`). The sample
shows how much the other cases lose when new items are recommended too. Systems:

    genrec-without-lm          the fused signals; a new item borrows from the nearest known titles (genrec.item_parts)
    genrec-without-lm-silent   the same weights; new items have no counted evidence
    content, co-occurrence, popularity, random

No language model is needed. To include one, write the data without the hidden items, train on it, and run again:

    python benchmarks/new_items.py --dataset ml-100k --save-data data/hidden
    genrec pretrain --data data/hidden --out bases/hidden
    genrec train --data data/hidden --recipe pretrained --set base=bases/hidden --out runs/hidden
    python benchmarks/new_items.py --dataset ml-100k --run runs/hidden --described

    genrec                     the run, with the new items added (`Recommender.with_items`)
    genrec-like-known          the same, but new items are scored like known ones
    genrec-lm-only             its language model by itself
    content-described          content that reads what the model reads of an item (with --described)

With --described, a new item comes with its categories and attributes, as a catalogue has them; without, by title alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pooled import ROOT, fit_pool, title_vectors

from genrec.baselines.registry import Random
from genrec.baselines.search import ranked_lists, sample_cases
from genrec.data.catalog import Catalog
from genrec.data.prepared import PreparedData, prepare, save_prepared
from genrec.data.splits import Case, History
from genrec.evaluation.compare import evaluate_lists
from genrec.language.item_tokens import item_text
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.signals.borrowing import borrowing, signals_with_items
from genrec.signals.registry import SIMILARITY_DECAY, complete, fit_signals
from genrec.signals.simple import Content
from genrec.storage.folders import write_json
from retrieval.encoders import load_encoder

K = 10
KNOWN_CASES = 3000
FIGURES = ("hr@10", "ndcg@10")
OURS = "genrec-without-lm"


def main() -> None:
    arguments = read_arguments()
    if arguments.run and arguments.folds > 1:
        raise SystemExit("--run was trained without one share of the items; leave out --folds")
    name = data_name(arguments)
    data = prepare(dataset=arguments.dataset)
    vectors = title_vectors(data, arguments.work / f"{name}.npy")
    order = np.random.default_rng(arguments.seed).permutation(len(data.catalog))
    size = round(arguments.share * len(data.catalog))
    folds = [np.sort(order[start : start + size]) for start in range(0, arguments.folds * size, size)]
    if len(np.concatenate(folds)) < arguments.folds * size:
        raise SystemExit(f"{arguments.folds} folds of {arguments.share:g} are more than all items; lower one of them")
    if arguments.save_data:
        known, hidden = divided(data.catalog, folds[0])
        kept = tuple(one for history in data.histories if (one := without(history, hidden)).items)
        save_prepared(PreparedData(known, kept, data.split_name, data.report), arguments.save_data)
        print(f"{len(known)} items, {len(kept)} histories; written to {arguments.save_data}")
        return
    asked: dict[str, list[Case]] = {"new": [], "known": []}
    lists: dict[str, dict[str, list[list[str]]]] = {"new": {}, "known": {}}
    places: dict[str, dict[str, list[float]]] = {"new": {}, "known": {}}
    for number, rows in enumerate(folds, 1):
        print(f"fold {number} of {len(folds)}", flush=True)
        _, hidden = divided(data.catalog, rows)
        cases, found = ask(data, vectors, rows, arguments)
        for part in asked:
            asked[part] += cases[part]
            for system, some in found[part].items():
                lists[part].setdefault(system, []).extend(some)
                places[part].setdefault(system, []).extend(np.isin(one, list(hidden)).mean() for one in some)
    result: dict[str, Any] = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "dataset": name,
        "seed": arguments.seed,
        "folds": len(folds),
        "hidden_items": size,
        "items": len(data.catalog),
        "new_items_come_with": "title, categories, attributes" if arguments.described else "title",
        "what": "test cases, full ranking, seen items left out; new: the next item had no interaction in training; "
        "folds hide one share of the items after another, each with all fitted anew",
        "parts": {},
    }
    for part, cases in asked.items():
        report = evaluate_lists(
            cases,
            lists[part],
            catalog=data.catalog,
            train=data.split().train,
            ks=(K,),
            seed=arguments.seed,
            reference="genrec" if arguments.run else OURS,
        )
        result["parts"][part] = {
            "cases": len(cases),
            "systems": {
                system: {figure: report.systems[system][figure].to_json() for figure in FIGURES}
                | {"share_of_places_given_to_new_items": round(float(np.mean(shares)), 5)}
                for system, shares in places[part].items()
            },
            "comparisons": {
                system: {figure: tested[figure].to_json() for figure in FIGURES}
                for system, tested in report.comparisons.items()
            },
        }
    out = arguments.out or ROOT / f"benchmarks/results/new-items-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    show(result)


def divided(catalog: Catalog, rows: NDArray[np.int64]) -> tuple[Catalog, set[str]]:
    """Return the catalogue without some rows, and the ids of those."""
    gone = {catalog.ids[row] for row in rows}
    return Catalog(item for item in catalog if item.id not in gone), gone


def ask(
    data: PreparedData, vectors: NDArray[np.float32], rows: NDArray[np.int64], arguments: argparse.Namespace
) -> tuple[dict[str, list[Case]], dict[str, dict[str, list[list[str]]]]]:
    """Hide some items, fit everything without them, add them by title, and ask every system."""
    known, hidden = divided(data.catalog, rows)
    known_rows = np.setdiff1d(np.arange(len(data.catalog)), rows)
    new = [replace(data.catalog.items[row], label="") for row in rows]
    if not arguments.described:  # titles alone: what else the catalogue says of a new item is taken away
        new = [replace(item, categories=(), attributes={}) for item in new]
    catalog = known.with_items(new)
    split = data.split()
    train = [one for history in split.train if (one := without(history, hidden)).items]
    valid = [case for case in stripped(split.valid, hidden) if case.target not in hidden]
    test = stripped(split.test, hidden)

    before = fit_signals(known, train, vectors[known_rows])
    pool = fit_pool(before, known, valid, arguments.seed)
    lent = borrowing(vectors[rows], vectors[known_rows])
    everything = vectors[np.concatenate([known_rows, rows])]
    after = signals_with_items(before, catalog, everything, lent)
    counted = {key: type(signal).from_arrays(catalog, signal.to_arrays())  # type: ignore[attr-defined]
               for key, signal in before.items() if key not in ("similarity", "sequence")}  # fmt: skip
    silent = complete(counted, catalog, everything)
    signals = {
        OURS: replace(pool, signals=after, catalog=catalog),
        f"{OURS}-silent": replace(pool, signals=silent, catalog=catalog),
        "content": silent["similarity"],
        "co-occurrence": silent["collaborative"],
        "popularity": silent["popularity"],
        "random": Random(len(catalog), arguments.seed),
    }
    if arguments.described:
        texts = text_vectors(data, arguments.work / f"{data_name(arguments)}-texts.npy")
        signals["content-described"] = Content(catalog, texts[np.concatenate([known_rows, rows])], SIMILARITY_DECAY)
    asked = {
        "new": [case for case in test if case.target in hidden],
        "known": list(sample_cases([case for case in test if case.target not in hidden], KNOWN_CASES, arguments.seed)),
    }
    lists = {
        part: {system: ranked_lists(signal, catalog, cases, K, arguments.seed) for system, signal in signals.items()}
        for part, cases in asked.items()
    }
    if arguments.run:
        recommender = Recommender.from_pretrained(arguments.run).with_items(new)
        fusion = recommender.fusion
        alike = replace(recommender, fusion=fusion and replace(fusion, new_items=None))
        for part, cases in asked.items():
            served, by_model = model_lists(recommender, cases)
            plain = model_lists(alike, cases)[0]
            found = {"genrec": served, "genrec-like-known": plain, "genrec-lm-only": by_model}
            lists[part] = {**found, **lists[part]}
    return asked, lists


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="NAME or NAME:PATH")
    parser.add_argument("--share", default=0.05, type=float, help="of the items that are hidden")
    parser.add_argument("--folds", default=1, type=int, help="shares that are hidden, one after another")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--save-data", type=Path, metavar="FOLDER", help="write the data without the hidden items")
    parser.add_argument("--run", type=Path, help="a run that was trained on that data")
    parser.add_argument("--described", action="store_true", help="new items come with categories and attributes")
    parser.add_argument("--work", default=Path("runs/new-items"), type=Path, help="where title vectors are kept")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def without(history: History, hidden: set[str]) -> History:
    return History(history.user, tuple(item for item in history.items if item not in hidden))


def stripped(cases: tuple[Case, ...], hidden: set[str]) -> list[Case]:
    """Return the cases without hidden items in their histories; those left with no history are left out."""
    shorter = (Case(without(case.history, hidden), case.target) for case in cases)
    return [case for case in shorter if case.history.items]


def model_lists(recommender: Recommender, cases: list[Case]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the fused lists, and those of the language model by itself."""
    settings = Settings(k=K)
    lists: tuple[list[list[str]], list[list[str]]] = ([], [])
    for start in range(0, len(cases), 128):
        block = [case.history for case in cases[start : start + 128]]
        for found in recommender.recommend_with_parts(block, settings):
            lists[0].append([entry.item.id for entry in found.recommendations])
            lists[1].append(found.model_alone)
    return lists


def data_name(arguments: argparse.Namespace) -> str:
    return str(arguments.dataset.split(":")[0])


def text_vectors(data: PreparedData, cache: Path) -> NDArray[np.float32]:
    """Return the vectors of what the model reads of the items, made once."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, load_encoder("starter").encode([item_text(item) for item in data.catalog]))
    vectors: NDArray[np.float32] = np.load(cache, allow_pickle=False).astype(np.float32)
    return vectors


def show(result: dict[str, Any]) -> None:
    for part, found in result["parts"].items():
        print(f"{part}: {found['cases']} cases")
        for system, figures in found["systems"].items():
            hit, gain = figures["hr@10"], figures["ndcg@10"]
            print(
                f"  {system:26} HR@10 {hit['value']:.4f} [{hit['low']:.4f}, {hit['high']:.4f}]  "
                f"NDCG@10 {gain['value']:.4f}  places to new {figures['share_of_places_given_to_new_items']:.3f}"
            )


if __name__ == "__main__":
    main()
