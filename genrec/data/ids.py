"""Ids as files have them: damage by number formats, placeholders for unknown users, and guesses at the intended id.

Ids are compared as they are written, since the shop must find its own ids in what genrec recommends. Only "7.0" becomes
7. Anything else that looks wrong is reported and not repaired. A user's id is never shown, except for placeholder
words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import polars as pl

from genrec.data.codes import names_of
from genrec.data.report import shorten
from genrec.data.text_rows import WHOLE_DECIMAL

ROUNDED = r"^-?\d[.,]\d+E\+\d+$|^#+$"
"""What a spreadsheet writes for a long number, and in a column that is too narrow."""

NOBODY = ("NA", "N/A", "n/a", "na", "none", "unknown", "Unknown", "anonymous", "Anonymous", "guest", "Guest", "-", "-1")
"""Words written for an unknown user; they may be real ids, so they are reported."""


def tidy_ids(file: str, events: pl.DataFrame) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Return a log's events with "7.0" as "7" again, in users and items, with notes and warnings on its ids.

    Args:
        file: the log's name in messages.
        events: with `line`, `user` and `item`, as text or coded (`genrec.data.codes`).

    Returns:
        The events, notes, and warnings.
    """
    notes, warnings = [], []
    for role in ("user", "item"):
        if not _doubtful(names_of(events[role])):
            continue
        events = events.with_columns(pl.col(role).cast(pl.String))
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
    if names_of(events["user"]).is_in(NOBODY).any():
        nobody = events["user"].cast(pl.String).is_in(NOBODY)
        word = events["user"].filter(nobody)[0]
        warnings.append(
            f"{file}: {_rows(events, nobody)} the user {word!r}; if that is nobody, leave such rows out, or they "
            "become one person's history"
        )
    return events, notes, warnings


def _doubtful(names: pl.Series) -> bool:
    """Return whether any id of a column needs the checks of `tidy_ids`."""
    beyond = names.str.len_bytes() != names.str.len_chars()
    return bool(beyond.any() or names.str.contains(f"^{WHOLE_DECIMAL}$").any() or names.str.contains(ROUNDED).any())


def meant(item: str, ids: Iterable[str]) -> str | None:
    """Return the catalogue's id that was probably meant by an unknown item, or None."""
    key = _key(item)
    return next((other for other in ids if _key(other) == key), None)


def _key(text: str) -> str:
    """Return an id without what programs add or remove: case, invisible characters, zeros, decimals."""
    plain = _seen(unicodedata.normalize("NFKC", text)).casefold().strip(" '\"")
    if re.fullmatch(r"\d(\.\d+)?e\+?\d{1,2}", plain) and float(plain) < 2**53:
        plain = f"{float(plain):.0f}"
    plain = re.sub(r"^(\d+)\.0+$", r"\1", plain)
    return plain.lstrip("0") or "0" if plain.isdigit() else plain


def _seen(text: str) -> str:
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))


def _twins(column: pl.Series) -> list[str]:
    """Return the ids that differ from another id only in invisible characters or in the composition of letters."""
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
