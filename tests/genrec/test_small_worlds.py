"""Worlds too small, or too closed, for a recommender: every verb ends with a result or with a sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., tuple[int, str, str]]
DRAW = random.Random(2)


@dataclass(frozen=True)
class World:
    """A log as rows of user, item number and time.

    Attributes:
        items: how many the catalogue has.
        rows: the log.
        family: of the base.
        can: the verbs that end with a result; the others are refused.
        weights: whether there are cases enough for weights.
        short: whether somebody's list is shorter than ten.
    """

    items: int
    rows: Sequence[tuple[int, int, int]]
    family: str = "causal"
    can: tuple[str, ...] = ("pretrain", "train", "evaluate", "prefer")
    weights: bool = True
    short: bool = True


def log(users: int, length: int, item: Callable[[int, int], int], time: Callable[[int, int], int] | None = None) -> Any:
    """Return a log in which each of some users takes so many items."""
    moment = time or (lambda user, place: 1_700_000_000 + user * 1000 + place * 10)
    return [(user, item(user, place), moment(user, place)) for user in range(users) for place in range(length)]


WORLDS = {
    "one item": World(1, log(24, 4, lambda u, n: 0), can=("pretrain", "train", "evaluate")),
    "two items": World(2, log(24, 4, lambda u, n: (u + n) % 2)),
    "three items, seq2seq": World(
        3, log(30, 5, lambda u, n: DRAW.randrange(3)), "seq2seq", ("pretrain", "train", "evaluate")
    ),
    "everything taken": World(6, log(24, 6, lambda u, n: (u + n) % 6)),
    "the same item only": World(6, log(24, 5, lambda u, n: 2)),
    "their own three again": World(15, log(24, 9, lambda u, n: (u % 5) * 3 + n % 3), short=False),
    "one user": World(8, log(1, 6, lambda u, n: n), weights=False),
    "one event": World(4, log(1, 1, lambda u, n: 0), can=()),
    "one event a user": World(8, log(24, 1, lambda u, n: u % 8), can=()),
    "two events a user": World(
        8, log(24, 2, lambda u, n: (u + n) % 8), can=("pretrain", "train", "prefer"), weights=False
    ),
    "three events a user": World(8, log(24, 3, lambda u, n: (u + n) % 8), can=()),
    "equal times": World(12, log(24, 4, lambda u, n: (u + n) % 12, lambda u, n: 1_700_000_000)),
    "a handful of cases": World(12, log(5, 4, lambda u, n: (u + 2 * n) % 12), weights=False),
}


@pytest.fixture(params=WORLDS, ids=str)
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Write a world's files into the working directory."""
    monkeypatch.chdir(tmp_path)
    chosen = WORLDS[request.param]
    titles = [f"i{item},Plan {chr(65 + item)},{'Basic' if item % 2 else 'Pro'}" for item in range(chosen.items)]
    Path("items.csv").write_text("\n".join(["id,title,category", *titles]) + "\n", encoding="utf-8")
    rows = [f"u{user},i{item},{time}" for user, item, time in chosen.rows]
    Path("log.csv").write_text("\n".join(["user,item,time", *rows]) + "\n", encoding="utf-8")
    Path("new.csv").write_text("id,title,category\nn1,Plan Zed,Pro\n", encoding="utf-8")
    return chosen


def lists(path: str) -> Iterator[list[dict[str, Any]]]:
    """Read a job's lists; a number that is none is refused."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        yield json.loads(line, parse_constant=pytest.fail)["recommendations"]


def short(path: str, k: int) -> None:
    """Check that the side file names those whose list is shorter than asked, and nobody else as short."""
    side = Path(f"{path}.problems.jsonl")
    notes = [json.loads(line) for line in side.read_text(encoding="utf-8").splitlines()] if side.exists() else []
    told = {note["row"] for note in notes if note["kind"] == "short"}
    assert told == {row for row, given in enumerate(lists(path)) if len(given) < k}


def test_every_verb_ends_with_a_result_or_a_sentence(genrec: Call, world: World) -> None:
    def call(verb: str, *words: str) -> str:
        code, out, err = genrec(verb, *words)
        assert (code == 0) == (verb in world.can or verb not in ("pretrain", "train", "evaluate", "prefer")), out + err
        assert code == 0 or (code == 2 and err.strip().splitlines()[-1].startswith("genrec: ")), err
        return out + err

    told = call("prepare", "--interactions", "log.csv", "--items", "items.csv", "--out", "data")
    assert ("nothing to learn" in told) == ("train" not in world.can)
    call("doctor", "--data", "data")
    encoder = ("--encoder", "hashing")
    call("pretrain", "--data", "data", "--family", world.family, "--set", "epochs=1", *encoder, "--out", "base")
    if "train" not in world.can:
        assert not Path("base").exists()
        return
    template = "next-item-joined" if world.family == "causal" else "seq2seq-joined"
    values = (f"base={Path('base').resolve()}", f"template={template}", "max_tokens=128", "epochs=1", "tuning_cases=40")
    changes = [word for value in values for word in ("--set", value)]
    told = call("train", "--data", "data", "--recipe", "pretrained", *changes, *encoder, "--out", "run")
    assert Path("run/fusion.json").exists() == world.weights
    assert ("no weights of the signals were fitted, so ranks are fused: there are" in told) != world.weights

    told = call("recommend", "--run", "run", "--exclude-seen", "--out", "out.jsonl", "--explain")
    short("out.jsonl", 10)
    assert ("short" in told) == world.short
    call("recommend", "--run", "run", "--keep-seen", "--k", "50", "--explain-with", "measured", "--out", "kept.jsonl")
    short("kept.jsonl", 50)
    assert {len(given) for given in lists("kept.jsonl")} == {world.items}
    call("show", "--run", "run", "--user", "u0")
    for split in ("test", "valid"):
        call("evaluate", "--run", "run", "--split", split, "--explanations", "2", "--out", split)
    told = call("prefer", "--run", "run", "--set", "cases=4", "--out", "preferred")
    assert Path("preferred").exists() == ("prefer" in world.can)
    call("add-items", "--run", "run", "--items", "new.csv", "--out", "more")
    call("recommend", "--run", "more", "--out", "more.jsonl", "--explain")
    short("more.jsonl", 10)
    for path in Path().rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
