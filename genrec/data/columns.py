"""Columns by their roles: which column of a table holds users, items, times and titles.

A role whose column is not named is guessed by the column's name, and the guess is reported. If a file has no header,
its first row would be taken for one; so column names that look like values give a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from genrec.data.report import shorten
from genrec.data.tables import TableFile
from genrec.errors import DataError

ITEM_NAMES = ("item", "itemid", "iid", "movieid", "productid", "articleid", "bookid", "asin", "parentasin", "isbn")
GUESSES: dict[str, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "customer", "customerid", "reviewerid", "visitorid", "memberid"),
    "item": ITEM_NAMES,
    "time": ("time", "timestamp", "ts", "datetime", "date", "unixreviewtime", "unixtimestamp", "eventtime", "tdat"),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "id": ("id", *ITEM_NAMES),
    "title": ("title", "name", "itemtitle", "itemname", "movietitle", "booktitle", "producttitle", "productname"),
    "category": ("categories", "category", "genres", "genre", "class"),
}
"""Column names tried for each role, in this order; case, `_`, `-`, blanks and a `:type` ending do not count."""


def find_column(table: TableFile, role: str, given: str | None) -> str:
    """Return the table's column for a role, given or guessed.

    Raises:
        DataError: there is no such column, or there are two.
    """
    name = given if given is not None else guess_column(table.columns, role)
    if name is None or name not in table.columns:
        asked = f"no column {given!r}" if given is not None else f"no column that looks like the {role}"
        listed = ", ".join(shorten(column, 40) for column in table.columns[:12])
        more = f" and {len(table.columns) - 12} more" if len(table.columns) > 12 else ""
        hint = _header_hint(table) if given is None else ""
        raise DataError(f"{table.path} has {asked}; it has: {listed}{more}; name one with --{role}-column{hint}")
    if table.columns.count(name) > 1:
        raise DataError(f"{table.path} has the column {name!r} more than once; rename one of them")
    return name


def guess_column(columns: Sequence[str], role: str) -> str | None:
    """Return the first column whose name is among the role's `GUESSES`, or None."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[guess] for guess in GUESSES[role] if guess in plain), None)


def refuse_doubled(table: TableFile) -> None:
    """Raise if two columns have the same name, since one would overwrite the other."""
    for name in table.columns:
        if name and table.columns.count(name) > 1:
            raise DataError(f"{table.path} has the column {name!r} more than once; rename one of them")


def _header_hint(table: TableFile) -> str:
    """Return what else may be wrong with a header that lacks a column."""
    if table.kind == "delimited" and len(table.columns) == 1:
        return (
            ", or, if this is several columns, say with --separator what is between them; if lines stand above the "
            "header, take them out"
        )
    if table.kind == "delimited" and any(map(_is_value, table.columns)):
        return ", or, if this is no header but a row, write a header line above it"
    if table.kind == "delimited" and any(re.search(r"[;\t|]", column) for column in table.columns):
        return ", or say with --separator what is between the columns"
    return ""


def _is_value(name: str) -> bool:
    """Return whether a column's name is a number or a time, as in a row and not in a header."""
    return bool(re.fullmatch(r"\d[\d.:+\-\sTZ]*", name.strip()))


def value_headers(table: TableFile, found: Mapping[str, str]) -> list[str]:
    """Return a warning if column names look like values, since the first row may be lost as a header."""
    if table.kind != "delimited" or not table.header_line or not any(map(_is_value, found.values())):
        return []
    return [
        f"{table.path.name}: its header, line {table.header_line}, holds numbers; if it is a row, it is lost so: write "
        "a header line above it"
    ]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.split(":")[0].casefold())


def columns_note(table: TableFile, found: Mapping[str, str]) -> str:
    """Return a sentence on which column was taken for which role."""
    pairs = ", ".join(f"{role} from {shorten(own, 40)!r}" for role, own in found.items())
    return f"{table.path.name}: {pairs}"
