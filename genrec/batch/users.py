"""The users of a job: all users of a data folder, or those of a file, read a part at a time.

Every kind of `Users` checks its whole input when it is opened, so that a bad line is reported before the work begins.
Afterwards it yields any range of the stream. Memory does not grow with the number of users.

Lines are read from the open file, not by `text.splitlines()`, which would hold the whole file in memory and break a
line at a U+2028 inside a user's id.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import polars as pl

from genrec.data.columns import guess_column
from genrec.data.dialects import Dialect
from genrec.data.json_lines import TwiceError, once
from genrec.data.parquet_files import check_parquet, parquet_parts
from genrec.data.prepared import HISTORIES
from genrec.data.splits import History, clean_taste
from genrec.data.text_files import TextFile, open_text
from genrec.data.text_rows import WHOLE_DECIMAL, id_text
from genrec.errors import ConfigError, DataError
from genrec.storage.folders import fingerprint, read_manifest

logger = logging.getLogger(__name__)

USERS_READ = 8192
"""Users held at a time."""

LINES_PER_MARK = 1024
"""Lines between two remembered offsets of a text file, so that a range is found without reading the whole file."""

FORMATS = (
    "user ids, one a line; .jsonl lines of user and items (or taste); or .parquet, a file or a folder of files, with "
    "the columns user and items"
)


class Users(Protocol):
    """A stream of users that can be read from any position."""

    @property
    def count(self) -> int:
        """How many users there are."""
        ...

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        ...


def open_users(name: str, data_folder: Callable[[], Path], dialect: Dialect | None = None) -> Users:
    """Open the users that the command line names.

    Args:
        name: `all`, or a file of one of the `FORMATS`.
        data_folder: returns the data folder; called only if the histories are there.
        dialect: what the user says of how a text file is written.

    Raises:
        DataError: the file cannot be read, or a row of it cannot be used.
        ArtefactError: the data folder is missing or damaged.
    """
    if name == "all":
        folder = data_folder()
        read_manifest(folder, "data")
        return ParquetUsers.open(folder / HISTORIES)
    file = Path(name)
    if file.suffix == ".parquet" or file.is_dir():
        return ParquetUsers.open(file)
    text = _readable(file, dialect or Dialect())
    if file.suffix == ".jsonl" or file.name.lower().split(".")[1:2] == ["jsonl"]:
        return JsonLinesUsers.open(text)
    return ListedUsers.open(text, data_folder, dialect.separator if dialect else None)


def users_fingerprint(file: Path) -> str:
    """Return the fingerprint of a file of users, or of a folder of Parquet files."""
    if not file.is_dir():
        return fingerprint(file)
    lines = "".join(f"{part.relative_to(file).as_posix()}\0{fingerprint(part)}\n" for part in parquet_parts(file))
    return hashlib.sha256(lines.encode()).hexdigest()


def shard_span(shard: str, count: int, block_users: int = 1) -> tuple[int, int]:
    """Return the start and the end (excluded) of shard i of n; the n outputs concatenated are the whole output.

    Args:
        shard: "i/n", from 1.
        count: users in all.
        block_users: users in a block; no block is divided, so that each is decoded exactly as in the whole job.

    Raises:
        ConfigError: `shard` has another form.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
    index, shards = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= shards:
        raise ConfigError([f"--shard is {shard!r}; expected i/n with i from 1 to n, such as 2/8"])
    blocks = -(-count // block_users)
    first, last = (part * blocks // shards * block_users for part in (index - 1, index))
    return min(first, count), min(last, count)


@dataclass(frozen=True, slots=True)
class ParquetUsers:
    """A table with the columns user and items, such as a data folder's histories; one file or several, by name."""

    parts: tuple[Path, ...]
    count: int

    @classmethod
    def open(cls, path: Path) -> ParquetUsers:
        """Check the table's columns and that no user or item is missing."""
        try:
            parts = tuple(part.absolute() for part in (parquet_parts(path) if path.is_dir() else (path,)))
            _check_parts(parts)
            table = _scan(parts)
            schema = table.collect_schema()
            items = schema.get("items")
            if not _is_id(schema.get("user")) or not (isinstance(items, pl.List) and _is_id(items.inner)):
                raise DataError(f"{path} has {_shown(schema)}; expected user (text or number) and items (a list)")
            user_missing = pl.col("user").is_null()
            if schema["user"].is_float():
                user_missing |= ~pl.col("user").is_finite()
            item_missing = pl.col("items").list.eval(pl.element().is_null()).list.any().fill_null(value=False)
            places = table.with_row_index("row").filter(user_missing | item_missing)
            count = table.select(pl.len()).collect(engine="streaming").item()
            missing, first = (
                places.select(pl.len(), pl.col("row").min().alias("first")).collect(engine="streaming").row(0)
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"cannot read {path}: {_first_line(error)}; expected {FORMATS}") from error
        if missing:
            raise DataError(f"{path} row {first + 1}: a user or an item is null (in {missing} rows); fill or drop it")
        return cls(parts, _some(count, path))

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        # "7.0" is the id 7 that met a missing value on its way; in text as in decimals.
        schema = _scan(self.parts).collect_schema()
        inner = schema["items"].inner  # type: ignore[attr-defined]
        table = _scan(self.parts).select(
            _id_of(pl.col("user"), schema["user"]), pl.col("items").list.eval(_id_of(pl.element(), inner)).fill_null([])
        )
        for first in range(start, stop, USERS_READ):
            for user, items in table.slice(first, min(USERS_READ, stop - first)).collect().iter_rows():
                yield History(user, tuple(items))


@dataclass(frozen=True, slots=True)
class JsonLinesUsers:
    """Lines of `{"user": ..., "items": [...]}`: histories that may be newer than the data.

    A line may have a `taste`, a sentence in words, beside the items or in their place.
    """

    text: TextFile
    count: int
    marks: Sequence[int]

    @classmethod
    def open(cls, text: TextFile) -> JsonLinesUsers:
        """Check every line."""
        return cls(text, *_look_through(text, _history_of_line))

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        return map(_history_of_line, _lines(self.text.readable, self.marks, start, stop))


@dataclass(frozen=True, slots=True)
class ListedUsers:
    """User ids, one a line, whose histories are in the data folder.

    A user who is not in the data has an empty history; a file without any known user is refused.
    """

    text: TextFile
    count: int
    marks: Sequence[int]
    table: Path
    header: int = 0
    separator: str | None = None
    cell: int = 0

    @classmethod
    def open(cls, text: TextFile, data_folder: Callable[[], Path], separator: str | None = None) -> ListedUsers:
        """Check that the file is text and that its ids are the data's.

        Args:
            text: the file.
            data_folder: finds the data folder.
            separator: what stands between the cells of a table whose user column is meant; None for ids alone.
        """
        path = text.path
        count, marks = _look_through(text, _listed)
        folder = data_folder()
        read_manifest(folder, "data")
        users = cls(text, count, marks, (folder / HISTORIES).absolute(), separator=separator)
        if separator is not None:
            names = [_listed(cell) for cell in next(_lines(text.readable, marks, 0, 1)).split(separator)]
            named = guess_column(names, "user")
            users = replace(users, cell=names.index(named) if named else 0)
        first = next(users.histories(0, 1))
        if guess_column([first.user], "user") is not None and not first.items and count > 1:
            logger.warning("%s: its first line, %r, names the column and is no user", path, first.user)
            users = replace(users, count=count - 1, header=1)
        if not any(history.items for history in users.histories(0, users.count)):
            cells = _has_cells(first.user)
            several = f"; its lines hold several cells, say with --separator {cells!r} what is between" if cells else ""
            raise DataError(
                f"none of the {users.count} users in {path} is in {folder}; give user ids as the log has them{several}"
            )
        return users

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        lines = _lines(self.text.readable, self.marks, start + self.header, stop + self.header)
        table = pl.scan_parquet(self.table, glob=False).select("user", "items")
        while wanted := [self._user(line) for line in islice(lines, USERS_READ)]:
            found = dict(table.filter(pl.col("user").is_in(wanted)).collect(engine="streaming").iter_rows())
            yield from (History(user, tuple(found.get(user, ()))) for user in wanted)

    def _user(self, line: str) -> str:
        if self.separator is None:
            return _listed(line)
        cells = line.rstrip("\r\n").split(self.separator)
        return _listed(cells[self.cell]) if self.cell < len(cells) else ""


def _readable(path: Path, dialect: Dialect) -> TextFile:
    """Return a file of users as lines of UTF-8, however it is packed and encoded.

    Raises:
        DataError: it is not text, or a line of it is not.
    """
    try:
        text = open_text(path, dialect.encoding)
    except DataError as error:
        raise DataError(f"{error}; expected {FORMATS}") from error
    for note in text.notes:
        logger.warning("%s", note)
    for line, fault in text.faults.items():
        raise DataError(
            f"{path} line {line}: {fault}; mend it, or name its encoding with --encoding; expected {FORMATS}"
        )
    return text


def _check_parts(parts: Sequence[Path]) -> None:
    for part in parts:
        try:
            check_parquet(part)
        except DataError as error:
            raise DataError(f"{error}; expected {FORMATS}") from error


def _scan(parts: Sequence[Path]) -> pl.LazyFrame:
    return pl.scan_parquet(list(parts), glob=False, hive_partitioning=False)


def _listed(line: str) -> str:
    """Return the id on a line, without the quote marks that a table's writer put around it."""
    text = line.strip()
    if len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1]
    return id_text(text)


def _has_cells(line: str) -> str:
    """Return what seems to stand between the cells of a line; nothing where it is one."""
    return next((separator for separator in ",;\t|" if separator in line), "")


def _look_through(text: TextFile, parse: Callable[[str], object]) -> tuple[int, array[int]]:
    """Parse every line that is not blank; return how many there are, and the places of every 1,024th in the file."""
    marks = array("q")
    count = place = 0
    path = text.path
    try:
        with text.readable.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    if count % LINES_PER_MARK == 0:
                        marks.append(place)
                    try:
                        parse(line.decode("utf-8-sig"))
                    except (ValueError, KeyError, TypeError, RecursionError) as error:
                        raise DataError(f"{path} line {number}: {_first_line(error)}; expected {FORMATS}") from error
                    count += 1
                place += len(line)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; expected {FORMATS}") from error
    return _some(count, path), marks


def _lines(path: Path, marks: Sequence[int], start: int, stop: int) -> Iterator[str]:
    """Yield the lines that are not blank, from the `start`-th until before the `stop`-th."""
    if start >= stop:
        return
    with path.open("rb") as file:
        file.seek(marks[start // LINES_PER_MARK])
        lines = (line.decode("utf-8-sig") for line in file if line.strip())
        yield from islice(lines, start % LINES_PER_MARK, start % LINES_PER_MARK + stop - start)


def _history_of_line(line: str) -> History:
    try:
        row = json.loads(line, object_pairs_hook=once)
    except TwiceError as error:
        raise ValueError(f"the key {error.args[0]!r} stands there twice") from error
    if not isinstance(row, dict):
        raise TypeError("not a JSON object")
    if missing := [key for key in ("user", *(() if row.get("taste") else ("items",))) if key not in row]:
        raise ValueError(f"there is no {missing[0]!r}")
    user, taste = row["user"], row.get("taste", "")
    items = row.get("items", []) if taste else row["items"]
    if not isinstance(taste, str):
        raise TypeError("taste must be text")
    if not isinstance(items, list):
        raise TypeError("items must be a list")
    for value in (user, taste, *items):
        if not (isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
            raise TypeError("user and items must be texts or numbers")
        str(value).encode()  # a lone surrogate cannot be written as UTF-8
    if not id_text(user):
        raise ValueError("the user is empty")
    try:
        return History(id_text(user), tuple(map(id_text, items)), taste=clean_taste(taste) if taste else "")
    except DataError as error:
        raise ValueError(str(error)) from error


def _is_id(kind: object) -> bool:
    if not isinstance(kind, pl.DataType):
        return False
    # Whole numbers become decimals beside a missing value; other decimals are checked against the catalogue.
    return kind.is_numeric() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)


def _id_of(cell: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return an id as text, the same as in a log: 7 for 7.0, whether it is a number or written so."""
    text = cell.cast(pl.String)
    if kind.is_float():
        whole = cell.cast(pl.Int64, strict=False)
        text = pl.when(whole.cast(kind) == cell).then(whole.cast(pl.String)).otherwise(text)
    return text.str.replace(f"^{WHOLE_DECIMAL}$", "${1}")


def _some(count: int, path: Path) -> int:
    if not count:
        raise DataError(f"{path} is empty; expected {FORMATS}")
    return count


def _shown(schema: pl.Schema) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in schema.items()) or "no columns"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
