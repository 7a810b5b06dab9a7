"""Who to recommend for: all users of a data folder, or those of a file, read a part at a time.

Every kind of `Users` is looked through once when it is opened, so that a bad line is told before the work begins, and
hands out any stretch of the stream afterwards. Memory does not grow with the number of users.

Lines are read from the open file, not by `text.splitlines()`, which would hold the whole file and end a line at a
U+2028 inside a user's id.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import polars as pl

from genrec.data.prepared import HISTORIES
from genrec.data.raw import guess_column
from genrec.data.splits import History, clean_taste
from genrec.data.tables import check_parquet, parquet_parts
from genrec.data.text_rows import WHOLE_DECIMAL, id_text
from genrec.errors import ConfigError, DataError
from genrec.storage.folders import fingerprint, read_manifest

logger = logging.getLogger(__name__)

USERS_READ = 8192
"""Users held at a time."""

LINES_PER_MARK = 1024
"""Lines between two places that a text file's reader remembers, so that a stretch is found without reading all."""

FORMATS = (
    "user ids, one a line; .jsonl lines of user and items (or taste); or .parquet, a file or a folder of files, with "
    "the columns user and items"
)


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
    if file.suffix == ".parquet" or file.is_dir():
        return ParquetUsers.open(file)
    if file.suffix == ".jsonl":
        return JsonLinesUsers.open(file)
    return ListedUsers.open(file, data_folder)


def users_fingerprint(file: Path) -> str:
    """Return what names the contents of a file of users, or of a folder of Parquet files."""
    if not file.is_dir():
        return fingerprint(file)
    lines = "".join(f"{part.relative_to(file).as_posix()}\0{fingerprint(part)}\n" for part in parquet_parts(file))
    return hashlib.sha256(lines.encode()).hexdigest()


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
        return cls(parts, _some(count, path))

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        # "7.0" is the id 7 that met a missing value on its way; in text as in decimals.
        whole = pl.element().cast(pl.String).str.replace(f"^{WHOLE_DECIMAL}$", "${1}")
        table = _scan(self.parts).select(
            pl.col("user").cast(pl.String).str.replace(f"^{WHOLE_DECIMAL}$", "${1}"),
            pl.col("items").list.eval(whole).fill_null([]),
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
    header: int = 0

    @classmethod
    def open(cls, path: Path, data_folder: Callable[[], Path]) -> ListedUsers:
        """Check that the file is text and that its ids are the data's."""
        count, marks = _look_through(path, _listed)
        folder = data_folder()
        read_manifest(folder, "data")
        users = cls(path.absolute(), count, marks, (folder / HISTORIES).absolute())
        first = next(users.histories(0, 1))
        if guess_column([first.user], "user") is not None and not first.items and count > 1:
            logger.warning("%s: its first line, %r, names the column and is no user", path, first.user)
            users = cls(users.path, count - 1, marks, users.table, header=1)
        if not any(history.items for history in users.histories(0, users.count)):
            several = "; its lines hold several cells, keep the one with the id" if _has_cells(first.user) else ""
            raise DataError(
                f"none of the {users.count} users in {path} is in {folder}; give user ids as the log has them{several}"
            )
        return users

    def histories(self, start: int, stop: int) -> Iterator[History]:
        """Yield the histories at the places from `start` until before `stop`."""
        lines = _lines(self.path, self.marks, start + self.header, stop + self.header)
        table = pl.scan_parquet(self.table, glob=False).select("user", "items")
        while wanted := [_listed(line) for line in islice(lines, USERS_READ)]:
            found = dict(table.filter(pl.col("user").is_in(wanted)).collect(engine="streaming").iter_rows())
            yield from (History(user, tuple(found.get(user, ()))) for user in wanted)


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


def _has_cells(line: str) -> bool:
    return any(separator in line for separator in ",;\t|")


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
        whole = isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            raise TypeError("user and items must be texts or whole numbers")
        str(value).encode()  # half of a surrogate pair is a text that cannot be written
    try:
        return History(id_text(user), tuple(map(id_text, items)), taste=clean_taste(taste) if taste else "")
    except DataError as error:
        raise ValueError(str(error)) from error


def _is_id(kind: object) -> bool:
    if not isinstance(kind, pl.DataType):
        return False
    # Decimals were whole numbers before they met a missing value; what else they are, the catalogue says.
    return kind.is_integer() or kind.is_decimal() or kind in (pl.String, pl.Categorical, pl.Enum)


def _some(count: int, path: Path) -> int:
    if not count:
        raise DataError(f"{path} is empty; expected {FORMATS}")
    return count


def _shown(schema: pl.Schema) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in schema.items()) or "no columns"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
