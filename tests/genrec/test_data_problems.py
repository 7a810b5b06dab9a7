"""The page on data problems and the readers' messages: neither is without the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data-problems.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)


def sources() -> str:
    """All string literals of the package, those that are written next to each other joined."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "genrec").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?r?"', "", text)


SOURCES = sources()


@pytest.mark.parametrize("message", MESSAGES)
def test_what_the_page_explains_is_what_the_readers_say(message: str) -> None:
    # `.csv` stands in a table of suffixes, and "it has:" before the file's own columns.
    part = {"expected one of .csv": "expected one of {', '.join(SUFFIXES)}"}.get(message, message)
    part = {"are read as day, month, year": "day, month, year"}.get(message, part)
    assert part in SOURCES


def test_the_reasons_for_which_rows_are_left_out_are_on_the_page() -> None:
    reasons = re.findall(r'(?:reason = |reason\()f?"([^"{]+)|, "(a [a-z][^"{]+|not [^"{]+|no [^"{]+)"', SOURCES)
    assert len(MESSAGES) == len(set(MESSAGES)) > 40
    assert reasons
    for flag in ("--separator", "--encoding", "--no-quotes", "--quotes", "--skip-bad-rows", "--category-lists"):
        assert flag in PAGE
        assert flag in SOURCES
