"""Many worlds: is genrec ever worse than its parts or than a plain baseline, and by how much?

    python benchmarks/worlds.py --data FOLDER --out benchmarks/results/worlds.json       # all worlds, then the table
    python benchmarks/worlds.py --data FOLDER --world beauty-shuffled                    # one of them
    python benchmarks/worlds.py --table --out benchmarks/results/worlds.json             # the table of what is there

Worlds are seeded cuts of ml-100k and of Amazon Beauty, generated worlds (whose best possible answer is therefore
known), and real logs. `--data` (or the environment variable GENREC_WORLDS_DATA) is a folder that holds
`amazon-beauty`, `mind-zh`, `microlens-50k`, `online-retail`, `food-com-small` and `complete-journey`; worlds whose data
is missing are left out with a message. Each world has a folder under `--work`: its data, its base and run, the
baselines' figures and its result. Existing parts are not made again; to fit and judge again, give `--again`.

Regret is genrec minus the best other system, on the same cases, with its paired interval. The interval is needed
because a world of 200 users has a standard error of a tenth of its figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

# This folder holds a training.py, which must not stand in for the package of that name.
sys.path.insert(0, str(Path(__file__).parent.parent))

from genrec.baselines.registry import Material
from genrec.baselines.search import baseline_lists, ranked_lists, sample_cases
from genrec.data.catalog import Catalog
from genrec.data.prepared import PreparedData, load_prepared, prepare, save_prepared
from genrec.data.raw import Columns
from genrec.data.splits import Case, History
from genrec.evaluation.uncertainty import paired_tests
from genrec.recommender import Recommender
from genrec.runs import train as runs
from genrec.runs.tuning import tune_fusion
from genrec.settings import Settings
from genrec.signals.registry import fit_signals
from genrec.storage.folders import MANIFEST, fingerprint, read_json, write_json, write_text
from prompts.template import load_template
from retrieval import encoders
from training.pretrain import make_base
from training.pretrain_recipe import PretrainRecipe
from training.recipe import make_recipe

K = 10
BEAMS = 20
BLOCK = 128
BASELINES = (
    "random", "popularity", "recent-popularity", "content", "co-occurrence", "co-occurrence+content", "item-knn", "als",
)  # fmt: skip
"""Those that take seconds, with their default settings, as in `genrec evaluate`. SASRec and GRU4Rec are not here: each
takes longer than all the rest of a world."""

PARTS = ("genrec-without-lm", "genrec-lm-only")
FUSED, BEST_KNOWN = "genrec", "best-known"
ALLOWED = 0.02
"""Share of the best other system's NDCG@10 by which genrec may be below it, beyond the interval."""

logger = logging.getLogger("worlds")
Events = dict[str, list[str]]
"""Each user's items, oldest first."""


@dataclass(frozen=True)
class World:
    """One world.

    Attributes:
        name: what it is called.
        make: writes nothing; returns its data, given the folder of data sets.
        keep_seen: whether what was taken before may be recommended again.
        minutes: of pretraining, at most.
        cases: most test users asked.
        settings: of the pretraining recipe.
        titles: the encoder of titles: "starter", or "hashing" where a catalogue is large and that would take minutes.
        best: where the best answer is known, scores every item for a history.
    """

    name: str
    make: Callable[[Path, Path], PreparedData]
    keep_seen: bool = False
    minutes: float = 0.5
    cases: int = 2000
    settings: dict[str, Any] = field(default_factory=dict)
    titles: str = "starter"
    best: Callable[[Catalog], Truth] | None = None


class RememberedTitles:
    """An encoder that reads each title once, whatever world it is in."""

    dimension = 384

    def __init__(self, file: Path, name: str = "starter") -> None:
        self.file, self.name = file, name
        self.vectors: dict[str, NDArray[np.float32]] = {}
        if file.exists():
            held = np.load(file, allow_pickle=False)
            self.vectors = dict(zip(held["titles"].tobytes().decode().split("\n"), held["vectors"], strict=True))

    def encode(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]:
        """Encode texts, those that were encoded before from memory."""
        new = sorted(set(texts) - set(self.vectors))
        if new:
            self.vectors.update(zip(new, encoders.load_encoder(self.name).encode(new), strict=True))
            self.file.parent.mkdir(parents=True, exist_ok=True)
            titles = np.frombuffer("\n".join(self.vectors).encode(), np.uint8)
            np.savez(self.file, titles=titles, vectors=np.stack(list(self.vectors.values())))
        return np.stack([self.vectors[text] for text in texts])


# Worlds cut from data sets.


def events_of(data: PreparedData) -> Events:
    return {history.user: list(history.items) for history in data.histories}


def with_events(data: PreparedData, events: Events, work: Path) -> PreparedData:
    """Prepare a data set anew from other events over its items; items that nobody takes any more are left out."""
    work.mkdir(parents=True, exist_ok=True)
    taken = {item for items in events.values() for item in items}
    with (work / "log.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item"])
        for user, items in events.items():
            rows.writerows([user, item] for item in items)
    with (work / "items.jsonl").open("w", encoding="utf-8") as file:
        for item in data.catalog:
            if item.id in taken:
                file.write(json.dumps({"id": item.id, "title": item.title}, ensure_ascii=False) + "\n")
    return prepare(interactions=work / "log.csv", items=work / "items.jsonl")


def some_users(count: int) -> Callable[[Events], Events]:
    def cut(events: Events) -> Events:
        kept = np.sort(np.random.default_rng(0).permutation(len(events))[:count])
        users = list(events)
        return {users[place]: events[users[place]] for place in kept}

    return cut


def newest(count: int) -> Callable[[Events], Events]:
    """Keep each user's last so many events to learn from, and the two that are asked for."""
    return lambda events: {user: items[-count - 2 :] for user, items in events.items()}


def some_items(share: float, popular: bool) -> Callable[[Events], Events]:
    """Keep the most or the least popular items that have a share of all events, and users with five events of them."""

    def cut(events: Events) -> Events:
        counts: dict[str, int] = {}
        for items in events.values():
            for item in items:
                counts[item] = counts.get(item, 0) + 1
        ordered = sorted(counts, key=lambda item: (-counts[item] if popular else counts[item], item))
        total, kept = 0, set()
        for item in ordered:
            if total >= share * sum(counts.values()):
                break
            total += counts[item]
            kept.add(item)
        left = {user: [item for item in items if item in kept] for user, items in events.items()}
        return {user: items for user, items in left.items() if len(items) >= 5}

    return cut


def shuffled(share: float) -> Callable[[Events], Events]:
    """Shuffle among themselves the places of a share of each user's events."""

    def cut(events: Events) -> Events:
        draw, moved = np.random.default_rng(1), {}
        for user, items in events.items():
            places = np.flatnonzero(draw.random(len(items)) < share)
            mixed = list(items)
            for place, other in zip(places, draw.permutation(places), strict=True):
                mixed[place] = items[other]
            moved[user] = mixed
        return moved

    return cut


def repeated(share: float) -> Callable[[Events], Events]:
    """Put in repeats until they are a share of the events: each is an earlier item of the user, newer ones sooner.

    They come after the last item, too: what is asked for must be a repeat as often as what is learnt from.
    """

    def cut(events: Events) -> Events:
        draw, longer = np.random.default_rng(2), {}
        for user, items in events.items():
            told: list[str] = []
            for item in items:
                told.append(item)
                while draw.random() < share:
                    told.append(told[-1 - min(int(draw.geometric(0.3)) - 1, len(told) - 1)])
            longer[user] = told
        return longer

    return cut


def cut_of(source: str, *cuts: Callable[[Events], Events]) -> Callable[[Path, Path], PreparedData]:
    def make(data: Path, work: Path) -> PreparedData:
        whole = prepare(dataset=source if source == "ml-100k" else f"{source}:{data / source}")
        events = events_of(whole)
        for cut in cuts:
            events = cut(events)
        return with_events(whole, events, work)

    return make


def log_of(name: str, log: str, time_column: str | None, users: int | None = None) -> Callable[..., PreparedData]:
    def make(data: Path, work: Path) -> PreparedData:
        columns = Columns(time=time_column)
        whole = prepare(interactions=data / name / log, items=data / name / "items.csv", columns=columns)
        if users is None:
            return whole
        kept = some_users(users)(events_of(whole))
        return with_events(whole, kept, work)

    return make


# Worlds that are drawn, and their best answers.

ITEMS, USERS, LENGTH = 400, 1500, 14
GROUPS = 10
FOLLOWS, OWN, AGAIN = 0.7, 0.9, 0.6
"""How often the next item is what follows the last one, is of the user's own group, is one of those taken before."""

SHOP_ITEMS, SHOP_USERS, SHOP_LENGTH, SHOP_OWN = 40, 120, 10, 3
"""A weekly shop, small on purpose: everybody buys three things of their own again and again, and nothing else."""

NUMBERS = tuple(f"Item {number}" for number in range(ITEMS))
_DRAW = np.random.default_rng(5)
_RARER = 1.0 / np.arange(1, ITEMS + 1) ** 0.9
POPULAR: NDArray[np.float64] = _RARER / _RARER.sum()
_RING = _DRAW.permutation(ITEMS)
FOLLOWER = np.roll(_RING, -1)[np.argsort(_RING)]
GROUP = _DRAW.permutation(ITEMS) % GROUPS
FADE = 0.7


@dataclass(frozen=True)
class Truth:
    """What an item's probability of being next is, in a world drawn here."""

    name: ClassVar[str] = BEST_KNOWN
    kind: str
    places: NDArray[np.int64]

    def of(self, taken: Sequence[int]) -> NDArray[np.float64]:
        """Return the probabilities of what comes next, given what was taken, before seen items are left out."""
        everything = np.full(ITEMS, 1 / ITEMS)
        if self.kind == "noise":
            return everything
        if self.kind == "popularity" or not taken:
            return POPULAR.copy()
        if self.kind == "shop":
            bought = np.zeros(ITEMS)
            bought[list(taken)] = 1.0
            return bought / bought.sum()
        if self.kind == "sequence":
            rest = (1 - FOLLOWS) * everything
            rest[FOLLOWER[taken[-1]]] += FOLLOWS
            return rest
        if self.kind == "taste":
            # The first item says the group, but for chance; the more are seen, the surer.
            odds = np.log(
                (1 - OWN) / ITEMS + OWN / (ITEMS / GROUPS) * (GROUP[list(taken)][:, None] == np.arange(GROUPS))
            )
            sure = np.exp(odds.sum(axis=0) - odds.sum(axis=0).max())
            sure /= sure.sum()
            mixed: NDArray[np.float64] = (1 - OWN) * everything + OWN * sure[GROUP] / (ITEMS / GROUPS)
            return mixed
        ages = FADE ** np.arange(len(taken) - 1, -1, -1)
        own = np.bincount(list(taken), ages / ages.sum(), minlength=ITEMS)
        again: NDArray[np.float64] = AGAIN * own + (1 - AGAIN) * POPULAR
        return again

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return the probabilities of all items."""
        scores = np.zeros((len(histories), len(self.places)), np.float32)
        for row, history in enumerate(histories):
            scores[row] = self.of([int(item) for item in history.items])[self.places]
        return scores


def drawn(kind: str) -> Callable[[Path, Path], PreparedData]:
    def make(data: Path, work: Path) -> PreparedData:
        draw, truth = np.random.default_rng(6), Truth(kind, np.arange(ITEMS))
        work.mkdir(parents=True, exist_ok=True)
        with (work / "log.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["user", "item"])
            for user in range(USERS):
                taken: list[int] = []
                group = int(draw.integers(GROUPS))
                for _ in range(LENGTH):
                    odds = truth.of(taken)
                    if kind == "taste":
                        own = np.equal(GROUP, group).astype(np.float64)
                        odds = (1 - OWN) * np.full(ITEMS, 1 / ITEMS) + OWN * own / own.sum()
                    if kind != "repeat":
                        odds[np.array(taken, np.int64)] = 0.0
                    taken.append(int(draw.choice(ITEMS, p=odds / odds.sum())))
                    rows.writerow([user, taken[-1]])
        with (work / "items.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["id", "title"], *([number, title] for number, title in enumerate(NUMBERS))])
        return prepare(interactions=work / "log.csv", items=work / "items.csv")

    return make


def weekly_shop(data: Path, work: Path) -> PreparedData:
    draw = np.random.default_rng(7)
    work.mkdir(parents=True, exist_ok=True)
    with (work / "log.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item"])
        for user in range(SHOP_USERS):
            own = draw.permutation(SHOP_ITEMS)[:SHOP_OWN]
            rows.writerows([user, item] for item in own)
            rows.writerows([user, item] for item in draw.choice(own, SHOP_LENGTH - SHOP_OWN))
    with (work / "items.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "title"], *([row, NUMBERS[row]] for row in range(SHOP_ITEMS))])
    return prepare(interactions=work / "log.csv", items=work / "items.csv")


def truth_of(kind: str) -> Callable[[Catalog], Truth]:
    return lambda catalog: Truth(kind, np.array([int(item) for item in catalog.ids]))


BEAUTY = "amazon-beauty"
BEAUTY_BASE = {"dropout": 0.5, "max_tokens": 64, "learning_rate": 0.001, "weight_decay": 0.0}
ML_BASE = {"dropout": 0.4, "max_tokens": 64, "others": 0.5, "epochs": 10}
SOME = some_users(2500)

WORLDS = (
    World("microlens-10000", log_of("microlens-50k", "interactions.parquet", "order", 10_000)),
    World("ml-200", cut_of("ml-100k", some_users(200)), settings=ML_BASE),
    World("beauty-200", cut_of(BEAUTY, some_users(200)), settings=BEAUTY_BASE),
    World("ml-repeats-25", cut_of("ml-100k", newest(30), repeated(0.25)), True, settings=ML_BASE),
    World("online-retail-kept", log_of("online-retail", "interactions.parquet", "time", 2000), True, titles="hashing"),
    World("drawn-popularity", drawn("popularity"), best=truth_of("popularity")),
    World("drawn-sequence", drawn("sequence"), best=truth_of("sequence")),
    World("drawn-taste", drawn("taste"), best=truth_of("taste")),
    World("drawn-repeat", drawn("repeat"), True, best=truth_of("repeat")),
    World("drawn-shop", weekly_shop, True, minutes=0.2, best=truth_of("shop")),
    World("drawn-noise", drawn("noise"), best=truth_of("noise")),
    World("food-com-small", log_of("food-com-small", "interactions.csv", "time"), titles="hashing"),
    World("ml-3", cut_of("ml-100k", newest(3)), settings=ML_BASE),
    World("ml-5", cut_of("ml-100k", newest(5)), settings=ML_BASE),
    World("ml-10", cut_of("ml-100k", newest(10)), settings=ML_BASE),
    World("ml-popular", cut_of("ml-100k", some_items(0.5, True)), settings=ML_BASE),
    World("ml-unpopular", cut_of("ml-100k", some_items(0.3, False)), settings=ML_BASE),
    World("ml-shuffled", cut_of("ml-100k", shuffled(1 / 3)), settings=ML_BASE),
    World("ml-repeats-50", cut_of("ml-100k", newest(30), repeated(0.5)), True, settings=ML_BASE),
    World("ml-all", cut_of("ml-100k"), minutes=1.0, settings=ML_BASE),
    World("beauty-2500", cut_of(BEAUTY, SOME), settings=BEAUTY_BASE),
    World("beauty-3", cut_of(BEAUTY, SOME, newest(3)), settings=BEAUTY_BASE),
    World("beauty-5", cut_of(BEAUTY, SOME, newest(5)), settings=BEAUTY_BASE),
    World("beauty-repeats-50", cut_of(BEAUTY, SOME, repeated(0.5)), True, settings=BEAUTY_BASE),
    World("beauty-shuffled", cut_of(BEAUTY, SOME, shuffled(1 / 3)), settings=BEAUTY_BASE),
    World("complete-journey", log_of("complete-journey", "interactions.parquet", "time"), titles="hashing"),
    World("mind-zh", log_of("mind-zh", "interactions.csv", "order"), minutes=1.0, titles="hashing"),
    World("online-retail-masked", log_of("online-retail", "interactions.parquet", "time", 2000), titles="hashing"),
    World("beauty-popular", cut_of(BEAUTY, SOME, some_items(0.4, True)), settings=BEAUTY_BASE),
    World("beauty-unpopular", cut_of(BEAUTY, SOME, some_items(0.5, False)), settings=BEAUTY_BASE),
    World("beauty-repeats-25", cut_of(BEAUTY, SOME, repeated(0.25)), True, settings=BEAUTY_BASE),
    World("beauty-10", cut_of(BEAUTY, SOME, newest(10)), settings=BEAUTY_BASE),
)
"""Those that are most likely to go wrong first."""


# Making and judging one world.


def make_world(world: World, data: Path, work: Path, slack: float = 1.0) -> dict[str, float]:
    """Make a world's data, base and run where they are not there; returns the processor seconds of what was made."""
    seconds: dict[str, float] = {}
    folder, started = work / world.name, time.process_time()
    if not (folder / "data" / MANIFEST).exists():
        save_prepared(world.make(data, folder / "source"), folder / "data")
        seconds["data"] = time.process_time() - started
    prepared = load_prepared(folder / "data")
    if (folder / "run" / MANIFEST).exists():
        return seconds
    started = time.process_time()
    source = world.name.split("-")[0]
    titles = RememberedTitles(work / "titles" / f"{source}.npz", world.titles)
    vectors = titles.encode([item.title for item in prepared.catalog])
    seconds["titles"] = time.process_time() - started
    started = time.process_time()
    recipe = PretrainRecipe(max_minutes=slack * world.minutes, exclude_seen=not world.keep_seen, **world.settings)
    split, catalog = prepared.split(), prepared.catalog
    make_base(
        [[catalog[item].label for item in history.items] for history in split.train],
        catalog.labels,
        [([catalog[item].label for item in case.history.items], catalog[case.target].label) for case in split.valid],
        load_template("next-item-joined"),
        recipe,
        folder / "base",
        None,
        vectors,
    )
    seconds["base"] = time.process_time() - started
    started = time.process_time()
    # Known by the name that needs no files; what it gives are the titles' vectors that are remembered.
    runs.load_encoder = lambda name, device=None: titles  # type: ignore[attr-defined]
    chosen = make_recipe(
        {
            "base": str((folder / "base").resolve()), "template": "next-item-joined", "max_tokens": recipe.max_tokens,
            "batch_tokens": 1024, "learning_rate": 3e-5, "max_minutes": 0.1, "tuning_cases": 0,
        }
    )  # fmt: skip
    runs.train_run(
        prepared, chosen, folder / "run", data_fingerprint=fingerprint(folder / "data" / MANIFEST),
        data_folder=str(folder / "data"), encoder="hashing",
    )  # fmt: skip
    seconds["train"] = time.process_time() - started
    return seconds


def gains(
    lists: Sequence[Sequence[str]], cases: Sequence[Case], truth: Truth | None = None, keep_seen: bool = False
) -> NDArray[np.float64]:
    """Return NDCG@10 and HR@10 of each case, float64 [cases, 2].

    Where the truth is known, they are what is to be expected under it, whatever was drawn: in a world in which thirty
    items are as likely as each other, chance alone would put one list far above another.
    """
    found = np.zeros((len(cases), 2))
    for row, (items, case) in enumerate(zip(lists, cases, strict=True)):
        if truth is not None:
            taken = [int(item) for item in case.history.items]
            odds = truth.of(taken)
            if not keep_seen:
                odds[np.array(taken, np.int64)] = 0.0
            own = odds[[int(item) for item in items[:K]]] / odds.sum()
            found[row] = float((own / np.log2(2 + np.arange(len(own)))).sum()), float(own.sum())
        elif case.target in items[:K]:
            found[row] = 1 / np.log2(2 + list(items).index(case.target)), 1.0
    return found


def judge_baselines(
    world: World, prepared: PreparedData, cases: Sequence[Case], vectors: Any, folder: Path
) -> dict[str, Any]:
    """Return the baselines' gains, made once."""
    file = folder / "baselines.npz"
    if not file.exists():
        train = prepared.split().train
        if not any(history.times and history.times[-1] > 86_400 * 365 for history in train):
            # Numbers that only say an order are no clock; recent popularity then goes by the order.
            train = tuple(replace(history, times=()) for history in train)
            cases = [replace(case, history=replace(case.history, times=())) for case in cases]
        material = Material(prepared.catalog, train, vectors)
        lists = baseline_lists(BASELINES, material, cases, K, exclude_seen=not world.keep_seen)
        best = world.best(prepared.catalog) if world.best else None
        if best is not None:
            lists[BEST_KNOWN] = ranked_lists(best, prepared.catalog, cases, K, exclude_seen=not world.keep_seen)
        np.savez(file, **{name: gains(own, cases, best, world.keep_seen) for name, own in lists.items()})  # type: ignore[arg-type]
    with np.load(file, allow_pickle=False) as held:
        return dict(held)


def judge_world(world: World, work: Path, made: dict[str, float]) -> dict[str, Any]:
    """Fit the fusion, ask for the test cases, and compare."""
    folder = work / world.name
    prepared = load_prepared(folder / "data")
    split = prepared.split()
    cases = sample_cases(split.test, world.cases, 0)
    recommender = Recommender.from_pretrained(folder / "run", precision="fp32")
    vectors = recommender.content.embeddings
    started = time.process_time()
    # Counted anew, so that a change of the signals needs no other run.
    recommender.signals = fit_signals(prepared.catalog, split.train, vectors, world.keep_seen)
    seconds = {**made, "signals": time.process_time() - started}
    started = time.process_time()
    settings = Settings(k=K, beams=BEAMS, exclude_seen=not world.keep_seen)
    recommender.fusion = fusion = tune_fusion(recommender, split.valid, settings=settings)
    seconds["fit"] = time.process_time() - started
    started = time.process_time()
    answers = []
    for start in range(0, len(cases), BLOCK):
        answers += recommender.recommend_with_parts([case.history for case in cases[start : start + BLOCK]], settings)
    truth = world.best(prepared.catalog) if world.best else None
    lists = {
        FUSED: [[entry.item.id for entry in answer.recommendations] for answer in answers],
        PARTS[0]: [answer.without_model for answer in answers],
        PARTS[1]: [answer.model_alone for answer in answers],
    }
    systems = {name: gains(own, cases, truth, world.keep_seen) for name, own in lists.items()}
    seconds["ask"] = time.process_time() - started
    started = time.process_time()
    systems |= judge_baselines(world, prepared, cases, vectors, folder)
    seconds["baselines"] = time.process_time() - started
    write_json(folder / "fusion.json", fusion.to_json())
    np.savez(folder / "gains.npz", **systems)  # type: ignore[arg-type]  # case by case, for other comparisons
    proof = fusion.proof
    validation = {proof.served: proof.value, **{one.name: one.value for one in proof.compared}} if proof else {}
    told = {"fusion": fusion.to_words(), "weights": fusion.describe(), "validation": validation}
    return compare(world, prepared, systems, told, seconds)


def compare(
    world: World,
    prepared: PreparedData,
    systems: dict[str, NDArray[np.float64]],
    told: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return one world's row of the table."""
    means = {name: found.mean(axis=0) for name, found in systems.items()}
    others = [name for name in systems if name not in (FUSED, BEST_KNOWN)]
    best = max(others, key=lambda name: means[name][0])
    difference, _ = paired_tests(systems[FUSED], systems[best], seed=0)
    row = {
        "world": world.name,
        "seen_items": "kept" if world.keep_seen else "left out",
        "users": len(prepared.histories),
        "items": len(prepared.catalog),
        "events": sum(len(history.items) for history in prepared.histories),
        "cases": len(systems[FUSED]),
        "systems": {name: {"ndcg@10": round(a, 6), "hr@10": round(b, 6)} for name, (a, b) in means.items()},
        "best_other": best,
        "regret": difference.to_json(),
        "judged": time.strftime("%Y-%m-%d"),
        "holds": bool(difference.high >= -ALLOWED * means[best][0]),
        **told,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    if BEST_KNOWN in systems:
        known, _ = paired_tests(systems[FUSED], systems[BEST_KNOWN], seed=0)
        row["against_best_known"] = known.to_json()
    return row


# The table and the picture.


def write_table(work: Path, out: Path) -> None:
    """Write what is there: one JSON, one Markdown table, one picture."""
    rows = [read_json(file) for world in WORLDS if (file := work / world.name / "result.json").exists()]
    names = [FUSED, *PARTS, *BASELINES]
    means = {name: float(np.mean([row["systems"][name]["ndcg@10"] for row in rows])) for name in names}
    regrets = [row["regret"]["value"] / max(row["systems"][row["best_other"]]["ndcg@10"], 1e-9) for row in rows]
    over_singles = [row["systems"][FUSED]["ndcg@10"] / best_single(row)[1] - 1 for row in rows]
    minutes = sum(sum(row["seconds"].values()) for row in rows) / 60
    summary = {
        "worlds": len(rows),
        "hold": sum(row["holds"] for row in rows),
        "mean_ndcg@10": {name: round(value, 6) for name, value in means.items()},
        "mean_relative_regret": round(float(np.mean(regrets)), 6),
        "mean_relative_gain_over_best_single": round(float(np.mean(over_singles)), 6),
        "median_relative_gain_over_best_single": round(float(np.median(over_singles)), 6),
        "processor_minutes": round(minutes, 1),
    }
    write_json(out, {"summary": summary, "worlds": rows})
    write_text(out.with_suffix(".md"), markdown(rows, summary))
    draw(rows, out.with_suffix(".svg"))
    print(markdown(rows, summary))


def best_single(row: dict[str, Any]) -> tuple[str, float]:
    """Return the best system of a world that is no list of genrec's many signals, and its NDCG@10."""
    singles = {
        name: found["ndcg@10"] for name, found in row["systems"].items() if name not in (FUSED, PARTS[0], BEST_KNOWN)
    }
    name = max(singles, key=singles.__getitem__)
    return name, max(singles[name], 1e-9)


def markdown(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> str:
    lines = [
        "| world | users / items / events | genrec | without lm | lm alone | best other | its NDCG@10 | "
        "genrec minus it | within 2 % | best single one | its NDCG@10 | judged | what is served |",
        "|---|--:|--:|--:|--:|---|--:|---|---|---|--:|---|---|",
    ]
    for row in rows:
        figures = {name: found["ndcg@10"] for name, found in row["systems"].items()}
        own = f"{figures[FUSED]:.4f}"
        single, figure = best_single(row)
        regret, best = row["regret"], row["best_other"]
        known = ""
        if "against_best_known" in row:
            known = f"; best known {figures[BEST_KNOWN]:.4f} ({row['against_best_known']['value']:+.4f})"
        lines.append(
            f"| {row['world']} | {row['users']:,} / {row['items']:,} / {row['events']:,} | {own} | "
            f"{figures[PARTS[0]]:.4f} | {figures[PARTS[1]]:.4f} | {best} | {figures[best]:.4f}{known} | "
            f"{regret['value']:+.4f} ({regret['low']:+.4f} to {regret['high']:+.4f}) | "
            f"{'yes' if row['holds'] else '**no**'} | {single} | {figure:.4f} | {row['judged']} | {row['weights']} |"
        )
    means = ", ".join(f"{name} {value:.4f}" for name, value in summary["mean_ndcg@10"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"{summary['hold']} of {summary['worlds']} worlds hold. Mean NDCG@10 over the worlds: {means}. Mean of "
            f"genrec's difference to the best other system of each world, its own list without the model among them: "
            f"{summary['mean_relative_regret']:+.2%}; to the best single one (a baseline, or the model alone): "
            f"{summary['mean_relative_gain_over_best_single']:+.2%}. "
            f"{summary['processor_minutes']:.0f} minutes of one core.",
            "",
        ]
    )


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each world's difference to its best other system, relative to that, with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.28 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(rows)):
        best = max(row["systems"][row["best_other"]]["ndcg@10"], 1e-9)
        value, low, high = (100 * row["regret"][name] / best for name in ("value", "low", "high"))
        axes.plot([low, high], [place, place], color="0.6", linewidth=2)
        axes.plot([value], [place], "o", color="tab:blue" if row["holds"] else "tab:red")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(-100 * ALLOWED, color="tab:red", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [f"{row['world']} ({row['best_other']})" for row in reversed(rows)], fontsize=7)
    axes.set_xlim(-40, 80)
    axes.set_xlabel("NDCG@10 against the best other system (named), %, 95 % interval")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GENREC_WORLDS_DATA", "data")))
    parser.add_argument("--work", type=Path, default=Path("runs/worlds"))
    parser.add_argument("--out", type=Path, default=Path("runs/worlds/worlds.json"), help="the table to write")
    parser.add_argument("--world", nargs="*", choices=[world.name for world in WORLDS], help="only these")
    parser.add_argument("--slack", type=float, default=1.0, help="times longer pretraining may take on a busy machine")
    parser.add_argument("--make", action="store_true", help="only make data, bases and runs")
    parser.add_argument("--again", action="store_true", help="fit and judge again what has a result")
    parser.add_argument("--table", action="store_true", help="only write the table of what is there")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    for world in WORLDS if not arguments.table else ():
        if arguments.world and world.name not in arguments.world:
            continue
        folder = arguments.work / world.name
        if (folder / "result.json").exists() and not arguments.again:
            continue
        noted = folder / "seconds.json"
        try:
            made = make_world(world, arguments.data, arguments.work, arguments.slack)
        except (OSError, ValueError) as error:
            logger.warning("%s is left out: %s", world.name, error)
            continue
        if made:
            write_json(noted, {**(read_json(noted) if noted.exists() else {}), **made})
        logger.info("%s is made: %s", world.name, made)
        if not arguments.make:
            row = judge_world(world, arguments.work, read_json(noted))
            write_json(folder / "result.json", row)
            logger.info("%s: %s", world.name, json.dumps({**row, "systems": {}}))
            for name, found in row["systems"].items():
                logger.info("    %-24s %.4f", name, found["ndcg@10"])
    if not arguments.make:
        write_table(arguments.work, arguments.out)


if __name__ == "__main__":
    main()
