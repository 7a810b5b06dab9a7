"""RecBole's atomic files: tables whose header says the type of each column, such as `item_id:token`.

`.inter` is a log and `.item` a catalogue, with tabs between cells. A column of type `token_seq` or `float_seq` holds a
list with blanks between its parts. The format: https://recbole.io/docs/user_guide/data/atomic_files.html

A title is not a list, although RecBole types it `token_seq` too. So only columns that are always read as lists, the
categories, are divided at blanks.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from genrec.data.dialects import Dialect
from genrec.data.tables import TableFile, open_table

if TYPE_CHECKING:
    from genrec.data.raw import Columns

BLANK = " "
"""The delimiter between the parts of a list."""

_TYPED = re.compile(r"(?P<name>.+):(?P<type>token|token_seq|float|float_seq)")


def open_given(path: Path, all_keys: bool = False, dialect: Dialect | None = None) -> tuple[TableFile, frozenset[str]]:
    """Open a table as `open_table` does; if every column's name ends in one of RecBole's types, the types are removed.

    Returns:
        The table, and which of its columns hold lists with blanks between their parts.

    Raises:
        DataError: as `open_table` does.
    """
    table = open_table(path, all_keys=all_keys, dialect=dialect)
    found = [_TYPED.fullmatch(column) for column in table.columns]
    if not found or table.kind != "delimited":
        return table, frozenset()
    typed = [match for match in found if match is not None]
    if len(typed) < len(found):
        return table, frozenset()
    lists = frozenset(match["name"] for match in typed if match["type"].endswith("_seq"))
    return replace(table, columns=tuple(match["name"] for match in typed)), lists


def untyped(columns: Columns) -> Columns:
    """Return the column names that a user gave, without the types that follow them in the file's header."""
    given = {entry.name: getattr(columns, entry.name) for entry in fields(columns)}
    matches = {role: _TYPED.fullmatch(name) for role, name in given.items() if name is not None}
    return replace(columns, **{role: match["name"] for role, match in matches.items() if match is not None})
