"""What mkdocs writes by itself: the command line's page from `--help`, the Python page from the public names.

A page asks for one by a comment, `<!-- command line -->` or `<!-- public names -->`. So neither page can fall behind.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill a page's generated parts in."""
    if "<!-- command line -->" in markdown:
        markdown = markdown.replace("<!-- command line -->", command_line())
    if "<!-- public names -->" in markdown:
        markdown = markdown.replace("<!-- public names -->", public_names())
    return markdown


def command_line() -> str:
    """Return every command with its options, as Markdown, from the texts that `--help` shows."""
    call = [sys.executable, "-m", "typer", "genrec.cli.main", "utils", "docs", "--name", "genrec"]
    text = subprocess.run(call, check=True, capture_output=True, text=True, encoding="utf-8").stdout  # noqa: S603
    return text.partition("\n")[2]  # the page has a title of its own


def public_names() -> str:
    """Return one mkdocstrings block for each public name: functions first, then types, then errors."""
    import genrec

    def order(name: str) -> tuple[int, str]:
        thing = getattr(genrec, name)
        is_error = isinstance(thing, type) and issubclass(thing, BaseException)
        return (2 if is_error else 1 if isinstance(thing, type) else 0), name

    names = [name for name in genrec.__all__ if not name.startswith("__")]
    return "\n\n".join(f"::: genrec.{name}" for name in sorted(names, key=order))
