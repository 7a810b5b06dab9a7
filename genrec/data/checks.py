"""Checks on prepared data before training: leaks, order, ties, duplicates, dominance.

`check_data` runs all checks and returns one finding for each, so that a reader also sees which checks found nothing. It
checks the histories themselves, not how they were made, so it also works on data that genrec did not prepare.

Examples name items by id and title, and users by id: the findings are for the owner of the data and are shown nowhere
else. Nothing here is logged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from genrec.data.catalog import Catalog, normalise_label
from genrec.data.findings import Finding, Severity, found_or_fine
from genrec.data.leaks import (
    check_target_in_history,
    check_target_title_in_history,
    check_target_title_in_texts,
    named,
)
from genrec.data.overlaps import similar_pairs
from genrec.data.prepared import PreparedData
from genrec.data.report import DataReport, shorten
from genrec.data.splits import History, Split
from genrec.data.times import likely_span
from genrec.errors import DataError

TIES_TO_WARN = 0.05
"""A larger share of equal times than this changes the figures."""

DOMINANT_SHARE, DOMINANT_COUNT = 0.02, 10
"""An item that is a larger share of the test targets than this, in at least so many cases, gives a warning."""

SHORTEST = 5
"""Shorter histories are not compared, since they are similar by chance."""

SIMILAR = 0.9
"""Two users are near duplicates if the Jaccard index of their item sets reaches this."""


def check_data(data: PreparedData) -> list[Finding]:
    """Run every check.

    Returns:
        One finding per check, in a fixed order; a check that found nothing is "fine". Warnings from reading the files
        and unlikely times come last, and only if there are any.
    """
    order = check_time_order(data.histories)
    findings = [order, check_ties(data.histories), check_tie_order(data.histories, data.catalog)]
    try:
        split = data.split()
    except DataError as error:
        # If the split fails, that is a finding too, and the other findings are still reported.
        advice = "mend the data or choose the other split"
        findings.append(Finding("split", "error", len(data.histories), 1.0, f"histories: {error}", advice=advice))
        split = Split(data.split_name, data.histories, (), ())
    return [
        *findings,
        check_boundary_ties(split, data.histories),
        check_target_in_history(split, data.catalog),
        check_target_title_in_history(split, data.catalog),
        check_target_title_in_texts(split, data.catalog),
        check_unseen_users(split),
        check_unseen_items(split, data.catalog),
        check_dominant_item(split, data.catalog),
        check_duplicate_titles(data.catalog),
        check_markup(data.catalog),
        check_duplicate_users(data.histories),
        check_similar_users(data.histories),
        *(finding for finding in (check_likely_times(data.histories), check_reading(data.report)) if finding.count),
    ]


def check_time_order(histories: Sequence[History]) -> Finding:
    """Find histories whose events are not in time order."""
    timed = [history for history in histories if history.times]
    wrong = [history for history in timed if list(history.times) != sorted(history.times)]
    if not timed:
        advice = "there are no times, so the order of events cannot be checked; make sure that the file has it"
        return Finding("time-order", "note", 0, 0.0, "histories have times", advice=advice)
    return found_or_fine(
        "time-order",
        "error",
        len(wrong),
        len(timed),
        "histories are not in time order",
        (f"user {history.user}" for history in wrong),
        "the model would learn from the future; prepare the data again with the time column",
    )


def check_likely_times(histories: Sequence[History]) -> Finding:
    """Find events before 1990 or in the future: truncated times, or times in another unit."""
    total = sum(len(history.times) for history in histories)
    first, last = likely_span()
    unlikely = [(history, time) for history in histories for time in history.times if not first <= time <= last]
    if len(unlikely) == total:
        unlikely = []  # an order that is not a time, as `prepare` reported
    return found_or_fine(
        "likely-times",
        "warning",
        len(unlikely),
        total,
        "events lie before 1990 or in the future",
        (f"user {history.user}: {time} s" for history, time in unlikely),
        "they stand first or last in their histories; look whether they are cut short or of another unit",
    )


def check_reading(report: DataReport) -> Finding:
    """Repeat the warnings from reading the files."""
    return found_or_fine(
        "reading",
        "warning",
        len(report.warnings),
        len(report.warnings),
        "things to look at were found in the files when they were read",
        report.warnings,
        "look at them, mend the files where they are wrong, and prepare again",
    )


def check_ties(histories: Sequence[History]) -> Finding:
    """Find neighbouring events of a user in the same second: only the file's order decides which came first."""
    equal = pairs = 0
    for history in histories:
        pairs += max(len(history.times) - 1, 0)
        equal += sum(map(int.__eq__, history.times, history.times[1:]))
    severity: Severity = "warning" if pairs and equal / pairs > TIES_TO_WARN else "note"
    return found_or_fine(
        "equal-times",
        severity,
        equal,
        pairs,
        "neighbouring events share a second",
        (),
        "their order is the file's; compare only with figures made on the same order, and report this share",
    )


def check_tie_order(histories: Sequence[History], catalog: Catalog) -> Finding:
    """Find an order among equal times that follows the catalogue's order of items, up or down."""
    rows = {item_id: row for row, item_id in enumerate(catalog.ids)}
    up = down = 0
    for history in histories:
        for place, (time, later) in enumerate(zip(history.times, history.times[1:], strict=False)):
            if time == later:
                first, second = rows[history.items[place]], rows[history.items[place + 1]]
                up, down = up + (first < second), down + (first > second)
    total, most = up + down, max(up, down)
    # By chance about half of the pairs are in order; 50 pairs are enough to distinguish nine tenths from that.
    found = most if total >= 50 and most / total >= 0.9 else 0
    return found_or_fine(
        "equal-times-in-item-order",
        "error",
        found,
        total,
        "neighbouring events at equal times are in the order of the catalogue",
        (),
        "the order gives away what comes next; restore the log's own order, or shuffle rows of equal time once",
    )


def check_boundary_ties(split: Split, histories: Sequence[History]) -> Finding:
    """Find test cases whose target happened in the same second as the event before it."""
    times = {history.user: history.times for history in histories if history.times}
    timed = [case for case in split.test if case.history.user in times]
    tied = []
    for case in timed:
        own, place = times[case.history.user], len(case.history.items)
        if own[place] == own[place - 1]:
            tied.append(case)
    return found_or_fine(
        "equal-times-at-split",
        "warning" if len(tied) > TIES_TO_WARN * len(timed) else "note",
        len(tied),
        len(timed),
        "test targets share a second with the event before them",
        (f"user {case.history.user}" for case in tied),
        "which event is the target is then the file's choice; report this share beside the figures",
    )


def check_unseen_users(split: Split) -> Finding:
    """Find test users without a training history."""
    known = {history.user for history in split.train}
    unseen = [case for case in split.test if case.history.user not in known]
    return found_or_fine(
        "users-only-in-test",
        "note",
        len(unseen),
        len(split.test),
        "test users have no training history",
        (f"user {case.history.user}" for case in unseen),
        "methods that learn a vector per user cannot serve them; report them as a slice",
    )


def check_unseen_items(split: Split, catalog: Catalog) -> Finding:
    """Find test targets that no training history holds."""
    known = {item_id for history in split.train for item_id in history.items}
    unseen = [case for case in split.test if case.target not in known]
    return found_or_fine(
        "items-only-in-test",
        "note",
        len(unseen),
        len(split.test),
        "test targets stand in no training history",
        (named(case, catalog) for case in unseen),
        "collaborative methods cannot find them; report new items as a slice",
    )


def check_dominant_item(split: Split, catalog: Catalog) -> Finding:
    """Find an item that is the target so often that recommending it to everybody scores well."""
    counts = Counter(case.target for case in split.test)
    top = counts.most_common(3)
    count = top[0][1] if top else 0
    dominant = count >= DOMINANT_COUNT and count > DOMINANT_SHARE * len(split.test)
    return found_or_fine(
        "dominant-item",
        "warning",
        count if dominant else 0,
        len(split.test),
        "test targets are one and the same item",
        (f"item {item_id} {shorten(catalog[item_id].title)!r}: {times:,} times" for item_id, times in top),
        "recommending it to everybody scores this share; keep the popularity baseline in every table",
    )


def check_duplicate_titles(catalog: Catalog) -> Finding:
    """Find items that share their title with another item."""
    counts = Counter(normalise_label(item.title) for item in catalog)
    shared = [item for item in catalog if counts[normalise_label(item.title)] > 1]
    return found_or_fine(
        "duplicate-titles",
        "note",
        len(shared),
        len(catalog),
        "items share their title with another item",
        (f"item {item.id} {shorten(item.title)!r}, labelled {shorten(item.label)!r}" for item in shared),
        "they are kept as distinct items with labels of their own; merge ids that mean the same thing",
    )


def check_markup(catalog: Catalog) -> Finding:
    """Find titles with remains of HTML, which many unrelated items may share."""
    broken = [item for item in catalog if _MARKUP.search(item.title)]
    return found_or_fine(
        "markup-in-titles",
        "warning",
        len(broken),
        len(catalog),
        "titles hold rests of HTML",
        (f"item {item.id} {shorten(item.title)!r}" for item in broken),
        "a model would learn to write them; mend the titles at their source",
    )


def check_duplicate_users(histories: Sequence[History]) -> Finding:
    """Find users who took exactly the same items in the same order."""
    groups: dict[tuple[str, ...], list[History]] = {}
    long = [history for history in histories if len(history.items) >= SHORTEST]
    for history in long:
        groups.setdefault(history.items, []).append(history)
    same = [group for group in groups.values() if len(group) > 1]
    return found_or_fine(
        "duplicate-users",
        "warning",
        sum(map(len, same)),
        len(long),
        f"users with {SHORTEST} or more events have the history of another",
        (f"users {', '.join(history.user for history in group[:4])}" for group in same),
        "one user's target is then in another's training history; find out why, and keep one of each",
    )


def check_similar_users(histories: Sequence[History]) -> Finding:
    """Find users whose sets of items are nearly those of another, unless the order is exactly the same too."""
    rows: dict[str, int] = {}
    long = [history for history in histories if len(history.items) >= SHORTEST]
    sets = [frozenset(rows.setdefault(item_id, len(rows)) for item_id in history.items) for history in long]
    pairs = [(one, two) for one, two in similar_pairs(sets, SIMILAR) if long[one].items != long[two].items]
    return found_or_fine(
        "near-duplicate-users",
        "warning",
        len({place for pair in pairs for place in pair}),
        len(long),
        f"users share at least {SIMILAR:.0%} of their items with another",
        (f"users {long[one].user} and {long[two].user}" for one, two in pairs),
        "these may be one person, or a copied log; targets of one are in the training history of the other",
    )


_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|/>|&#?\w+;")
