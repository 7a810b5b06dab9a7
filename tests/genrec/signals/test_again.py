"""Repeats: measured when data is prepared, one setting from training to serving, and a signal for "again"."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import History, Item, Recommender, Settings
from genrec.data.prepared import load_prepared, prepare, save_prepared
from genrec.signals.again import AGES, Again
from genrec.signals.registry import fit_signals, load_signals, save_signals
from genrec.storage.folders import read_json, read_manifest
from tests.conftest import train_toy
from tests.toyworld import make_catalog, write_files

CATALOG = make_catalog()
IDS = CATALOG.ids


def own_basket(user: int) -> list[str]:
    """What one user buys, over and over: three items of one series."""
    return [IDS[6 * (user % 5) + part] for part in range(3)]


def write_shop(folder: Path, users: int = 40, rounds: int = 4) -> tuple[Path, Path]:
    log, items = write_files(folder)
    rows = []
    for user in range(users):
        basket = own_basket(user)
        bought = [basket[(user + place) % 3] for place in range(3 * rounds)]
        rows += [f"u{user},{item},{1000 + place}" for place, item in enumerate(bought)]
    log.write_text("\n".join(["user,item,time", *rows]) + "\n", encoding="utf-8")
    return log, items


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    log, items = write_shop(folder)
    save_prepared(prepare(interactions=log, items=items), folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def shop_run(shop: Path, toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_toy(toy_base, shop, tmp_path_factory.mktemp("shop-run") / "run", epochs=1)


def test_repeats_are_measured_and_the_setting_is_proposed_and_kept(shop: Path) -> None:
    data = load_prepared(shop)
    assert data.keep_seen
    assert data.report.repeated_cases == data.report.valid_cases == 40
    assert "in 40 validation cases (100.0%) the next item was taken before" in data.report.to_text()
    assert "seen items may come back" in data.report.to_text()
    assert read_manifest(shop, "data")["keep_seen"] is True
    assert type(data.report).from_json(data.report.to_json()) == data.report


def test_where_nobody_repeats_nothing_is_proposed_and_nothing_new_is_written(toy_data: Path) -> None:
    assert not load_prepared(toy_data).keep_seen
    assert "repeated_cases" not in read_json(toy_data / "report.json")
    assert "keep_seen" not in read_manifest(toy_data, "data")


@pytest.mark.parametrize(("asked", "note"), [(True, "as asked"), (False, "seen items are left out, as asked")])
def test_who_asks_is_obeyed(tmp_path: Path, asked: bool, note: str) -> None:
    log, items = write_shop(tmp_path)
    data = prepare(interactions=log, items=items, keep_seen=asked)
    assert data.keep_seen is asked
    assert note in data.report.to_text()


def test_a_handful_of_repeats_proposes_nothing(tmp_path: Path) -> None:
    log, items = write_files(tmp_path, users=200)
    with log.open("a", encoding="utf-8") as file:
        bought = list(enumerate((0, 1, 0, 2)))
        file.writelines(f"again{user},{IDS[item]},{time}\n" for user in range(4) for time, item in bought)
    data = prepare(interactions=log, items=items)
    assert data.report.repeated_cases == 4
    assert not data.keep_seen


def test_the_chance_of_being_taken_again_is_counted_by_how_often_and_how_long_ago() -> None:
    histories = [History(str(user), tuple(own_basket(user)[place % 3] for place in range(30))) for user in range(100)]
    signal = Again.fit(CATALOG, histories)
    # After the first round, of three items the next is always the one taken longest ago: three events.
    assert signal.chances[1, 1] > 10 * signal.chances[1, 0]
    (scores,) = signal.score([History("", tuple(own_basket(0)[place % 3] for place in range(7)))])
    assert int(np.argmax(scores)) == CATALOG.row(own_basket(0)[1])
    assert set(np.flatnonzero(scores)) == {CATALOG.row(item) for item in own_basket(0)}
    assert not signal.score([History("", ())]).any()


def test_ages_and_counts_count_an_item_once() -> None:
    signal = replace(Again.fit(CATALOG, []), chances=np.arange(5 * AGES, dtype=np.float32).reshape(5, AGES))
    (scores,) = signal.score([History("", (IDS[0], IDS[0], IDS[1], IDS[2]))])
    # The first item: twice, three events ago; the others once, two events ago and one.
    assert [scores[place] for place in (0, 1, 2)] == [signal.chances[1, 1], signal.chances[0, 1], signal.chances[0, 0]]


def test_the_signal_is_there_only_where_seen_items_may_come_back(tmp_path: Path) -> None:
    histories = [History(str(user), tuple(own_basket(user))) for user in range(20)]
    vectors = np.eye(len(CATALOG), dtype=np.float32)
    for keep_seen in (True, False):
        signals = fit_signals(CATALOG, histories, vectors, keep_seen)
        save_signals(tmp_path / "signals.safetensors", signals)
        loaded = load_signals(tmp_path / "signals.safetensors", CATALOG, vectors)
        assert ("again" in signals) is ("again" in loaded) is keep_seen
        for name, signal in signals.items():
            np.testing.assert_array_equal(signal.score(histories), loaded[name].score(histories))


def test_a_shop_where_people_buy_the_same_again_is_served_what_they_buy(shop_run: Path) -> None:
    rec = Recommender.from_pretrained(shop_run)
    history = [own_basket(1)[place % 3] for place in range(10)]
    found = rec.recommend(history, k=3)
    assert {entry.item.id for entry in found} == set(own_basket(1))
    assert found[0].item.id == own_basket(1)[1]
    assert all(entry.signals["again"] for entry in found)
    assert all(f"“{entry.item.label}”" in entry.explanation for entry in found)
    assert all("times" in entry.explanation or "before" in entry.explanation for entry in found)
    assert {entry.how for entry in found} <= {"again", "exact"}
    left_out = rec.recommend(history, k=3, exclude_seen=True)
    assert not {entry.item.id for entry in left_out} & set(history)


def test_a_run_that_leaves_seen_items_out_can_still_be_asked_to_keep_them(toy_run: Path) -> None:
    rec = Recommender.from_pretrained(toy_run)
    history = list(IDS[:3])
    for settings, may_return in (({}, False), ({"exclude_seen": False}, True)):
        found = rec.recommend(history, k=len(CATALOG), **settings)
        assert bool({entry.item.id for entry in found} & set(history)) is may_return
        assert all("again" not in entry.signals for entry in found)


def test_new_items_leave_the_signal_as_it_is(shop_run: Path) -> None:
    rec = Recommender.from_pretrained(shop_run)
    grown = rec.with_items([Item("new", "Red Harbour 7")])
    history = [History("", tuple(own_basket(1)))]
    np.testing.assert_array_equal(
        grown.signals["again"].score(history)[:, : len(CATALOG)], rec.signals["again"].score(history)
    )
    assert not grown.signals["again"].score(history)[:, len(CATALOG) :].any()


def test_the_command_line_takes_the_setting_over(shop: Path, shop_run: Path, tmp_path: Path, genrec: Any) -> None:
    out = tmp_path / "lists.jsonl"
    genrec("recommend", "--run", shop_run, "--data", shop, "--out", out, "--k", "3", "--beams", "5")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    bought = {history.user: set(history.items) for history in load_prepared(shop).histories}
    assert all({entry["item"] for entry in row["recommendations"]} == bought[row["user"]] for row in rows)
    genrec("evaluate", "--run", shop_run, "--data", shop, "--baselines", "popularity", "--out", tmp_path / "e")
    metrics = read_json(tmp_path / "e" / "metrics.json")
    assert metrics["settings"]["seen_items"] == "kept"
    assert metrics["systems"]["genrec"]["hr@5"]["value"] == 1.0
    assert Settings().exclude_seen is None
