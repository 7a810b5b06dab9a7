"""The batch job: users stream in, recommendations stream out, and a kill loses no finished block.

Users are read in the given order, in blocks of a fixed size. A block is decoded, written, and flushed to disk before
the next begins. With `resume`, a job truncates a partly written block, skips the finished blocks, and continues. Since
the blocks are the same, the output is byte for byte that of a job that was not interrupted. Beside the output,
`<out>.job.json` records the model, the catalogue, the options, the number format and the kind of device. If any of them
has changed, resuming is refused. `<out>.problems.jsonl` lists the users for whom a rule was applied.

This module knows a stream of blocks, not their maker: one process (`genrec.batch.worker`) or many (`genrec.batch.ray`).
"""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from genrec.batch.outputs import open_output, part_of
from genrec.batch.worker import BLOCK_USERS, Block, Worker
from genrec.data.splits import History
from genrec.errors import ArtefactError, keeping
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.storage.folders import flush, read_json, sync_folder, write_json
from genrec.storage.locks import locked


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of a finished job.

    Attributes:
        users: rows in the output.
        resumed: how many of them an earlier start had written.
        problems: how often each rule was applied; the side file lists the users.
    """

    users: int
    resumed: int
    problems: Mapping[str, int] = field(default_factory=dict)


def recommend_all(
    recommender: Recommender,
    histories: Callable[[int], Iterator[History]],
    out: Path,
    settings: Settings,
    *,
    fingerprint: Mapping[str, Any],
    block_users: int = BLOCK_USERS,
    users: int = 0,
    **options: Any,
) -> Summary:
    """Recommend for every user of a stream, in this process.

    Args:
        recommender: the recommender.
        histories: returns the stream of users from a given position.
        out: see `run_job`.
        settings: how to recommend.
        fingerprint: everything else on which the output depends, such as the run's and the users' fingerprints.
        block_users: users decoded together.
        users: the number of users of the whole job, of all shards.
        options: see `run_job`.

    Raises:
        ArtefactError: see `run_job`.
    """
    work = Worker(recommender, settings, users)

    def blocks(start: int) -> Iterator[Block]:
        stream = histories(start)
        while block := list(islice(stream, block_users)):
            yield work(block)

    job = {"settings": asdict(settings), **recommender.computing.to_json(), **fingerprint}
    return run_job(blocks, out, job, block_users=block_users, **options)


def run_job(
    blocks: Callable[[int], Iterator[Block]],
    out: Path,
    job: Mapping[str, Any],
    *,
    block_users: int = BLOCK_USERS,
    resume: bool = False,
    key: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Write every block of a stream, each exactly once.

    Args:
        blocks: makes the blocks from a given position; they must be the same when a job is resumed.
        out: a name for JSON Lines, or one that ends in `.parquet` for a folder of Parquet shards.
        job: everything on which the output depends, as JSON values.
        block_users: users in each block but the last.
        resume: continue an unfinished job; a finished one is left unchanged.
        key: encrypts the output, and keeps user ids out of the side file.
        progress: called with the number of users done, and how many of them were done before resuming.

    Raises:
        ArtefactError: the output exists, another job is writing it, it was started with other settings, or the disk is
            full.
    """
    job = json.loads(json.dumps({**job, "block_users": block_users, "encrypted": key is not None}))
    try:
        with locked(out):
            finished = _begin(out, job, resume)
            if finished is not None:
                return finished
            kept = keeping("what was finished is kept; start again with --resume")
            with kept, closing(open_output(out, block_users, key)) as output, side_of(out).open("a+b") as side:
                resumed = done = output.recover()
                problems = _cut_to_rows(side, done)
                for block in blocks(done):
                    for note in block.notes:
                        problems[note.kind] += 1
                        who = {} if key is not None else {"user": note.user}
                        line = {"row": done + note.row, **who, "kind": note.kind, "problem": note.problem}
                        side.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                    flush(side)
                    output.append(block.rows)
                    done += block.users
                    if progress is not None:
                        progress(done, resumed)
                if not problems:
                    side_of(out).unlink()
                # Written before the output is renamed: a reader who finds the output also finds its final record.
                write_json(record_of(out), {**job, "users": done, "problems": dict(problems)})
                output.finish()
    except OSError as error:
        raise ArtefactError(
            f"cannot write {out}: {error.strerror}; free some space or choose another place, then start again with "
            "--resume"
        ) from error
    return Summary(done, resumed, dict(problems))


def begun_in(out: Path, job: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """Return the record of the job to continue: the output's own, or another shard's beside it; None without any.

    Call this before the model is loaded: the record decides the kind of device and the number format.

    Args:
        out: see `run_job`.
        job: the job's values that are known by then.
        resume: see `run_job`.

    Raises:
        ArtefactError: the record is damaged.
    """
    if resume and record_of(out).exists():
        return read_record(out)
    return next(_other_shards(out, job), None)


def record_of(out: Path) -> Path:
    """Return the path of an output's record: the model, options and data it was made with."""
    return out.with_name(f"{out.name}.job.json")


def side_of(out: Path) -> Path:
    """Return the path of the file that lists the users for whom a rule was applied."""
    return out.with_name(f"{out.name}.problems.jsonl")


def _begin(out: Path, job: Mapping[str, Any], resume: bool) -> Summary | None:
    """Check that a job may start or resume; return its summary if it is already finished."""
    record, part = record_of(out), part_of(out)
    for leftover in record.parent.glob(f".{glob.escape(record.name)}.*.tmp"):  # of a job that was killed
        leftover.unlink(missing_ok=True)
    begun, whole = part.exists(), out.exists() and not part.exists()
    if out.exists() and not (resume and whole and record.exists()):
        raise ArtefactError(f"{out} exists; choose another --out, delete it, or add --resume to continue its job")
    if begun and not (resume and record.exists()):
        raise ArtefactError(f"an unfinished job left {part}; add --resume to continue it, or delete it")
    if begun or whole:
        before = read_record(out)
        changed = sorted(name for name, value in job.items() if before.get(name) != value)
        if changed:
            raise ArtefactError(
                f"the job of {out} had another {', '.join(changed)}; resume it with the same, or choose another --out"
            )
        return Summary(before["users"], before["users"], before.get("problems", {})) if whole else None
    side_of(out).unlink(missing_ok=True)
    write_json(record, job)
    sync_folder(record.parent)
    # Read after our record is written: of two shards that start together, at least one sees the other.
    for other in _other_shards(out, job):
        if any(other.get(name) != job.get(name) for name in ("device", "precision")):
            record.unlink()
            raise ArtefactError(
                f"shard {other['shard']} beside {out} was begun in {other['precision']} on {other['device']}, and this "
                f"one in {job.get('precision')} on {job.get('device')}: their digits would differ; start this one "
                f"again with --precision {other['precision']} --device {other['device']}"
            )
    return None


def _other_shards(out: Path, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the records of the other stretches of the same job, where they are written into the same folder."""
    wanted = json.loads(json.dumps({name: job.get(name) for name in ("settings", "run", "histories")}))
    shard = str(job.get("shard", "1/1"))
    of = shard.partition("/")[1:]
    for path in sorted(out.parent.glob("*.job.json")):
        record = read_json(path) if path != record_of(out) else None
        if isinstance(record, dict) and all(record.get(name) == value for name, value in wanted.items()):
            other = str(record.get("shard"))
            if other != shard and other.partition("/")[1:] == of and "precision" in record:
                yield record


def read_record(out: Path) -> dict[str, Any]:
    """Read an output's record.

    Raises:
        ArtefactError: the record is missing or damaged.
    """
    record = read_json(record_of(out))
    if isinstance(record, dict) and (isinstance(record.get("users"), int) or not out.exists()):
        return record
    raise ArtefactError(f"{record_of(out)} is damaged; delete it and {out.name}, and start again")


def _cut_to_rows(file: BinaryIO, rows: int) -> Counter[str]:
    """Truncate the side file to the users that are done, and count its remaining entries by kind."""
    kinds: Counter[str] = Counter()
    size = 0
    file.seek(0)
    for line in file:
        try:
            note = json.loads(line)
            if not line.endswith(b"\n") or note["row"] >= rows:
                break
            kinds[note["kind"]] += 1
        except (ValueError, KeyError, TypeError):  # torn by a kill, or by a power cut
            break
        size += len(line)
    file.truncate(size)
    return kinds
