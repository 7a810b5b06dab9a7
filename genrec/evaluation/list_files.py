"""Files of recommendations, of genrec or another system, read for the evaluation.

Two forms are read: JSON Lines as `genrec recommend` writes them (only `user` and each recommendation's `item` are
used), and flat tables with the columns user, item and rank as CSV, TSV or Parquet. A folder is read as Parquet shards.

A user who is missing in the file stays in the evaluation: `lists_for_cases` gives such a user an empty list, which is a
miss.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from genrec.batch.outputs import KIND, SHARDS_MANIFEST
from genrec.data.dialects import Dialect
from genrec.data.parquet_files import check_parquet, parquet_parts
from genrec.data.splits import Case
from genrec.data.tables import open_table, read_columns
from genrec.data.text_files import TextFile, open_text
from genrec.data.text_rows import WHOLE_DECIMAL, id_text
from genrec.errors import DataError
from genrec.storage.folders import read_manifest

COLUMNS = ("user", "item", "rank")
"""The columns of a flat table; ranks count upwards from the best."""

FORMATS = ".jsonl, .csv, .tsv, .parquet or a folder of Parquet files"

logger = logging.getLogger(__name__)

Ranking = tuple[str, ...]


def read_recommendations(path: Path, dialect: Dialect | None = None) -> dict[str, Ranking]:
    """Return each user's ranked item ids, best first.

    Args:
        path: a file or folder in one of the `FORMATS`.
        dialect: what the user says of how a text file is written.

    Raises:
        DataError: the file is missing, its format is unknown, or a row is invalid.
        ArtefactError: the path is a folder that `genrec recommend` wrote, and it is damaged.
    """
    if not path.exists():
        raise DataError(f"there is no file {path}; expected recommendations as {FORMATS}")
    if path.suffix == ".enc":
        raise DataError(f"{path} is encrypted; decrypt it first: genrec decrypt --recommendations {path} --key ...")
    if path.is_dir() and (path / SHARDS_MANIFEST).exists():
        read_manifest(path, KIND, name=SHARDS_MANIFEST)
    if path.suffix == ".jsonl":
        return _collect(path, _json_rows(path, open_text(path, dialect.encoding if dialect else None)))
    return _collect(path, _table_rows(path, _read_table(path, dialect)))


def lists_for_cases(cases: Sequence[Case], recommendations: Mapping[str, Ranking], source: str) -> list[Ranking]:
    """Return one list for each case, in order; empty where the user got no recommendation.

    Args:
        cases: the cases that will be evaluated.
        recommendations: from `read_recommendations`.
        source: their file, for messages.

    Raises:
        DataError: none of the users has a case, so the ids must be of another kind.
    """
    users = [case.history.user for case in cases]
    found = sum(user in recommendations for user in users)
    if not found:
        raise DataError(
            f"none of the {len(recommendations)} users in {source} ({_some(recommendations)}) is among the "
            f"{len(cases)} evaluated ones ({_some(users)}); use the same user ids as the log"
        )
    if found < len(users):
        absent = len(users) - found
        logger.warning("%s has no list for %d of %d users; each counts as a miss", source, absent, len(users))
    return [recommendations.get(user, ()) for user in users]


def _json_rows(path: Path, text: TextFile) -> Iterator[tuple[str, str, float]]:
    """Yield (user, item, rank) from JSON Lines; the rank is the place in the list, or `rank` where it is given."""
    done: set[str] = set()
    with text.readable.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if number in text.faults:
                raise DataError(f"{path} line {number}: {text.faults[number]}; mend it, or name the --encoding")
            if not line.strip():
                continue
            try:
                user, ranked = _read_line(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f'{path} line {number}: expected {{"user": ..., "recommendations": [{{"item": ...}}, ...]}} '
                    f"({type(error).__name__}: {error})"
                ) from None
            if user in done:
                raise DataError(f"{path} line {number}: user {user!r} has a second line; give each user one")
            done.add(user)
            for item, rank in ranked:
                yield user, item, rank


def _read_line(row: Mapping[str, Any]) -> tuple[str, list[tuple[str, float]]]:
    listed = enumerate(row["recommendations"], 1)
    ranked = [(id_text(entry["item"]), float(entry.get("rank", place))) for place, entry in listed]
    if any(math.isnan(rank) for _, rank in ranked):
        raise ValueError("a rank is not a number")
    return id_text(row["user"]), ranked


def _read_table(path: Path, dialect: Dialect | None) -> pl.DataFrame:
    try:
        if path.is_dir() or path.suffix == ".parquet":
            parts = parquet_parts(path) if path.is_dir() else (path,)
            for part in parts:
                check_parquet(part)
            return pl.read_parquet(list(parts), glob=False, hive_partitioning=False)
        if path.suffix in {".csv", ".tsv"}:
            return _read_text_table(path, dialect)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"cannot read {path} as a table of user, item, rank: {str(error).splitlines()[0]}") from None
    raise DataError(f"the format of {path} is not known; give recommendations as {FORMATS}")


def _read_text_table(path: Path, dialect: Dialect | None) -> pl.DataFrame:
    try:
        table = open_table(path, dialect=dialect)
    except DataError as error:
        raise DataError(f"cannot read recommendations: {error}") from error
    if missing := [name for name in COLUMNS if name not in table.columns]:
        found = ", ".join(table.columns)
        raise DataError(f"{path} has no column {', '.join(missing)}; expected user, item, rank, found {found}")
    frame, dropped = read_columns(table, {name: name for name in COLUMNS})
    if dropped:
        raise DataError(f"{path} line {dropped[0].lines[0]}: {dropped[0].reason}; correct the file")
    ids = pl.col("user", "item").str.replace(f"^{WHOLE_DECIMAL}$", "${1}").replace("", None)
    return frame.with_columns(ids).drop("line")


def _table_rows(path: Path, table: pl.DataFrame) -> Iterator[tuple[str, str, float]]:
    if "recommendations" in table.columns and "user" in table.columns:
        # Parquet of `genrec recommend`: one row a user, the same fields as a line of JSON.
        filled = table.select("user", "recommendations").filter(pl.col("recommendations").list.len() > 0)
        table = filled.explode("recommendations").unnest("recommendations")
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; expected user, item, rank, found {', '.join(table.columns)}"
        )
    flat = table.select(
        pl.col("user").cast(pl.String), pl.col("item").cast(pl.String), pl.col("rank").cast(pl.Float64, strict=False)
    )
    for number, (user, item, rank) in enumerate(flat.iter_rows(), 1):
        if user is None or item is None or rank is None or math.isnan(rank):
            raise DataError(f"{path} row {number}: user, item and rank must be given, rank as a number")
        yield user, item, rank


def _collect(path: Path, rows: Iterator[tuple[str, str, float]]) -> dict[str, Ranking]:
    ranked: dict[str, list[tuple[float, str]]] = {}
    for user, item, rank in rows:
        ranked.setdefault(user, []).append((rank, item))
    if not ranked:
        raise DataError(f"{path} holds no recommendations; expected {FORMATS} with at least one row")
    # A stable sort by rank alone: rows of equal rank keep the order of the file.
    return {user: tuple(item for _, item in sorted(pairs, key=_rank)) for user, pairs in ranked.items()}


def _rank(pair: tuple[float, Any]) -> float:
    return pair[0]


def _some(users: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(list(users)[:3]) + (", ..." if len(users) > 3 else "")
