"""Checks for targets that occur in their own prompt: as an item, as a title, or inside another item's texts."""

from __future__ import annotations

from collections.abc import Sequence

from genrec.data.catalog import Catalog, normalise_label
from genrec.data.findings import Finding, found_or_fine
from genrec.data.overlaps import TitleFinder, title_key
from genrec.data.report import shorten
from genrec.data.splits import Case, Split


def check_target_in_history(split: Split, catalog: Catalog) -> Finding:
    """Find cases whose history already holds the target: a repeat, or a leak."""
    cases = (*split.valid, *split.test)
    leaked = [case for case in cases if case.target in case.history.items]
    return found_or_fine(
        "target-in-history",
        "warning",
        len(leaked),
        len(cases),
        "validation and test targets stand in their own history",
        (named(case, catalog) for case in leaked),
        "if repeats are not the point, prepare with --drop-repeats; else let seen items be recommended and report "
        "figures with and without these cases",
    )


def check_target_title_in_history(split: Split, catalog: Catalog) -> Finding:
    """Find cases whose history holds another item with the target's title."""
    keys = {item.id: normalise_label(item.title) for item in catalog}
    cases = (*split.valid, *split.test)
    leaked = [
        case
        for case in cases
        if any(keys[item_id] == keys[case.target] and item_id != case.target for item_id in case.history.items)
    ]
    return found_or_fine(
        "target-title-in-history",
        "warning",
        len(leaked),
        len(cases),
        "targets have the title of another item in the history",
        (named(case, catalog) for case in leaked),
        "these may be one thing under two ids; merge the ids in the log and the catalogue",
    )


def check_target_title_in_texts(split: Split, catalog: Catalog) -> Finding:
    """Find cases whose target's title is inside a longer title or an attribute of an item in the history."""
    cases = (*split.valid, *split.test)
    keys = {item.id: title_key(item.title) for item in catalog}
    finder = TitleFinder(catalog[target].title for target in {case.target for case in cases})
    taken = {item_id for case in cases for item_id in case.history.items}
    in_title = {item_id: finder.find(catalog[item_id].title) - {keys[item_id]} for item_id in taken}
    in_attributes = {
        item_id: set().union(*map(finder.find, catalog[item_id].attributes.values())) - {keys[item_id]}
        for item_id in taken
    }
    leaked = _holding(cases, keys, in_attributes)
    longer = _holding(cases, keys, in_title)
    both = [*leaked, *(entry for entry in longer if entry[0] not in {case for case, _ in leaked})]
    return found_or_fine(
        "target-title-in-texts",
        "warning" if leaked else "note",
        len(both),
        len(cases),
        f"targets' titles stand in another item of the history, {len(leaked):,} of them in its attributes",
        (f"{named(case, catalog)}, in {shorten(catalog[item_id].title)!r}" for case, item_id in both),
        'sequels and sets are harmless; an attribute such as "bought together" gives the answer away: leave it out',
    )


def named(case: Case, catalog: Catalog) -> str:
    """Return which user took which item, for an example."""
    return f"user {case.history.user}: item {case.target} {shorten(catalog[case.target].title)!r}"


def _holding(cases: Sequence[Case], keys: dict[str, str], texts: dict[str, set[str]]) -> list[tuple[Case, str]]:
    """Return the cases whose target's title is in a history item's texts, each with the first such item."""
    found = []
    for case in cases:
        key = keys[case.target]
        items = (item for item in case.history.items if item != case.target and key in texts[item])
        if (item_id := next(items, None)) is not None:
            found.append((case, item_id))
    return found
