"""Lists in cells: how a column of genres or tags is written, recognised from the whole column.

Catalogues hold the same thing as `Drama|Comedy`, `Drama, Comedy`, `['Drama', 'Comedy']`, `[{"id": 1, "name": "Drama"}]`
and more. One cell is ambiguous: in one catalogue a comma is between genres, in another within a department's name. So
one style is found for the whole column, and is reported with examples.

Python's reader of literals is not enough: it reads `['Comedy' 'Drama']`, as NumPy prints two texts, as one text.
"""

# ruff: noqa: RUF001 - Chinese and Japanese have their own commas

from __future__ import annotations

import ast
import csv
import html
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from genrec.data.report import shorten
from genrec.data.text_rows import cell_text
from genrec.errors import ConfigError

BRACKETED, WHOLE = "brackets", "none"
SEPARATORS = ("|", "\n", "\t", " > ", " » ", "、", " / ", ";", "；", ",", "，")
"""The delimiters between the parts of a cell, the surest first."""

DOUBTFUL = (";", "；", ",", "，")
"""The delimiters that also occur within names; the others always divide."""

STYLES = (BRACKETED, WHOLE, *(separator.strip(" ") for separator in SEPARATORS))
"""How a column of lists can be written: as JSON or Python lists, not as lists, or with something in between."""

NAMES = ("name", "title", "label", "genre", "category", "tag", "value", "text", "description")
"""The keys tried, in this order, for the name of an object in a list."""

EMPTY = frozenset((
    *["n/a", "na", "nan", "none", "null", "nil", "undefined", "unspecified", "not available", "not specified"],
    *["-", "--", "---", ".", "?", "[]", "{}", "()", "(none)", "<na>", "#n/a", "\\n", "(not set)", "no category"],
    *["[none]", "[null]", "[nan]", "['']", '[""]', "(no genres listed)", "no genres listed"],
    *["uncategorized", "uncategorised"],
))  # fmt: skip
"""Cells and parts of lists that mean "no value", in upper or lower case."""

_PAIRS = {"[": "]", "{": "}", "(": ")"}
_TYPED = re.compile(r"(?:array|set|frozenset|list|tuple)\(\s*([\[({].*[\])}])?\s*(?:,\s*dtype=.*)?\)", re.DOTALL)
_NEIGHBOURS = re.compile(r"""(['"])\s+(['"])""")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def checked_style(style: str) -> str:
    """Return this module's name of a style.

    Raises:
        ConfigError: there is no such style.
    """
    found = {"json": BRACKETED, "python": BRACKETED, "tab": "\t", "\\t": "\t", "\\n": "\n"}.get(style, style.strip(" "))
    if found not in STYLES:
        listed = " ".join(separator.strip(" ") for separator in SEPARATORS if separator.strip())
        raise ConfigError([f"--category-lists is {style!r}; expected json, python, none, tab, or one of {listed}"])
    return found


def is_bracketed(cells: Sequence[Any]) -> bool:
    """Return whether the texts of a column are lists in square brackets."""
    texts = {cell.strip() for cell in cells if isinstance(cell, str)} - {""}
    return bool(texts) and all(text[0] == "[" and text[-1] == "]" for text in texts)


def style_of(cells: Sequence[Any]) -> str:
    """Return how the lists of a column are written.

    Args:
        cells: the column; native lists of the format (JSON Lines, Parquet) need no style and are ignored.
    """
    texts = {_unwrapped(html.unescape(cell).strip()) for cell in cells if isinstance(cell, str)}
    texts = {text for text in texts if text and not is_empty(text)}
    bracketed = sum(text[0] in _PAIRS and text[-1] == _PAIRS[text[0]] for text in texts)
    if texts and bracketed * 2 > len(texts):
        return BRACKETED
    for separator in SEPARATORS:
        sure = separator not in DOUBTFUL and any(separator in text for text in texts)
        if sure or (separator in DOUBTFUL and _parts_recur(texts, separator)):
            return separator.strip(" ")
    return WHOLE


def _parts_recur(texts: set[str], separator: str) -> bool:
    """Return whether the parts that a delimiter gives recur elsewhere, as genres do and halves of a name do not."""
    split = [tuple(part for part in map(str.strip, text.split(separator)) if part) for text in texts]
    several = [parts for parts in split if len(parts) > 1]
    counts = Counter(part for parts in split for part in set(parts))
    return bool(several) and sum(any(counts[part] > 1 for part in parts) for parts in several) * 2 >= len(several)


def split_cell(cell: Any, style: str) -> Iterator[str]:
    """Yield the parts of a cell as they are written, without those that mean "no value"."""
    for part in _flat(_parsed(cell, style)):
        text = cell_text(part)
        if not is_empty(text):
            yield text


def is_empty(text: str) -> bool:
    """Return whether a cell, or a part of a list, means "no value"."""
    return not text or text.casefold() in EMPTY


def told(column: str, cells: Sequence[Any], style: str, tidy: Callable[[str], str]) -> str:
    """Return a sentence on how a column was read, with three examples; empty if no cell holds a list.

    Args:
        column: its name.
        cells: its cells.
        style: from `style_of`.
        tidy: cleans a part in the same way as the items' categories.
    """
    examples: dict[str, str] = {}
    seen: set[str] = set()
    for cell in cells:
        if isinstance(cell, str):
            if cell in seen:  # a catalogue has few categories and many items
                continue
            seen.add(cell)
        parts = list(map(tidy, split_cell(cell, style)))
        written = cell_text(cell)
        if len(parts) > 1 or (parts and parts[0] != written):
            examples.setdefault(written, " + ".join(parts))
        if len(examples) == 3:
            break
    if not examples:
        return ""
    way = {BRACKETED: "in brackets", WHOLE: "of the format's own"}.get(style, f"with {style!r} between the parts")
    shown = "; ".join(f"{shorten(written, 40)} is {shorten(read, 40)}" for written, read in examples.items())
    return f"{column!r} holds lists {way} ({shown}); --category-lists names another way"


def _parsed(cell: Any, style: str) -> Any:
    if not isinstance(cell, str):
        return cell
    text = _unwrapped(cell.strip())
    if text[:1] in _PAIRS and (style == BRACKETED or (text.startswith("[") and style != WHOLE)):
        return _bracketed(text)
    if style in (BRACKETED, WHOLE):
        return text
    # A slash divides only with blanks around it; without them it is part of names such as Sausages/Sandwiches.
    return html.unescape(text).split(" / " if style == "/" else style)


def _unwrapped(text: str) -> str:
    """Return a list without the type name that Python or NumPy wrote around it, and without a second layer of JSON."""
    if found := _TYPED.fullmatch(text):
        return found[1] or "[]"
    if len(text) > 3 and text[0] == text[-1] == '"' and text[1] in _PAIRS:
        try:
            inner = json.loads(text)
        except ValueError:
            return text
        return inner.strip() if isinstance(inner, str) else text
    return text


def _bracketed(text: str) -> Any:
    """Return the parsed value of a text in brackets: JSON, a Python literal, or words between commas."""
    if _NEIGHBOURS.search(text) and "," not in text:
        return [one or other for one, other in _QUOTED.findall(text)]
    for read in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the user need not know of a backslash in a title
                return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    inner = text[1:].removesuffix(_PAIRS[text[0]])
    try:
        parts = next(csv.reader([inner.replace("\n", " ")], skipinitialspace=True), [])
    except csv.Error:
        parts = inner.split(",")
    return [part.strip().strip("'\"") for part in parts]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    elif isinstance(value, set | frozenset):
        yield from sorted(map(cell_text, value))
    elif isinstance(value, dict):
        name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), None)
        # There is no name: a mapping of numbers to names, as in Freebase, or only an id.
        texts = [part for part in value.values() if isinstance(part, str)] or list(value.values())
        yield from [name] if name is not None else map(cell_text, texts)
    else:
        yield value
