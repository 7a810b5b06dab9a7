"""Names of items in sentences: between “ and ”, and nothing else stands there.

The easy mistake is to let a title be more than a name: one with quotation marks of its own would end its quotation
early, and one with marks that turn the direction of writing would turn the sentence.
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
    """Return an item's name as it stands between quotation marks: one line, without marks that end or turn it."""
    title = clean_title(item.label or item.title).replace("“", "‘").replace("”", "’")
    return "".join(one for one in title if unicodedata.category(one) != "Cf" or one in _KEPT_MARKS)


def quoted(item: Item) -> str:
    """Return an item's name between quotation marks."""
    return f"“{name_of(item)}”"


def named(text: str) -> list[str]:
    """Return the names that a text gives between quotation marks, in order."""
    return re.findall("“([^“”]*)”", text)


def outside_quotes(text: str) -> str:
    """Return a text without what it names; the quotation marks stay."""
    return re.sub("“[^“”]*”", "“”", text)
