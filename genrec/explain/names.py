"""Names of items in sentences; a name stands between “ and ”, and these marks are used for nothing else.

A title is cleaned before it is quoted. Its own quotation marks would end the quotation early, and its marks of writing
direction would change the direction of the sentence.
"""

# ruff: noqa: RUF001 - quotation marks

from __future__ import annotations

import re
import unicodedata

from genrec.data.catalog import Item, clean_title

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""A word; each character of a script without blanks counts as one."""

_KEPT_MARKS = "\u200c\u200d"  # joiners, which Persian, Hindi and emoji are spelt with


def name_of(item: Item) -> str:
    """Return an item's name for quoting: one line, without quotation marks or marks of writing direction."""
    title = clean_title(item.label or item.title).replace("“", "‘").replace("”", "’")
    return "".join(one for one in title if unicodedata.category(one) != "Cf" or one in _KEPT_MARKS)


def quoted(item: Item) -> str:
    """Return an item's name between quotation marks."""
    return f"“{name_of(item)}”"


def named(text: str) -> list[str]:
    """Return the quoted names of a text, in order."""
    return re.findall("“([^“”]*)”", text)


def outside_quotes(text: str) -> str:
    """Return a text without its quoted names; the quotation marks stay."""
    return re.sub("“[^“”]*”", "“”", text)
