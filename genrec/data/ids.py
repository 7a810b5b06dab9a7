"""Ids as files have them: what became a number or a nobody on its way, and which id was probably meant.

Ids are compared as they are written, since what genrec recommends must be found again by the shop that wrote them. Only
"7.0" becomes 7. Whatever else looks wrong is told and not mended. A user's id is never shown, but for words that name
nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import polars as pl

from genrec.data.report import shorten
from genrec.data.text_rows import WHOLE_DECIMAL

ROUNDED = r"^-?\d[.,]\d+E\+\d+$|^#+$"
"""What a spreadsheet makes of a long number, and writes where a column is too narrow."""

NOBODY = ("NA", "N/A", "n/a", "na", "none", "unknown", "Unknown", "anonymous", "Anonymous", "guest", "Guest", "-", "-1")
"""Words that stand where a user is not known; they may be ids, and are told."""


def tidy_ids(file: str, events: pl.DataFrame) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Return a log's events with "7.0" as "7" again, in users and items, and what is to be told of its ids.

    Args:
        file: the log, as it is told.
        events: with `line`, `user` and `item`, as text.

    Returns:
        The events, notes, and warnings.
    """
    notes, warnings = [], []
    for role in ("user", "item"):
        decimal = events[role].str.contains(f"^{WHOLE_DECIMAL}$").fill_null(value=False)
        if decimal.any():
            shown = "" if role == "user" else f" such as {events[role].filter(decimal)[0]!r}"
            notes.append(f"{file}: {role} ids{shown} that end in .0 are read without it")
            events = events.with_columns(pl.col(role).str.replace(f"^{WHOLE_DECIMAL}$", "${1}"))
        rounded = events[role].str.contains(ROUNDED).fill_null(value=False)
        if rounded.any():
            warnings.append(
                f"{file}: {_rows(events, rounded)} {role} ids that a spreadsheet rounded, such as 1.23457E+11, so that "
                "several may have become one; export ids as text"
            )
        if twins := _twins(events[role]):
            warnings.append(
                f"{file}: {len(twins):,} {role} id{'s differ' if len(twins) > 1 else ' differs'} from another only by "
                f"what cannot be seen ({_rows(events, events[role].is_in(twins))} such); write each id in one way"
            )
    nobody = events["user"].is_in(NOBODY)
    if nobody.any():
        word = events["user"].filter(nobody)[0]
        warnings.append(
            f"{file}: {_rows(events, nobody)} the user {word!r}; if that is nobody, leave such rows out, or they "
            "become one person's history"
        )
    return events, notes, warnings


def meant(item: str, ids: Iterable[str]) -> str | None:
    """Return the catalogue's id that an unknown item was probably meant to be, or None."""
    key = _key(item)
    return next((other for other in ids if _key(other) == key), None)


def _key(text: str) -> str:
    """Return an id without what programs add to ids or take from them: case, signs unseen, zeros, decimals."""
    plain = _seen(unicodedata.normalize("NFKC", text)).casefold().strip(" '\"")
    if re.fullmatch(r"\d(\.\d+)?e\+?\d{1,2}", plain) and float(plain) < 2**53:
        plain = f"{float(plain):.0f}"
    plain = re.sub(r"^(\d+)\.0+$", r"\1", plain)
    return plain.lstrip("0") or "0" if plain.isdigit() else plain


def _seen(text: str) -> str:
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))


def _twins(column: pl.Series) -> list[str]:
    """Return the ids that are another id but for letters that cannot be seen or are put together otherwise."""
    beyond = column.filter((column.str.len_bytes() != column.str.len_chars()).fill_null(value=False)).unique()
    plain: dict[str, list[str]] = {}
    for one in beyond.to_list():
        plain.setdefault(unicodedata.normalize("NFC", _seen(one)).strip(), []).append(one)
    there = set(column.filter(column.is_in(list(plain))).unique().to_list()) if plain else set()
    return sorted(one for key, ones in plain.items() for one in ones if one != key and (key in there or len(ones) > 1))


def _rows(events: pl.DataFrame, where: pl.Series) -> str:
    count = int(where.sum())
    first = ", ".join(map(str, events["line"].filter(where).head(3).to_list()))
    more = ", ..." if count > 3 else ""
    return f"{count:,} row{'s' if count > 1 else ''} ({shorten(first + more)}) {'have' if count > 1 else 'has'}"
