"""Changing finished outputs and folders: rows removed, user ids replaced, files decrypted.

New files are written beside the old ones under hidden names. When all are written, a log records the target of each;
only then are they renamed. A kill before the log changes nothing. After a kill behind the log, the next start finishes
the renaming. So a row and its count, or a file and its manifest, always agree.

Notes beside the rows are renumbered, too.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

from genrec.batch.outputs import KIND, SHARDS_MANIFEST, is_folder, part_of, put_in_place, read_shard, write_shard
from genrec.errors import ArtefactError
from genrec.storage.encryption import EncryptedFile, decrypt_blocks, is_encrypted
from genrec.storage.folders import flush, read_manifest, write_manifest

Change = Callable[[str], str | None]
"""Maps a user id to itself, to another id, or to None if the user's row is removed."""


def change_lines(source: Path, target: Path, change: Change, key: bytes | None, new_key: bytes | None) -> list[int]:
    """Copy an output of JSON Lines with other users.

    Args:
        source: what is read.
        target: what is written.
        change: what becomes of each user.
        key: decrypts the source.
        new_key: encrypts the target.

    Returns:
        The places of the rows that were left out.

    Raises:
        ArtefactError: the source does not open with the key, or a line is not one of an output.
    """
    gone: list[int] = []
    row = 0
    with target.open("w+b") as file:
        encrypted = None if new_key is None else EncryptedFile(file, new_key)
        for block in _blocks(source, key):
            kept = []
            for line in block.split(b"\n")[:-1]:
                try:
                    entry = json.loads(line)
                    user = change(entry["user"])
                    if user is not None and user != entry["user"]:
                        line = json.dumps({**entry, "user": user}, ensure_ascii=False).encode()
                except (ValueError, KeyError, TypeError) as error:
                    raise ArtefactError(
                        f"{source} row {row + 1} is not one that recommend writes; make it again"
                    ) from error
                if user is None:
                    gone.append(row)
                else:
                    kept.append(line + b"\n")
                row += 1
            content = b"".join(kept)
            if encrypted is not None:
                encrypted.append(content)
            else:
                file.write(content)
        if encrypted is not None:
            encrypted.append(b"", last=True)
        flush(file)
    return gone


def change_shard(frame: pl.DataFrame, change: Change) -> tuple[pl.DataFrame, list[int]]:
    """Return a shard with other users, and the places of the rows that were left out."""
    users = [change(user) for user in frame["user"].to_list()]
    changed = frame.with_columns(pl.Series("user", users, dtype=pl.String))
    return changed.filter(pl.col("user").is_not_null()), [row for row, user in enumerate(users) if user is None]


def change_notes(source: Path, target: Path, gone: Sequence[int]) -> Counter[str]:
    """Copy the list of users that needed a rule, without those whose rows are gone, and count what is left by kind."""
    kinds: Counter[str] = Counter()
    lost = frozenset(gone)
    with source.open("rb") as lines, target.open("wb") as file:
        for line in lines:
            try:
                note = json.loads(line)
                row = note["row"]
                if row in lost:
                    continue
                note["row"] = row - bisect_left(gone, row)
                kinds[note["kind"]] += 1
            except (ValueError, KeyError, TypeError) as error:
                raise ArtefactError(f"{source} is damaged ({error}); delete it, or make the output again") from error
            file.write(json.dumps(note, ensure_ascii=False).encode() + b"\n")
        flush(file)
    return kinds


def decrypt_output(source: Path, out: Path, change: Change, key: bytes | None) -> None:
    """Write an output anew, in the open.

    Args:
        source: a finished output.
        out: the same kind of output, without `.enc`.
        change: what becomes of each user.
        key: decrypts the source; None where it is not encrypted.

    Raises:
        ArtefactError: the source is missing, damaged, or does not open with the key; or the target exists or cannot
            be written.
    """
    check_key(source, key)
    if is_folder(source) != is_folder(out) or out.suffix == ".enc":
        kind = ".parquet" if is_folder(source) else ".jsonl"
        raise ArtefactError(f"--out is {out}; expected a name that ends in {kind}, as the output is one")
    part = part_of(out)
    if out.exists() or part.exists():
        raise ArtefactError(f"{out if out.exists() else part} exists; choose another --out or delete it")
    try:
        if is_folder(source):
            read_manifest(source, KIND, name=SHARDS_MANIFEST)
            part.mkdir(parents=True)
            for shard in shards_of(source):
                frame, _ = change_shard(open_shard(shard, key), change)
                write_shard(frame, part / shard.name.removesuffix(".enc"), None)
            write_manifest(part, KIND, {"encrypted": False}, SHARDS_MANIFEST)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            change_lines(source, part, change, key, None)
        put_in_place(part, out)
    except OSError as error:
        raise ArtefactError(f"cannot write {out}: {error.strerror}; free some space or choose another --out") from error
    finally:
        _remove(part)


def shards_of(folder: Path) -> list[Path]:
    """Return the shards of an output, in order."""
    return sorted(folder.glob("part-*"))


def open_shard(path: Path, key: bytes | None) -> pl.DataFrame:
    """Read a shard.

    Raises:
        ArtefactError: it is damaged, or does not open with the key.
    """
    try:
        return read_shard(path, key)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArtefactError(f"cannot read {path} ({error}); make the output again") from error


def check_key(output: Path, key: bytes | None) -> None:
    """Check that a key is given where an output is encrypted, and only there.

    Raises:
        ArtefactError: it is not so, or there is no such output.
    """
    files = shards_of(output) if is_folder(output) else [output]
    if not output.exists() or not files:
        raise ArtefactError(f"there is no output {output}; give one that recommend has finished")
    try:
        encrypted = is_encrypted(files[0])
    except OSError as error:
        raise ArtefactError(f"cannot read {files[0]}: {error.strerror}") from error
    if encrypted and key is None:
        raise ArtefactError(f"{output} is encrypted; give its key file with --key")
    if key is not None and not encrypted:
        raise ArtefactError(f"{output} is not encrypted; leave out --key")


def _blocks(path: Path, key: bytes | None) -> Iterator[bytes]:
    """Yield an output's lines, as many at a time as were written together where it is encrypted."""
    if key is not None:
        yield from decrypt_blocks(path, key)
        return
    with path.open("rb") as file:
        for line in file:
            yield line if line.endswith(b"\n") else line + b"\n"


def _remove(part: Path) -> None:
    """Delete what is half written; nothing, where it was put in place."""
    if part.is_dir():
        for file in part.iterdir():
            file.unlink()
        part.rmdir()
    else:
        part.unlink(missing_ok=True)
