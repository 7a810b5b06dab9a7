"""`genrec prepare`: a log and a catalogue become a data folder, and a report of what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from genrec.cli.common import EncodingOption, ListsOption, QuotesOption, SeparatorOption

ColumnOption = Annotated[str | None, typer.Option(show_default="guessed", rich_help_panel="Columns")]
VECTORS = "Vectors and pictures of items"
SplitChoice = Literal["leave-one-out", "global-time"]


def prepare(
    out: Annotated[Path, typer.Option(help="The data folder to make.")],
    interactions: Annotated[
        Path | None,
        typer.Option(
            help="The log: who took what when. CSV, TSV, JSON Lines, Parquet or RecBole's .inter; a folder of Parquet."
        ),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="The catalogue: ids, titles and whatever else; the other columns are kept.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME[:PATH]", help="A named source instead: ml-100k, or amazon-beauty:PATH."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Instead: what has come into the store of genrec serve."),
    ] = None,
    user_column: ColumnOption = None,
    item_column: ColumnOption = None,
    time_column: ColumnOption = None,
    rating_column: ColumnOption = None,
    id_column: ColumnOption = None,
    title_column: ColumnOption = None,
    category_column: ColumnOption = None,
    category_lists: ListsOption = None,
    separator: SeparatorOption = None,
    encoding: EncodingOption = None,
    quotes: QuotesOption = None,
    day_first: Annotated[
        bool | None,
        typer.Option(
            "--day-first/--month-first",
            help="Whether 03/04/2024 is a day of April or of March.",
            show_default="by the column, if it says",
        ),
    ] = None,
    min_rating: Annotated[float | None, typer.Option(help="Leave out ratings below this.", show_default="all")] = None,
    k_core: Annotated[int, typer.Option(help="Leave out users and items with fewer events, repeatedly.", min=0)] = 0,
    keep_repeats: Annotated[
        bool, typer.Option("--keep-repeats/--drop-repeats", help="An item that its user had taken before.")
    ] = True,
    keep_seen: Annotated[
        bool | None,
        typer.Option(
            "--keep-seen/--exclude-seen",
            help="Whether what a user took before may be recommended again, from training to serving.",
            show_default="if the data say that it is usual",
        ),
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used, and report them.")
    ] = False,
    item_vectors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Vectors of items, by a name of yours; repeatable: .parquet (item, vector), .safetensors, or .npy "
            "with FILE.ids.txt beside it.",
            rich_help_panel=VECTORS,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The catalogue's column with the paths of pictures, relative to the catalogue.",
            rich_help_panel=VECTORS,
        ),
    ] = None,
    image_encoder: Annotated[
        str,
        typer.Option(
            metavar="colours|HUB_ID|FOLDER",
            help="What makes vectors of pictures: colours is built in; or a sentence-transformers model such as CLIP.",
            rich_help_panel=VECTORS,
        ),
    ] = "colours",
    split: Annotated[SplitChoice, typer.Option(help="How histories are divided for tuning and testing.")] = (
        "leave-one-out"
    ),
    pseudonymise: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="Replace user ids; only this key file turns them back (genrec\\[privacy]). A missing one is made.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read a log and a catalogue, clean them, and write a data folder.

    Column names, and how text files are written, are guessed where they are not given; the guess is printed. Equal
    times keep the order of the file. Rows that cannot be used stop the command with their line numbers, unless
    --skip-bad-rows is given.

    [bold]Example:[/bold] genrec prepare --interactions log.csv --items films.csv --images poster --out data/films
    """
    from genrec.cli.common import read_or_announce_key
    from genrec.data.cleaning import Cleaning
    from genrec.data.dialects import dialects_of
    from genrec.data.listed_cells import checked_style
    from genrec.data.prepared import prepare as prepare_data
    from genrec.data.prepared import save_prepared
    from genrec.data.raw import Columns
    from genrec.errors import ConfigError
    from genrec.privacy.keys import Pseudonyms, read_key
    from genrec.privacy.keys import pseudonymise as with_pseudonyms
    from genrec.progress import progress_bar
    from genrec.storage.folders import check_target
    from genrec.storage.locks import locked

    lists = None if category_lists is None else checked_style(category_lists)
    dialects = dialects_of(separator, encoding, quotes)
    check_target(out, "data")  # before the work, not after it
    if pseudonymise is not None and pseudonymise.exists():
        read_key(pseudonymise)
    if store is not None and (interactions or items or dataset):
        raise ConfigError(["--store brings its own events and items; give either it or other sources, not both"])
    given = named_files(item_vectors or [])
    with locked(out), progress_bar("Reading pictures", show=images is not None) as bar:
        log, catalogue = (interactions, items) if store is None else _tables_of(store)
        data = prepare_data(
            interactions=log,
            items=catalogue,
            dataset=dataset,
            columns=Columns(
                user_column, item_column, time_column, rating_column, id_column, title_column, category_column, lists
            ),
            cleaning=Cleaning(min_rating, k_core, keep_repeats, skip_bad_rows, day_first),
            split=split,
            keep_seen=keep_seen,
            dialects=dialects,
            item_vectors=given,
            images=images,
            image_encoder=image_encoder,
            image_progress=lambda done, total: bar(done, total, f"{done:,} of {total:,} pictures"),
        )
        if pseudonymise is not None:
            data = with_pseudonyms(data, Pseudonyms(read_or_announce_key(pseudonymise)))
        save_prepared(data, out)
    typer.echo(data.report.to_text())
    typer.echo(f"  written to {out}")


def named_files(given: list[str]) -> dict[str, Path]:
    """Read NAME=FILE, repeatedly.

    Raises:
        ConfigError: a name or a file is missing, or a name is given twice.
    """
    from genrec.errors import ConfigError

    files: dict[str, Path] = {}
    for one in given:
        name, sign, path = one.partition("=")
        if not name or not sign or not path:
            raise ConfigError([f"the vectors are {one!r}, expected NAME=FILE, such as poster=posters.parquet"])
        if name in files:
            raise ConfigError([f"the vectors {name!r} are given twice; give each kind one name"])
        files[name] = Path(path)
    return files


def _tables_of(place: str) -> tuple[Any, Any]:
    """Return a store's events and items as tables."""
    from genrec.cli.common import open_known_store
    from genrec.serve.export import tables_of

    store = open_known_store(place)
    try:
        log, catalogue, left_out = tables_of(store)
    finally:
        store.close()
    if left_out:
        typer.echo(f"{left_out:,} events are left out: their items were never added")
    return log, catalogue
