"""The offline job: users stream in, recommendations stream out, and a kill loses no finished block.

Users are taken in the order given, in blocks of a fixed size; a block is decoded, written, and flushed to disk before
the next begins. A job that is started again with `resume` cuts off what was half written, skips the finished blocks,
and goes on; since blocks are the same, the output is byte for byte that of an unbroken job. A job's settings are kept
beside its output while it runs, so that a changed model, catalogue or option is refused, not mixed in.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from genrec.artefacts import read_json, write_json
from genrec.catalog import Catalog
from genrec.errors import ArtefactError, DataError
from genrec.recommendation import Recommendation
from genrec.recommender import Recommender, Settings
from genrec.splits import History

BLOCK_USERS = 128
"""Users in a block: what is decoded together, and the most that a kill can cost."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job did.

    Attributes:
        users: rows in the output.
        resumed: how many of them an earlier start had written.
        problems: users that needed a rule, each listed in the side file.
    """

    users: int
    resumed: int
    problems: int


def recommend_all(
    recommender: Recommender,
    histories: Iterable[History],
    out: Path,
    settings: Settings,
    *,
    fingerprint: Mapping[str, Any],
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Recommend for every user of a stream and write one JSON line for each, in the order of the stream.

    An item of a history that is not in the catalogue is left out of it, and a user whose history is or becomes empty
    gets popular items; both are listed with the reason in `<out>.problems.jsonl`.

    Args:
        recommender: who recommends.
        histories: who for; the same stream again when a job is resumed.
        out: the JSONL file.
        settings: how.
        fingerprint: what else the output depends on, such as the run's and the data's fingerprints.
        resume: go on with an unfinished job; a finished one is left as it is.
        progress: told how many users are done.

    Raises:
        ArtefactError: the output exists, another job is writing it, it was begun with other settings, or the disk is
            full.
    """
    job = {"settings": asdict(settings), "block_users": BLOCK_USERS, **fingerprint}
    part, mark, side = (out.with_name(f"{out.name}{ending}") for ending in (".part", ".job.json", ".problems.jsonl"))
    if out.exists():
        if resume and not part.exists():
            return Summary(users := _count_lines(out), users, _count_lines(side))
        raise ArtefactError(f"{out} exists; choose another --out, delete it, or add --resume to continue its job")
    stream = iter(histories)
    try:
        with _locked(mark, job, resume), part.open("ab") as file, side.open("ab") as notes:
            done = _cut_to_whole_blocks(file, part)
            problems = _cut_to_users(notes, side, done)
            resumed = done
            for _ in islice(stream, done):
                pass
            while block := list(islice(stream, BLOCK_USERS)):
                usable = [_usable(history, recommender.catalog) for history in block]
                for place, (_, problem) in enumerate(usable):
                    if problem:
                        problems += 1
                        line = {"place": done + place, "user": block[place].user, "problem": problem}
                        notes.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                _flush(notes)
                lists = recommender.recommend_many([history for history, _ in usable], settings)
                file.write(b"".join(to_line(user.user, found) for user, found in zip(block, lists, strict=True)))
                _flush(file)
                done += len(block)
                if progress is not None:
                    progress(done)
        if not problems:
            side.unlink()
        part.rename(out)
        mark.unlink()
    except OSError as error:
        raise ArtefactError(
            f"cannot write {out}: {error.strerror}; free some space or choose another place, then start again with "
            "--resume"
        ) from error
    return Summary(done, resumed, problems)


def to_line(user: str, recommendations: Sequence[Recommendation]) -> bytes:
    """Return one user's line of the output."""
    row = {"user": user, "recommendations": [entry.to_json() for entry in recommendations]}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def read_histories(path: Path, known: Callable[[set[str]], Iterator[History]]) -> Iterator[History]:
    """Yield the histories that a file asks for.

    Args:
        path: JSON Lines of `{"user": ..., "items": [...]}`, histories that may be newer than the data; or plain text
            with one user id a line, whose histories are looked up.
        known: looks up histories of users by their ids.

    Raises:
        DataError: the file cannot be read, a line is wrong, or a user is unknown.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; expected user ids, one a line, or JSON Lines") from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty; expected user ids, one a line, or JSON Lines of user and items")
    if path.suffix == ".jsonl":
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _history_of_line(path, number, line)
        return
    wanted = [line.strip() for line in lines if line.strip()]
    found = {history.user: history for history in known(set(wanted))}
    for number, user in enumerate(wanted, start=1):
        if user not in found:
            raise DataError(f"{path} line {number}: this user is not in the data; remove the line or prepare new data")
        yield found[user]


def _history_of_line(path: Path, number: int, line: str) -> History:
    try:
        row = json.loads(line)
        items = row["items"]
        if not isinstance(items, list):
            raise TypeError("items must be a list")
        return History(str(row["user"]), tuple(map(str, items)))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path} line {number}: {error}; expected {{"user": ..., "items": [...]}}') from error


def _usable(history: History, catalog: Catalog) -> tuple[History, str]:
    """Return what can be recommended from, and what was wrong, or nothing."""
    kept = tuple(item for item in history.items if item in catalog)
    unknown = len(history.items) - len(kept)
    if not unknown:
        return history, "" if kept else "the history is empty; popular items given"
    problem = f"{unknown} of {len(history.items)} items are not in the catalogue and were left out"
    return History(history.user, kept), problem if kept else f"{problem}; popular items given"


@contextmanager
def _locked(mark: Path, job: Mapping[str, Any], resume: bool) -> Iterator[None]:
    """Hold the job's mark, so that no second job writes the same output, and check that the job is the same one."""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        lock = mark.with_name(f".{mark.name}.lock").open("w")
    except OSError as error:
        raise ArtefactError(f"cannot write to {mark.parent}: {error.strerror}; choose another --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArtefactError(f"another job is writing {mark.name.removesuffix('.job.json')}; wait for it") from None
        plain = json.loads(json.dumps(job))
        if mark.exists():
            if not resume:
                raise ArtefactError(f"an unfinished job left {mark}; add --resume to continue it, or delete it")
            before = read_json(mark)
            if before != plain:
                changed = sorted(key for key in {*before, *plain} if before.get(key) != plain.get(key))
                raise ArtefactError(
                    f"the unfinished job had another {', '.join(changed)}; resume it with the same, or choose another "
                    "--out"
                )
        else:
            write_json(mark, plain)
            for ending in (".part", ".problems.jsonl"):
                mark.with_name(mark.name.removesuffix(".job.json") + ending).unlink(missing_ok=True)
        yield
        Path(lock.name).unlink(missing_ok=True)


def _cut_to_whole_blocks(file: Any, path: Path) -> int:
    """Cut a part file back to its whole blocks and return how many users those are."""
    users, size, lines = 0, 0, 0
    with path.open("rb") as written:
        offset = 0
        for line in written:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            lines += 1
            if lines % BLOCK_USERS == 0:
                users, size = lines, offset
    file.truncate(size)
    return users


def _cut_to_users(file: Any, path: Path, users: int) -> int:
    """Cut the side file back to the users that are done and return how many lines it keeps."""
    size = kept = 0
    with path.open("rb") as written:
        for line in written:
            if not line.endswith(b"\n") or json.loads(line)["place"] >= users:
                break
            size += len(line)
            kept += 1
    file.truncate(size)
    return kept


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _count_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)
