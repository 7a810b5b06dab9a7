"""`genrec add-items`: new items become recommendable, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import BaseOption, EncodingOption, ListsOption, QuotesOption, RunOption, SeparatorOption

ColumnOption = Annotated[str | None, typer.Option(show_default="guessed", rich_help_panel="Columns")]


def add_items(
    run: RunOption,
    items: Annotated[
        Path, typer.Option(help="The new items: ids, titles and whatever else. CSV, TSV, Parquet or JSON Lines.")
    ],
    out: Annotated[Path, typer.Option(help="The run folder to make; the given one stays as it is.")],
    id_column: ColumnOption = None,
    title_column: ColumnOption = None,
    category_column: ColumnOption = None,
    category_lists: ListsOption = None,
    separator: SeparatorOption = None,
    encoding: EncodingOption = None,
    quotes: QuotesOption = None,
    skip_bad_rows: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used.")] = False,
    base: BaseOption = None,
) -> None:
    """Add new items to a run; nothing is trained, and they can be recommended at once.

    [bold]Example:[/bold] genrec add-items --run runs/films --items new.csv --out runs/films-2
    """
    from genrec.data.dialects import dialects_of
    from genrec.data.listed_cells import checked_style
    from genrec.data.raw import Columns, read_catalogue
    from genrec.runs.grow import add_to_run

    lists = None if category_lists is None else checked_style(category_lists)
    columns = Columns(id=id_column, title=title_column, category=category_column, category_lists=lists)
    dialect = dialects_of(separator, encoding, quotes).get("items")
    notes: list[str] = []  # said when the run is written: a reader who has gone away then costs nothing
    found = read_catalogue(items, columns, skip_bad_rows, dialect, notes.append)
    total = add_to_run(run, found, out, base)
    for note in notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"{total.added} items added, {total.items} in all; written to {out}")
