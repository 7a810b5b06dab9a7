"""What does a picture add? Posters on ml-100k, and the time and memory of reading 2,000 generated pictures.

    python benchmarks/images.py --posters PATH/ml-100k-posters [--encoder colours]

`known`: all test cases of ml-100k, ranked by genrec's signals without a language model, with the posters' signal and
without; the weights of both are fitted on validation. The difference is paired.

`new`: each film is new once (ten folds hide a tenth of the films each): among the new films of its fold, all of which
nobody took, the next film is looked for by its poster alone; against a random order. Histories hold known films only.

`reading`: 2,000 pictures of 1,000 x 1,500 pixels are made (50 different ones, copied), and `genrec prepare --images`
is timed in a process of its own beside the same command without pictures; peak memory by `resource.getrusage`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from pooled import ROOT, fit_pool, title_vectors

from genrec.baselines.search import ranked_lists
from genrec.data.catalog import Catalog
from genrec.data.images import KIND, vectors_of_images
from genrec.data.item_vectors import ItemVectors
from genrec.data.prepared import PreparedData, prepare
from genrec.data.splits import History
from genrec.evaluation.uncertainty import bootstrap_means, paired_tests
from genrec.signals.registry import fit_signals, vector_signals
from genrec.storage.folders import write_json

K, FOLDS, PICTURES, DIFFERENT = 10, 10, 2000, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posters", type=Path, required=True)
    parser.add_argument("--encoder", default="colours")
    parser.add_argument("--work", default=Path("runs/images"), type=Path, help="where title vectors are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=ROOT / "benchmarks/results/images-ml-100k.json", type=Path)
    arguments = parser.parse_args()
    data = prepare(dataset="ml-100k")
    started = time.monotonic()
    pictures, notes = poster_vectors(data.catalog, arguments.posters, arguments.encoder)
    result: dict[str, Any] = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "dataset": "ml-100k",
        "encoder": arguments.encoder,
        "seed": arguments.seed,
        "notes": notes,
        "seconds_for_the_posters": round(time.monotonic() - started, 1),
    }
    parts = {
        "new": lambda: new(data, pictures, arguments.seed),
        "reading": reading,
        "known": lambda: known(data, pictures, arguments.work, arguments.seed),
    }
    for name, part in parts.items():
        result[name] = part()
        print(name, result[name], flush=True)
        write_json(arguments.out, result)


def poster_vectors(catalog: Catalog, folder: Path, encoder: str) -> tuple[ItemVectors, list[str]]:
    table = pl.read_csv(folder / "items.csv", schema_overrides={"id": pl.String})
    path_of = dict(table.select("id", "image").iter_rows())
    pictured = Catalog(
        replace(item, attributes={**item.attributes, "image": path_of[item.id]}) if item.id in path_of else item
        for item in catalog
    )
    return vectors_of_images(pictured, "image", folder, encoder)


def gains(lists: Sequence[Sequence[str]], targets: Sequence[str]) -> Any:
    """Return NDCG@10 and HR@10 of each case, shape (cases, 2)."""
    rows = []
    for found, target in zip(lists, targets, strict=True):
        place = list(found[:K]).index(target) if target in found[:K] else -1
        rows.append((0.0, 0.0) if place < 0 else (1 / np.log2(place + 2), 1.0))
    return np.array(rows)


def told(values: Any, seed: int) -> dict[str, Any]:
    names = ("ndcg@10", "hr@10")
    return {name: one.to_json() for name, one in zip(names, bootstrap_means(values, seed=seed), strict=True)}


def difference(first: Any, second: Any, seed: int) -> dict[str, Any]:
    names = ("ndcg@10", "hr@10")
    return {name: one.to_json() for name, one in zip(names, paired_tests(first, second, seed=seed), strict=True)}


def known(data: PreparedData, pictures: ItemVectors, work: Path, seed: int) -> dict[str, Any]:
    split, catalog = data.split(), data.catalog
    titles = title_vectors(data, work / "ml-100k.npy")
    signals = fit_signals(catalog, split.train, titles)
    own = vector_signals(catalog, pictures)
    targets, found, weights = [case.target for case in split.test], {}, {}
    for name, some in (("without", signals), ("with", {**signals, **own})):
        pool = fit_pool(some, catalog, split.valid, seed)
        found[name] = gains(ranked_lists(pool, catalog, split.test, K, seed), targets)
        weights[name] = pool.fusion.describe()
    return {
        "cases": len(targets),
        "systems": {name: told(one, seed) for name, one in found.items()},
        "weights": weights,
        "with_minus_without": difference(found["with"], found["without"], seed),
    }


def new(data: PreparedData, pictures: ItemVectors, seed: int) -> dict[str, Any]:
    catalog, cases = data.catalog, data.split().test
    random = np.random.default_rng(seed)
    fold_of = random.permutation(len(catalog)) % FOLDS
    signal = vector_signals(catalog, pictures)[f"vectors-{KIND}"]
    ours, chance, targets, pictured = [], [], [], []
    for fold in range(FOLDS):
        hidden = np.flatnonzero(fold_of == fold)
        gone = {catalog.ids[row] for row in hidden}
        asked = [case for case in cases if case.target in gone]
        stripped = [History("", tuple(item for item in case.history.items if item not in gone)) for case in asked]
        scores = signal.score(stripped)[:, hidden]
        for case, own in zip(asked, scores, strict=True):
            order, drawn = random.permutation(len(hidden)), random.permutation(len(hidden))
            best = order[np.argsort(-own[order], kind="stable")]
            ours.append([catalog.ids[row] for row in hidden[best[:K]]])
            chance.append([catalog.ids[row] for row in hidden[drawn[:K]]])
            targets.append(case.target)
            pictured.append(bool(pictures.present[KIND][catalog.row(case.target)]))
    by_picture, by_chance = gains(ours, targets), gains(chance, targets)
    return {
        "cases": len(targets),
        "cases_whose_film_has_a_poster": sum(pictured),
        "films_to_choose_from": round(len(catalog) / FOLDS),
        "systems": {"posters alone": told(by_picture, seed), "random": told(by_chance, seed)},
        "expected_hr@10_of_random": round(K * FOLDS / len(catalog), 4),
        "posters_minus_random": difference(by_picture, by_chance, seed),
    }


def reading() -> dict[str, Any]:
    """Time the command line on generated pictures, beside the same without pictures."""
    from PIL import Image

    with TemporaryDirectory() as place:
        folder, random = Path(place), np.random.default_rng(0)
        (folder / "pictures").mkdir()
        for number in range(DIFFERENT):
            coarse = random.integers(0, 256, size=(15, 10, 3)).astype(np.uint8)
            Image.fromarray(coarse).resize((1000, 1500)).save(folder / f"pictures/{number}.jpg", quality=85)
        for number in range(DIFFERENT, PICTURES):
            shutil.copy(folder / f"pictures/{number % DIFFERENT}.jpg", folder / f"pictures/{number}.jpg")
        items = [str(number) for number in range(PICTURES)]
        paths = [f"pictures/{item}.jpg" for item in items]
        pl.DataFrame({"item": items, "title": [f"Item {one}" for one in items], "picture": paths}).write_csv(
            folder / "items.csv"
        )
        users = [f"u{number // 10}" for number in range(20_000)]
        log = {"user": users, "item": random.choice(items, 20_000), "time": list(range(20_000))}
        pl.DataFrame(log).write_csv(folder / "log.csv")
        told = {}
        for name, extra in (("without", []), ("with", ["--images", "picture"])):
            command = ["prepare", "--interactions", "log.csv", "--items", "items.csv", "--out", name, *extra]
            code = "import resource, sys\nfrom genrec.cli.main import run\ntry:\n    run()\nfinally:\n"
            code += "    print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", code, *command], cwd=folder, check=True, capture_output=True, text=True,
                env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home()), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            seconds = time.monotonic() - started
            peak = int(done.stdout.rsplit("peak ", 1)[1].split()[0]) / 1024
            told[name] = {"seconds": round(seconds, 1), "peak_mib": round(peak)}
        size = sum(path.stat().st_size for path in (folder / "pictures").iterdir()) / 2**20
    return {"pictures": PICTURES, "mib_of_files": round(size), **told}


if __name__ == "__main__":
    main()
