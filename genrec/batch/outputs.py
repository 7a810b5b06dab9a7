"""The outputs of a batch job: a file of JSON Lines, or a folder of Parquet shards, each encrypted on request.

Rows come in blocks of a fixed number of users. A block is on the disk before the next one is taken. When a killed job
resumes, a partly written block is removed. An output has the suffix `.part` until it is complete:

    films.jsonl.part       → films.jsonl
    films.parquet.part/    → films.parquet/part-00000.parquet, ..., _genrec.json (the manifest, written last)

A Parquet shard cannot be appended to. So its rows are collected as JSON Lines in a hidden file, and converted to
Parquet when there are `SHARD_USERS` of them. A row is one user: `user`, and `recommendations` as a list of structs.

Only complete blocks are counted; the last one is read to check whether it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Protocol

import polars as pl

from genrec.signals.registry import SIGNALS
from genrec.storage.encryption import EncryptedFile, decrypt_blocks, encrypt_bytes
from genrec.storage.folders import flush, sync_folder, write_manifest

SHARD_USERS = 16_384
"""Users in a Parquet shard; a multiple of the users in a block."""

KIND = "recommendations"
"""The kind in the manifest of a folder of shards."""

SHARDS_MANIFEST = "_genrec.json"
"""The manifest of a folder of shards; Parquet readers skip names that begin with an underscore."""

SCHEMA = pl.Schema(
    {
        "user": pl.String(),
        "recommendations": pl.List(
            pl.Struct(
                {
                    "rank": pl.Int32,
                    "item": pl.String,
                    "title": pl.String,
                    "score": pl.Float64,
                    "signals": pl.Struct({name: pl.Float64() for name in SIGNALS}),
                    "how": pl.String,
                    "generated": pl.String,
                    "explanation": pl.String,  # null unless asked for
                }
            )
        ),
    }
)
"""The columns of a Parquet shard: the fields of a line of JSON."""


class Output(Protocol):
    """An output that takes blocks of rows and loses no complete block."""

    def recover(self) -> int:
        """Cut away what is not a whole block, and return how many rows there are."""
        ...

    def append(self, rows: bytes) -> None:
        """Write a block of lines; it is on the disk when this returns."""
        ...

    def finish(self) -> None:
        """Put the output in its place."""
        ...

    def close(self) -> None:
        """Let go of the files; also without `finish`."""
        ...


def open_output(out: Path, block_users: int, key: bytes | None) -> Output:
    """Return the output for a path: a folder of Parquet shards if it ends in .parquet, else JSON Lines.

    Args:
        out: the path; `.enc` at its end is ignored.
        block_users: users in each block but the last.
        key: encrypts the output.
    """
    if is_folder(out):
        return ParquetShards(out, block_users, key)
    return JsonLines(out, block_users, key)


def is_folder(out: Path) -> bool:
    """Return whether the output of this name is a folder of Parquet shards."""
    return out.name.removesuffix(".enc").endswith(".parquet")


def part_of(out: Path) -> Path:
    """Return the name of an output while it is incomplete."""
    return out.with_name(f"{out.name}.part")


class JsonLines:
    """One line of JSON for each user."""

    def __init__(self, out: Path, block_users: int, key: bytes | None) -> None:
        self._out = out
        self._journal = open_journal(part_of(out), block_users, key)

    def recover(self) -> int:
        """Cut away what is not a whole block, and return how many rows there are."""
        return self._journal.recover()

    def append(self, rows: bytes) -> None:
        """Write a block of lines."""
        self._journal.append(rows)

    def finish(self) -> None:
        """Rename the file into its place."""
        self._journal.end()
        put_in_place(part_of(self._out), self._out)

    def close(self) -> None:
        """Let go of the file."""
        self._journal.close()


class ParquetShards:
    """A folder of Parquet files of `SHARD_USERS` users each, and a manifest."""

    def __init__(self, out: Path, block_users: int, key: bytes | None) -> None:
        self._out, self._part = out, part_of(out)
        self._block_users, self._key = block_users, key
        self._part.mkdir(exist_ok=True)
        self._shard = self._gathered = 0
        self._journal: Journal | None = None

    def recover(self) -> int:
        """Cut away what is not a whole block, and return how many rows there are."""
        self._shard = 0
        while self._path().exists():
            self._shard += 1
        for leftover in self._part.glob(".*"):
            if leftover != self._journal_path():
                leftover.unlink()
        self._journal = open_journal(self._journal_path(), self._block_users, self._key)
        self._gathered = self._journal.recover()
        if self._gathered >= SHARD_USERS:  # killed with a whole shard together and not yet written
            self._write_shard()
        if not self._shard:
            return self._gathered
        # Only the last shard can be short: the job was killed between writing it and renaming the folder.
        last = read_shard(self._path(self._shard - 1), self._key).height
        return (self._shard - 1) * SHARD_USERS + last + self._gathered

    def append(self, rows: bytes) -> None:
        """Write a block of lines, and a shard when enough are together."""
        if self._journal is None:
            self._journal = open_journal(self._journal_path(), self._block_users, self._key)
        self._journal.append(rows)
        self._gathered += rows.count(b"\n")
        if self._gathered >= SHARD_USERS:
            self._write_shard()

    def finish(self) -> None:
        """Write the rest and the manifest, and rename the folder into its place."""
        if self._gathered or not self._shard:
            self._write_shard()
        self.close()
        self._journal_path().unlink(missing_ok=True)
        write_manifest(self._part, KIND, {"encrypted": self._key is not None}, SHARDS_MANIFEST)
        put_in_place(self._part, self._out)

    def close(self) -> None:
        """Let go of the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _write_shard(self) -> None:
        rows = b"".join(self._journal.blocks()) if self._journal is not None else b""
        write_shard(to_frame(rows), self._path(), self._key)
        self.close()
        self._journal_path().unlink(missing_ok=True)
        self._shard, self._gathered = self._shard + 1, 0

    def _path(self, shard: int | None = None) -> Path:
        ending = "" if self._key is None else ".enc"
        return self._part / f"part-{self._shard if shard is None else shard:05}.parquet{ending}"

    def _journal_path(self) -> Path:
        return self._part / f".part-{self._shard:05}.jsonl"


def to_frame(rows: bytes) -> pl.DataFrame:
    """Return lines of the output as a table of `SCHEMA`."""
    return pl.read_ndjson(rows, schema=SCHEMA) if rows else pl.DataFrame(schema=SCHEMA)


def write_shard(frame: pl.DataFrame, path: Path, key: bytes | None) -> None:
    """Write a shard to a hidden name, then rename it into its place."""
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    temporary = path.with_name(f".{path.name}.tmp")
    if key is None:
        with temporary.open("wb") as file:
            file.write(buffer.getvalue())
            flush(file)
    else:
        encrypt_bytes(buffer.getvalue(), temporary, key)
    put_in_place(temporary, path)


def read_shard(path: Path, key: bytes | None) -> pl.DataFrame:
    """Read a shard."""
    return pl.read_parquet(path if key is None else BytesIO(b"".join(decrypt_blocks(path, key))), glob=False)


class Journal(Protocol):
    """A file of blocks that is appended to."""

    def recover(self) -> int:
        """Cut away what is not a whole block, and return how many rows there are."""
        ...

    def append(self, rows: bytes) -> None:
        """Write a block; it is on the disk when this returns."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """Yield what was written."""
        ...

    def end(self) -> None:
        """Mark the end and close the file."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_journal(path: Path, block_users: int, key: bytes | None) -> Journal:
    """Open a file of blocks, encrypted where there is a key."""
    return PlainJournal(path, block_users) if key is None else EncryptedJournal(path, block_users, key)


class PlainJournal:
    """Lines, as they are."""

    def __init__(self, path: Path, block_users: int) -> None:
        self._file = path.open("a+b")
        self._block_users = block_users

    def recover(self) -> int:
        """Cut away what is not a whole block, and return how many rows there are."""
        rows = end = before = offset = 0
        self._file.seek(0)
        for lines, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            if lines % self._block_users == 0:
                rows, before, end = lines, end, offset
        if rows and not self._is_json(before, end):
            rows, end = rows - self._block_users, before
        self._file.truncate(end)
        return rows

    def append(self, rows: bytes) -> None:
        """Write a block."""
        self._file.write(rows)
        flush(self._file)

    def blocks(self) -> Iterator[bytes]:
        """Yield what was written, as one block."""
        self._file.seek(0)
        yield self._file.read()

    def end(self) -> None:
        """Close the file."""
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _is_json(self, start: int, end: int) -> bool:
        """Return whether bytes are lines of JSON; after a power cut, a block can have its length but not its bytes."""
        self._file.seek(start)
        try:
            for line in self._file.read(end - start).splitlines():
                json.loads(line)
        except ValueError:
            return False
        return True


class EncryptedJournal:
    """Lines, a block encrypted at a time."""

    def __init__(self, path: Path, block_users: int, key: bytes) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._sealed = EncryptedFile(self._file, key)
        self._block_users = block_users

    def recover(self) -> int:
        """Cut away what is not a whole block, and return how many rows there are."""
        count = end = 0
        for content, place in self._sealed.read():
            if content.count(b"\n") != self._block_users:
                break
            count, end = count + 1, place
        self._sealed.cut(end, count)
        return count * self._block_users

    def append(self, rows: bytes) -> None:
        """Write a block."""
        self._sealed.append(rows)
        flush(self._file)

    def blocks(self) -> Iterator[bytes]:
        """Yield what was written."""
        for content, _ in self._sealed.read():
            yield content

    def end(self) -> None:
        """Write the mark that nothing was cut off, and close the file."""
        self._sealed.append(b"", last=True)
        flush(self._file)
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def put_in_place(part: Path, out: Path) -> None:
    """Rename a finished file or folder, durably: a rename is on the disk when the folder around it is."""
    part.rename(out)
    sync_folder(out.parent)
