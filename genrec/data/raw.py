"""A raw log and catalogue: columns have names and titles are clean, but nothing is filtered or ordered yet.

`read_files` makes one from two files; a named source (`genrec.data.sources`) makes one from its own files. In both
cases `genrec.data.cleaning` does the rest. Rows that cannot be used are errors unless the caller asks to skip them;
only `refuse` decides and words this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from genrec.data.atomic import BLANK, open_given, untyped
from genrec.data.catalog import Item, clean_title
from genrec.data.codes import coded
from genrec.data.columns import columns_note, find_column, guess_column, refuse_doubled, value_headers
from genrec.data.dialects import Dialect
from genrec.data.encoding_guess import is_broken
from genrec.data.ids import tidy_ids
from genrec.data.json_lines import cell_fault
from genrec.data.listed_cells import BRACKETED, is_bracketed, is_empty, split_cell, style_of, told
from genrec.data.report import BadRows, Dropped, shorten
from genrec.data.tables import TableFile, read_columns, read_records
from genrec.data.text_rows import cell_text, id_text
from genrec.errors import DataError

logger = logging.getLogger(__name__)

MISSING = frozenset((
    *["", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "#N/A", "\\N", "(null)", "[NULL]", "<null>"],
    *["undefined", "#REF!", "#VALUE!", "#NAME?"],
))  # fmt: skip
"""Cells that mean "no value", in exactly this spelling: a film may be called "Null"."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that genrec uses; a missing name is guessed by `GUESSES`, and the guess is reported.

    Attributes:
        user: in the log: the user.
        item: in the log: the item that the user took.
        time: in the log: the time; without it the order of rows is the order of events.
        rating: in the log: the rating; read only if a minimum rating is set.
        id: in the catalogue: the item's id.
        title: in the catalogue: the item's title.
        category: in the catalogue: the item's categories; a list, or text that holds one.
        category_lists: how such texts are written: one of `listed_cells.STYLES`; recognised from the column if left
            out.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    id: str | None = None
    title: str | None = None
    category: str | None = None
    category_lists: str | None = None


@dataclass(frozen=True, slots=True)
class RawData:
    """A log and a catalogue from a source.

    Attributes:
        source: the names of the files or of the source, for the report.
        items: the catalogue, ids unique, titles cleaned and not empty; labels are not set.
        events: a frame with `line` (place in the log), `user` and `item` (text or `codes.coded`), and if the source has
            them `time` (text, whole numbers, date or datetime) and `rating` (text); in file order.
        log: the log's file name, for the report.
        unit: the unit of `line`: "line" or "row".
        dropped: unusable rows found so far.
        notes: guesses and decisions, in sentences.
        warnings: things to check in what was read.
        parts: if the log has several files, their names and numbers of rows; `line` counts through all of them.
    """

    source: str
    items: tuple[Item, ...]
    events: pl.DataFrame
    log: str
    unit: str = "line"
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()


def read_files(
    interactions: Path,
    items: Path,
    columns: Columns,
    with_rating: bool = False,
    skip_bad_rows: bool = False,
    dialects: Mapping[str, Dialect] | None = None,
) -> RawData:
    """Read a log and a catalogue from files.

    Args:
        interactions: the log; CSV, TSV, JSON Lines, Parquet or RecBole's .inter, by its suffix, or a folder of Parquet
            files.
        items: the catalogue, likewise. Columns that have no role become `Item.attributes`.
        columns: the names of the columns.
        with_rating: whether the log's rating is needed.
        skip_bad_rows: leave out the catalogue's unusable rows.
        dialects: the user's settings on how the text files are written, by "interactions" and "items".

    Raises:
        DataError: a file or a column is missing or unreadable, or the catalogue has unusable rows.
    """
    dialects = dialects or {}
    log, _ = open_given(interactions, dialect=dialects.get("interactions"))
    if log.kind == "jsonl" and any(guess_column(log.columns, role) is None for role in ("user", "item", "time")):
        log, _ = open_given(
            interactions, all_keys=True, dialect=dialects.get("interactions")
        )  # later lines may have the column
    catalogue, blank_lists = open_given(items, all_keys=True, dialect=dialects.get("items"))
    refuse_doubled(catalogue)
    columns = untyped(columns)
    roles = {"user": columns.user, "item": columns.item}
    found = {role: find_column(log, role, given) for role, given in roles.items()}
    if columns.time is not None or guess_column(log.columns, "time") is not None:
        found["time"] = find_column(log, "time", columns.time)
    if with_rating:
        found["rating"] = find_column(log, "rating", columns.rating)
    # If the catalogue has a column with the log's name for the item, it is the id, even if others look like ids.
    shared = found["item"] if found["item"] in catalogue.columns else None
    own = {
        "id": find_column(catalogue, "id", columns.id or shared),
        "title": find_column(catalogue, "title", columns.title),
    }
    if columns.category is not None or guess_column(catalogue.columns, "category") is not None:
        own["category"] = find_column(catalogue, "category", columns.category)
    records, unreadable = read_records(catalogue)
    style, list_note = _lists(catalogue, records, own, columns.category_lists, blank_lists)
    made, unusable = make_items(
        items.name, catalogue.unit, catalogue.columns, records, own, style, catalogue.part_sizes()
    )
    refuse((*unreadable, *unusable), skip_bad_rows)
    if not made:
        raise DataError(f"{items} holds no usable items; expected a header and one row per item")
    told = (
        *value_headers(log, found),
        *value_headers(catalogue, own),
        *_broken_titles(catalogue, records, own["title"]),
    )
    events, bad = read_columns(log, found)
    events, id_notes, id_warnings = tidy_ids(log.path.name, coded(events))
    if not events.height and not bad:
        raise DataError(f"{interactions} has a header and no rows; expected one row per event")
    return RawData(
        source=f"{interactions.name} and {items.name}",
        items=made,
        events=events,
        log=interactions.name,
        unit=log.unit,
        dropped=(*unreadable, *unusable, *bad),
        notes=(
            columns_note(log, found),
            columns_note(catalogue, own),
            *log.notes,
            *catalogue.notes,
            *list_note,
            *id_notes,
        ),
        warnings=(
            *log.remarks,
            *catalogue.remarks,
            *told,
            *id_warnings,
        ),
        parts=log.part_sizes(),
    )


def _lists(
    table: TableFile,
    records: Sequence[tuple[int, dict[str, Any]]],
    own: Mapping[str, str],
    given: str | None,
    blank_lists: frozenset[str],
) -> tuple[str, list[str]]:
    """Return how the categories' lists are written, and a note on it."""
    if "category" not in own:
        return "|", []
    cells = [record.get(own["category"]) for _, record in records]
    style = given or (BLANK if own["category"] in blank_lists else style_of(cells))
    note = told(own["category"], cells, style, clean_title)
    return style, [f"{table.path.name}: {note}"] if note else []


def read_catalogue(
    path: Path,
    columns: Columns,
    skip_bad_rows: bool = False,
    dialect: Dialect | None = None,
    tell: Callable[[str], None] = logger.info,
) -> tuple[Item, ...]:
    """Read a catalogue alone, such as one of new items.

    Args:
        path: the file, or a folder of Parquet files.
        columns: the names of its columns.
        skip_bad_rows: leave out unusable rows.
        dialect: the user's settings on how a text file is written.
        tell: called with a sentence for each thing that was recognised, was left out, or should be checked.

    Raises:
        DataError: the file or a column is missing or unreadable, there are unusable rows, or there are no usable ones.
    """
    table, blank_lists = open_given(path, all_keys=True, dialect=dialect)
    refuse_doubled(table)
    columns = untyped(columns)
    own = {"id": find_column(table, "id", columns.id), "title": find_column(table, "title", columns.title)}
    if columns.category is not None or guess_column(table.columns, "category") is not None:
        own["category"] = find_column(table, "category", columns.category)
    records, unreadable = read_records(table)
    style, list_note = _lists(table, records, own, columns.category_lists, blank_lists)
    made, unusable = make_items(path.name, table.unit, table.columns, records, own, style, table.part_sizes())
    refuse((*unreadable, *unusable), skip_bad_rows)
    if not made:
        raise DataError(f"{path} holds no usable items; expected a header and one row per item")
    broken = _broken_titles(table, records, own["title"])
    left_out = (entry.to_text() for entry in (*unreadable, *unusable))
    for sentence in (
        columns_note(table, own),
        *table.notes,
        *list_note,
        *table.remarks,
        *broken,
        *left_out,
    ):
        tell(sentence)
    return made


def make_items(
    file: str,
    unit: str,
    columns: Sequence[str],
    records: Iterable[tuple[int, dict[str, Any]]],
    own: Mapping[str, str],
    style: str = "|",
    parts: tuple[tuple[str, int], ...] = (),
) -> tuple[tuple[Item, ...], tuple[Dropped, ...]]:
    """Make items from a catalogue's rows.

    Args:
        file: the catalogue's file name.
        unit: the unit of a row's place: "line" or "row".
        columns: the catalogue's columns; columns that `own` does not name become attributes.
        records: its rows, each with its place.
        own: the catalogue's own column for "id", "title" and, if it has one, "category".
        style: how texts that hold lists of categories are written.
        parts: if the catalogue has several files, their names and numbers of rows.

    Returns:
        The items, and the rows without an id or a title or with the id of an earlier row.
    """
    bad = BadRows(file, unit, parts)
    items: dict[str, Item] = {}
    categories_of: dict[str, tuple[str, ...]] = {}  # many items share a cell
    others = [name for name in columns if name not in own.values()]
    records = list(records)
    listed = {name for name in others if is_bracketed([record.get(name) for _, record in records])}
    for line, record in records:
        item_id, written = id_text(record.get(own["id"])), cell_text(record.get(own["title"]))
        title = "" if written in MISSING else clean_title(written)
        if fault := cell_fault(record.get(own["id"]), own["id"]):
            bad.add(line, fault)
        elif isinstance(record.get(own["title"]), dict | list):
            bad.add(line, f"a list or object where text is expected, in {own['title']!r}")
        elif item_id in MISSING:
            bad.add(line, f"no id in column {own['id']!r}", repr(item_id) if item_id else "")
        elif not title:
            told = f"{written!r}; if that is its title, add a word" if written in MISSING - {""} else repr(written)
            bad.add(line, f"no title in column {own['title']!r}", told)
        elif item_id in items:
            bad.add(line, "an item id given before", repr(item_id))
        else:
            cell = record.get(own["category"]) if "category" in own else None
            known = categories_of.get(cell) if isinstance(cell, str) else None
            categories = split_categories(cell, style) if known is None and "category" in own else known or ()
            if isinstance(cell, str):
                categories_of[cell] = categories
            attributes = {
                name: text for name in others if (text := attribute_text(record.get(name), listed=name in listed))
            }
            items[item_id] = Item(item_id, title, categories=categories, attributes=attributes)
    return tuple(items.values()), bad.dropped()


def split_categories(value: Any, style: str = "|") -> tuple[str, ...]:
    """Return an item's categories, each once, in order: from a list, a list of paths, or text that holds one."""
    names = (clean_title(part) for part in split_cell(value, style))
    return tuple(dict.fromkeys(name for name in names if not is_empty(name)))


def attribute_text(value: Any, listed: bool = False) -> str:
    """Return an attribute's value as one line of text; empty if there is none.

    Args:
        value: the cell.
        listed: whether the whole column is text that holds lists.
    """
    if isinstance(value, list) or listed:
        return clean_title(", ".join(split_cell(value, BRACKETED)))
    text = cell_text(value)
    return "" if text in MISSING else clean_title(text)


def refuse(dropped: Sequence[Dropped], skip_bad_rows: bool) -> None:
    """Raise if there are unusable rows and the caller did not ask to skip them.

    Raises:
        DataError: one line that names the file, the places, the reasons and the remedy.
    """
    if skip_bad_rows or not dropped:
        return
    told = []
    for entry in dropped:
        example = f" ({entry.example})" if entry.example else ""
        more = f" and {entry.count - 1:,} more" if entry.count > 1 else ""
        told.append(f"{entry.file} {entry.unit} {entry.lines[0]}{more}: {entry.reason}{example}")
    raise DataError(f"{'; '.join(told)}; mend the file, or pass --skip-bad-rows to leave such rows out")


def _broken_titles(table: TableFile, records: Sequence[tuple[int, dict[str, Any]]], own: str) -> list[str]:
    """Return a warning if titles were read in a wrong encoding, by genrec or by an earlier program."""
    broken = [title for _, record in records if is_broken(title := cell_text(record.get(own)))]
    if not broken:
        return []
    return [
        f"{table.path.name}: {len(broken):,} title{'s hold' if len(broken) > 1 else ' holds'} what a wrong encoding "
        f"leaves, such as {shorten(broken[0], 40)!r}; export the table again, or name its encoding with --encoding"
    ]
