"""The page on data problems and the readers' messages: neither is without the other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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
    assert message in SOURCES


READERS = (
    "text_files",
    "packing",
    "dialects",
    "text_rows",
    "json_lines",
    "parquet_files",
    "tables",
    "columns",
    "raw",
    "ids",
)


def literal(node: ast.AST) -> str:
    """The text of a message, `{}` where something is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def messages_of(module: Path) -> Iterator[str]:
    """What a module can say: in errors, of rows, in notes and warnings."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("DataError", "bad.add", "bad.add_many", "notes.append", "warnings.append", "remarks.append"):
            yield from (text for text in map(literal, node.args) if len(text.replace("{}", "")) > 12)


@pytest.mark.parametrize(
    "module", [*(f"data/{name}" for name in (*READERS, "columns", "cleaning", "times")), "batch/users"]
)
def test_what_the_readers_say_is_on_the_page(module: str) -> None:
    # What another message is put into says nothing of its own.
    frames = ("cannot read {}: {}; expected {}", "{} line {}: {}; expected {}", "{} is empty; expected {}")
    said = [text for text in messages_of(ROOT / "genrec" / f"{module}.py") if text not in frames]
    assert [text for text in said if not any(message in text for message in MESSAGES)] == []


def test_the_flags_that_the_page_names_are_there() -> None:
    assert len(MESSAGES) == len(set(MESSAGES)) > 40
    for flag in ("--separator", "--encoding", "--no-quotes", "--quotes", "--skip-bad-rows", "--category-lists"):
        assert flag in PAGE
        assert flag in SOURCES
