"""How the order of events with equal times changes the figures of ml-100k, and a comparison with RecBole 1.2.1's.

    python benchmarks/ties.py [--out benchmarks/results/ties.json]

In ml-100k, half of all neighbouring events of a user have equal times, so the reader of the file decides which item is
"the last". The same systems are judged under several orders. No order depends on the target: all but one are rules on
the log, and the last is random. RecBole's ItemKNN reads the training items only, so it is also judged without the
validation item in the test history.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # before this folder, whose training.py is not the package

from genrec.baselines.search import ranked_lists
from genrec.data.prepared import prepare
from genrec.data.splits import Case, History, leave_one_out
from genrec.signals.simple import CoOccurrence, ItemKNN, Popularity, Signal
from genrec.storage.folders import write_json

RECBOLE = {"popularity": {"hr@10": 0.0710, "ndcg@10": 0.0354}, "item-knn": {"hr@10": 0.1145, "ndcg@10": 0.0629}}
"""RecBole 1.2.1 under leave-one-out and full ranking, as the issue that asked for this gives them."""

Key = Callable[[str], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/ties.json")
    options = parser.parse_args()
    data = prepare(dataset="ml-100k")
    numbers = {item: int(item) for item in data.catalog.ids}
    counts: dict[str, int] = dict.fromkeys(data.catalog.ids, 0)
    for history in data.histories:
        for item in history.items:
            counts[item] += 1
    orders: dict[str, Key | None] = {
        "file order (genrec's rule)": None,
        "item number, rising": lambda item: numbers[item],
        "item number, falling": lambda item: -numbers[item],
        "popular items last": lambda item: counts[item],
        "popular items first": lambda item: -counts[item],
        **{f"lots, seed {seed}": by_lots(seed) for seed in range(5)},
    }
    pairs = [pair for history in data.histories for pair in pairwise(history.times)]
    result = {
        "dataset": "ml-100k",
        "tie_share": sum(earlier == later for earlier, later in pairs) / len(pairs),
        "recbole_1.2.1": RECBOLE,
        "orders": {},
    }
    for name, key in orders.items():
        split = leave_one_out([reordered(history, key) for history in data.histories])
        catalog, train = data.catalog, split.train
        without = [Case(history, case.target) for history, case in zip(train, split.test, strict=True)]
        knn = ItemKNN.fit(catalog, train, neighbours=100, shrink=0.0, decay=1.0)
        result["orders"][name] = {
            "popularity": judge(Popularity.fit(catalog, train), data.catalog, split.test, split.test),
            "item-knn": judge(knn, data.catalog, split.test, split.test),
            "item-knn, training items only": judge(knn, data.catalog, without, split.test),
            "co-occurrence": judge(CoOccurrence.fit(catalog, train), data.catalog, split.test, split.test),
        }
        print(name, result["orders"][name], flush=True)
    write_json(options.out, result)


def by_lots(seed: int) -> Key:
    draw = random.Random(seed)
    return lambda item: draw.random()


def reordered(history: History, key: Key | None) -> History:
    """Return the history with items of equal times in another order; the times stay in place."""
    if key is None:
        return history
    order = sorted(range(len(history.items)), key=lambda place: (history.times[place], key(history.items[place])))
    return History(history.user, tuple(history.items[place] for place in order), history.times)


def judge(signal: Signal, catalog: object, asked: Sequence[Case], cases: Sequence[Case]) -> dict[str, float]:
    """Return HR@10 and NDCG@10; seen items of the whole history are left out of every list."""
    lists = ranked_lists(signal, catalog, asked, 30)  # type: ignore[arg-type]
    ranks = []
    for case, items in zip(cases, lists, strict=True):
        left = [item for item in items if item not in set(case.history.items)]
        ranks.append(left.index(case.target) + 1 if case.target in left[:10] else 0)
    places = np.array(ranks)
    return {
        "hr@10": round(float((places > 0).mean()), 4),
        "ndcg@10": round(float(np.where(places > 0, 1 / np.log2(places + 1.0 + (places == 0)), 0.0).mean()), 4),
    }


if __name__ == "__main__":
    main()
