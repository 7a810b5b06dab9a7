"""Delimited files with quote marks, by columns: only where each line is a whole row that is plainly quoted.

A file in which any line is not is read row by row (`genrec.data.text_rows`), which also says what is wrong. If every
line by itself is a row, the two readers cannot differ: no quote mark is open at a line's end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from genrec.data.text_files import TextFile

_PYTHON_BLANKS = "[\x1c-\x1f]"
"""White space for Python, but not for Polars; lines that hold it are left to Python."""


def read_clean_lines(
    text: TextFile, separator: str, width: int, header_line: int, places: Mapping[str, int]
) -> pl.DataFrame | None:
    """Read some columns of a file whose quote marks all stand around whole cells of one line.

    Args:
        text: the file.
        separator: the delimiter.
        width: the number of cells of a row.
        header_line: the line of the header.
        places: for each name wanted, the place of its cell, from 0.

    Returns:
        A frame with `line` and the names wanted, as text; None if the file needs the careful reader.
    """
    if text.faults or not header_line or len(separator) != 1 or separator in '"\r\n' or not separator.isascii():
        return None
    mark = re.escape(separator)
    cell = rf'(?:"(?:[^"\r]|"")*"|[^"\r{mark}]*)'
    row = rf"^{cell}(?:{mark}{cell}){{{width - 1}}}\r?$"
    # A carriage return inside a cell is no white space: the careful reader tells of it.
    empty = rf'(?:"[\s--\r]*"|[\s--[\r{mark}]]*)'
    blank = rf"^{empty}(?:{mark}{empty})*\r?$"
    line = pl.col("text")
    lines = (
        pl.scan_lines(text.readable, name="text", row_index_name="line", row_index_offset=1, glob=False)
        .filter(pl.col("line") > header_line)
        .with_columns(empty=line.str.contains(blank))
    )
    doubtful = line.str.contains(_PYTHON_BLANKS) | ~(pl.col("empty") | line.str.contains(row))
    if lines.select(doubtful.any()).collect(engine="streaming").item():
        return None
    cells = {name: line.str.extract(rf"^(?:{cell}{mark}){{{place}}}({cell})") for name, place in places.items()}
    return (
        lines.filter(~pl.col("empty"))
        .select("line", **{k: _bare(v) for k, v in cells.items()})
        .collect(engine="streaming")
    )


def _bare(cell: pl.Expr) -> pl.Expr:
    """Return a cell without the quote marks around it, doubled ones once."""
    inner = cell.str.strip_prefix('"').str.strip_suffix('"').str.replace_all('""', '"', literal=True)
    return pl.when(cell.str.starts_with('"')).then(inner).otherwise(cell)
