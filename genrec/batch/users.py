"""Who to recommend for: all users of a data folder, or those of a file, read a part at a time.

Every kind of `Users` is looked through once when it is opened, so that a bad line is told before the work begins, and
hands out any stretch of the stream afterwards. Memory does not grow with the number of users.

The easy mistake is `text.splitlines()`: it holds the whole file, and takes a U+2028 in a user's id for a line end.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import polars as pl

from genrec.data.prepared import HISTORIES
from genrec.data.splits import History, clean_taste
from genrec.errors import ConfigError, DataError
from genrec.storage.folders import read_manifest

USERS_READ = 8192
"""Users held at a time."""

LINES_PER_MARK = 1024
"""Lines between two places that a text file's reader remembers, so that a stretch is found without reading all."""

FORMATS = "user ids, one a line; .jsonl lines of user and items (or taste); or .parquet with the columns user and items"


class Users(Protocol):
    """A stream of users that can be entered anywhere."""

    @property
    def count(self) -> int:
        """How many users there are."""
        ...

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        ...


def open_users(name: str, data_folder: Callable[[], Path]) -> Users:
    """Open the users that the command line names.

    Args:
        name: `all`, or a file of one of the `FORMATS`.
        data_folder: finds the data folder; asked only where the histories are in it.

    Raises:
        DataError: the file cannot be read, or a row of it cannot be used.
        ArtefactError: the data folder is missing or damaged.
    """
    if name == "all":
        folder = data_folder()
        read_manifest(folder, "data")
        return ParquetUsers.open(folder / HISTORIES)
    file = Path(name)
    if file.suffix == ".parquet":
        return ParquetUsers.open(file)
    if file.suffix == ".jsonl":
        return JsonLinesUsers.open(file)
    return ListedUsers.open(file, data_folder)


def shard_span(shard: str, count: int, block_users: int = 1) -> tuple[int, int]:
    """Return the places of one shard: the i-th of n stretches, so that n outputs in a row are the whole output.

    Args:
        shard: "i/n", from 1.
        count: users in all.
        block_users: no block of so many users is divided, so that each is decoded as in the whole job, to the bit.

    Raises:
        ConfigError: it is not of that form.
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
    """A table with the columns user and items, such as a data folder's histories."""

    path: Path
    count: int

    @classmethod
    def open(cls, path: Path) -> ParquetUsers:
        """Check the table's columns and that no user or item is missing."""
        try:
            table = pl.scan_parquet(path, glob=False)
            schema = table.collect_schema()
            items = schema.get("items")
            if not _is_id(schema.get("user")) or not (isinstance(items, pl.List) and _is_id(items.inner)):
                raise DataError(f"{path} has {_shown(schema)}; expected user (text or whole number) and items (a list)")
            user_missing = pl.col("user").is_null()
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
        return cls(path.absolute(), _some(count, path))

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        table = pl.scan_parquet(self.path, glob=False).select(
            pl.col("user").cast(pl.String), pl.col("items").cast(pl.List(pl.String)).fill_null([])
        )
        for first in range(start, stop, USERS_READ):
            for user, items in table.slice(first, min(USERS_READ, stop - first)).collect().iter_rows():
                yield History(user, tuple(items))


@dataclass(frozen=True, slots=True)
class JsonLinesUsers:
    """Lines of `{"user": ..., "items": [...]}`: histories that may be newer than the data.

    A line may have a `taste`, a sentence in words, beside the items or in their place.
    """

    path: Path
    count: int
    marks: Sequence[int]

    @classmethod
    def open(cls, path: Path) -> JsonLinesUsers:
        """Check every line."""
        return cls(path.absolute(), *_look_through(path, _history_of_line))

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        return map(_history_of_line, _lines(self.path, self.marks, start, stop))


@dataclass(frozen=True, slots=True)
class ListedUsers:
    """User ids, one a line, whose histories are in the data folder.

    A user whom the data does not know has an empty history; a list of which it knows nobody is refused.
    """

    path: Path
    count: int
    marks: Sequence[int]
    table: Path

    @classmethod
    def open(cls, path: Path, data_folder: Callable[[], Path]) -> ListedUsers:
        """Check that the file is text and that its ids are the data's."""
        count, marks = _look_through(path, str.strip)
        folder = data_folder()
        read_manifest(folder, "data")
        users = cls(path.absolute(), count, marks, (folder / HISTORIES).absolute())
        if not any(history.items for history in users.histories(0, count)):
            raise DataError(f"none of the {count} users in {path} is in {folder}; give user ids as the log has them")
        return users

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        lines = _lines(self.path, self.marks, start, stop)
        table = pl.scan_parquet(self.table, glob=False).select("user", "items")
        while wanted := [line.strip() for line in islice(lines, USERS_READ)]:
            found = dict(table.filter(pl.col("user").is_in(wanted)).collect(engine="streaming").iter_rows())
            yield from (History(user, tuple(found.get(user, ()))) for user in wanted)


def _look_through(path: Path, parse: Callable[[str], object]) -> tuple[int, array[int]]:
    """Parse every line that is not blank; return how many there are, and the places of every 1,024th in the file."""
    marks = array("q")
    count = place = 0
    try:
        with path.open("rb") as file:
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
    row = json.loads(line)
    user, taste = row["user"], row.get("taste", "")
    items = row.get("items", []) if taste else row["items"]
    if not isinstance(taste, str):
        raise TypeError("taste must be text")
    if not isinstance(items, list):
        raise TypeError("items must be a list")
    for value in (user, taste, *items):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError("user and items must be texts or whole numbers")
        str(value).encode()  # half of a surrogate pair is a text that cannot be written
    try:
        return History(str(user), tuple(map(str, items)), taste=clean_taste(taste) if taste else "")
    except DataError as error:
        raise ValueError(str(error)) from error


def _is_id(kind: object) -> bool:
    return isinstance(kind, pl.DataType) and (kind == pl.String or kind.is_integer())


def _some(count: int, path: Path) -> int:
    if not count:
        raise DataError(f"{path} is empty; expected {FORMATS}")
    return count


def _shown(schema: pl.Schema) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in schema.items()) or "no columns"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
