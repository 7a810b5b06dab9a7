"""Data checks: every planted fault is caught, and clean data is called fine."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from genrec.data.catalog import Catalog, Item
from genrec.data.checks import check_data
from genrec.data.findings import Finding
from genrec.data.prepared import PreparedData, prepare
from genrec.data.report import DataReport
from genrec.data.splits import History, SplitName

REPORT = DataReport(
    source="toy",
    users=1,
    items=1,
    interactions=1,
    duplicate_titles=0,
    duplicate_title_examples=(),
    tie_share=None,
    repeated_events=0,
    items_never_taken=0,
    one_item_histories=0,
    history_lengths=(1,) * 7,
    first_time=None,
    last_time=None,
    train_histories=0,
    valid_cases=0,
    test_cases=0,
)
WORDS = ("amber", "brisk", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jolly")
ITEMS = [Item(str(n), f"{WORDS[n // 10]} {WORDS[n % 10]}") for n in range(100)]


def data(histories: list[History], items: list[Item] = ITEMS, split: SplitName = "leave-one-out") -> PreparedData:
    return PreparedData(Catalog.from_items(items), tuple(histories), split, REPORT)


def clean_histories(users: int = 60) -> list[History]:
    generator = np.random.default_rng(5)
    return [
        History(
            str(user),
            tuple(map(str, generator.choice(len(ITEMS), size=8, replace=False).tolist())),
            tuple(range(user, user + 80, 10)),
        )
        for user in range(users)
    ]


def found(data: PreparedData, name: str) -> Finding:
    (finding,) = (finding for finding in check_data(data) if finding.name == name)
    return finding


def test_clean_data_is_fine() -> None:
    findings = check_data(data(clean_histories(200)))
    assert len(findings) == len({finding.name for finding in findings}) == 14
    assert {finding.severity for finding in findings} == {"fine"}
    assert all((finding.count, finding.share, finding.examples) == (0, 0.0, ()) for finding in findings)


def test_a_leaked_target_is_caught() -> None:
    histories = clean_histories()
    for user, place in ((3, 6), (40, 1)):
        items = list(histories[user].items)
        items[place] = items[7]
        histories[user] = replace(histories[user], items=tuple(items))
    finding = found(data(histories), "target-in-history")
    assert (finding.severity, finding.count, finding.share) == ("warning", 2, 2 / 120)
    assert finding.examples[0].startswith("user 3: item ")
    assert "--drop-repeats" in finding.advice
    assert found(data(histories), "target-title-in-history").severity == "fine"  # the same item, not a namesake


def test_a_target_under_a_second_id_is_caught() -> None:
    histories = clean_histories()
    target = ITEMS[int(histories[0].items[-1])]
    twin = Item("twin", target.title.upper())
    histories[0] = replace(histories[0], items=("twin", *histories[0].items[1:]))
    finding = found(data(histories, [*ITEMS, twin]), "target-title-in-history")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert found(data(histories, [*ITEMS, twin]), "duplicate-titles").count == 2


@pytest.mark.parametrize(
    ("leak", "severity"),
    [
        (Item("leaky", "one of a kind", attributes={"bought_together": "soap; {}; towel"}), "warning"),
        (Item("leaky", "{} and more"), "note"),
    ],
)
def test_a_targets_title_in_another_items_texts_is_caught(leak: Item, severity: str) -> None:
    histories = clean_histories()
    target = ITEMS[int(histories[0].items[-1])]
    attributes = {name: text.format(target.title) for name, text in leak.attributes.items()}
    leaky = replace(leak, title=leak.title.format(target.title), attributes=attributes)
    histories[0] = replace(histories[0], items=("leaky", *histories[0].items[1:]))
    finding = found(data(histories, [*ITEMS, leaky]), "target-title-in-texts")
    assert (finding.severity, finding.count) == (severity, 1)
    assert leaky.title in finding.examples[0]


def test_shuffled_times_are_caught() -> None:
    histories = clean_histories()
    generator = np.random.default_rng(1)
    for user in range(0, 60, 3):
        shuffled = generator.permutation(histories[user].times).tolist()
        assert shuffled != sorted(shuffled)
        histories[user] = replace(histories[user], times=tuple(shuffled))
    finding = found(data(histories), "time-order")
    assert (finding.severity, finding.count, finding.share) == ("error", 20, 1 / 3)
    assert finding.examples == ("user 0", "user 3", "user 6")


def test_shuffled_times_do_not_stop_the_other_checks_under_a_global_time_split() -> None:
    histories = clean_histories()
    histories[0] = replace(histories[0], times=tuple(reversed(histories[0].times)))
    prepared = data(histories, split="global-time")
    assert found(prepared, "time-order").count == 1
    assert found(prepared, "split").severity == "error"
    assert found(prepared, "duplicate-titles").severity == "fine"


def test_missing_times_are_a_note() -> None:
    histories = [History(history.user, history.items) for history in clean_histories()]
    assert (found(data(histories), "time-order").severity, found(data(histories), "equal-times").count) == ("note", 0)


def test_duplicated_users_are_caught() -> None:
    histories = clean_histories()
    histories += [replace(histories[7], user="copy"), replace(histories[7], user="copy2")]
    finding = found(data(histories), "duplicate-users")
    assert (finding.severity, finding.count) == ("warning", 3)
    assert finding.examples == ("users 7, copy, copy2",)
    assert found(data(histories), "near-duplicate-users").count == 0


def test_nearly_duplicated_users_are_caught() -> None:
    histories = clean_histories()
    long = tuple(str(n) for n in range(40))
    histories += [History("long", long), History("near", (*long[:20], "99", *long[21:])), History("order", long[::-1])]
    finding = found(data(histories), "near-duplicate-users")
    assert (finding.severity, finding.count) == ("warning", 3)
    assert found(data(histories), "duplicate-users").count == 0


def test_equal_times_are_counted_everywhere_and_at_the_split() -> None:
    # Per user 7 neighbouring pairs; the last pair of every other user is tied, and one pair in the middle of user 1.
    histories = [
        replace(history, times=(*history.times[:7], history.times[6])) if int(history.user) % 2 == 0 else history
        for history in clean_histories(10)
    ]
    histories[1] = replace(histories[1], times=(1, 1, *histories[1].times[2:]))
    everywhere, boundary = found(data(histories), "equal-times"), found(data(histories), "equal-times-at-split")
    assert (everywhere.count, everywhere.share, everywhere.severity) == (6, 6 / 70, "warning")
    assert (boundary.count, boundary.share, boundary.severity) == (5, 0.5, "warning")


@pytest.mark.parametrize(("order", "severity"), [(1, "error"), (-1, "error"), (0, "fine")])
def test_ties_in_the_order_of_the_catalogue_are_caught(order: int, severity: str) -> None:
    histories = []
    for history in clean_histories(20):
        items = sorted(history.items, key=int)[::order] if order else history.items
        histories.append(History(history.user, tuple(items), (5,) * 8))
    finding = found(data(histories), "equal-times-in-item-order")
    assert finding.severity == severity
    assert finding.count == (140 if order else 0)


def test_users_and_items_only_in_test_are_counted() -> None:
    old = [History(f"old{n}", ("1", "2", "3"), (n, n + 20, n + 40)) for n in range(30)]
    new = [History("new", ("1", "77"), (1000, 1001)), History("old", ("1", "88"), (1, 1001))]
    prepared = data([*old, *new], split="global-time")
    users, items = found(prepared, "users-only-in-test"), found(prepared, "items-only-in-test")
    assert (users.count, users.examples) == (1, ("user new",))
    assert (items.count, items.severity) == (2, "note")


@pytest.mark.parametrize(("times", "severity"), [(12, "warning"), (9, "fine")])
def test_a_dominant_item_is_caught(times: int, severity: str) -> None:
    histories = clean_histories(200)
    for user in range(200):
        last = "0" if user < times else str(1 + user % 99)
        rest = [item for item in histories[user].items if item not in ("0", last)][:6]
        histories[user] = History(str(user), (*rest, last))
    finding = found(data(histories), "dominant-item")
    assert finding.severity == severity
    if severity == "warning":
        assert (finding.count, finding.share) == (12, 0.06)
        assert finding.examples[0] == "item 0 'amber amber': 12 times"


def test_rests_of_html_in_titles_are_caught() -> None:
    broken = [Item("a", 'Industrial & Scientific" />'), Item("b", "Soap <b>new</b>"), Item("c", "1 < 2 > 0, AT&T")]
    finding = found(data(clean_histories(), [*ITEMS, *broken]), "markup-in-titles")
    assert (finding.count, finding.severity) == (2, "warning")


def test_findings_survive_json_and_say_their_share() -> None:
    finding = Finding("x", "warning", 12, 0.012, "things", ("one", "two"), "mend it")
    assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding
    assert finding.to_text().splitlines() == [
        "warning x: 12 (1.2%) things",
        "          e.g. one",
        "          e.g. two",
        "          -> mend it",
    ]


def test_real_data_is_checked_quickly_and_its_known_faults_are_found() -> None:
    prepared = prepare(dataset="ml-100k")
    start = time.process_time()
    findings = {finding.name: finding for finding in check_data(prepared)}
    assert time.process_time() - start < 3
    assert (findings["equal-times"].count, findings["equal-times-at-split"].count) == (50_561, 415)
    assert findings["duplicate-titles"].count == 45
    assert findings["target-in-history"].severity == findings["duplicate-users"].severity == "fine"
    assert findings["equal-times-in-item-order"].severity == "fine"
