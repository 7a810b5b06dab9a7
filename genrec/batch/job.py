"""The offline job: users stream in, recommendations stream out, and a kill loses no finished block.

Users are taken in the order given, in blocks of a fixed size; a block is decoded, written, and flushed to disk before
the next begins. A job that is started again with `resume` cuts off what was half written, skips the finished blocks,
and goes on; since blocks are the same, the output is byte for byte that of an unbroken job. Beside the output,
`<out>.job.json` says what it was made with, the number format and the kind of device included, so that a changed model,
catalogue or option is refused, not mixed in, and `<out>.problems.jsonl` lists the users that needed a rule.

It knows a stream of blocks, not who makes them: one process (`genrec.batch.worker`) or many (`genrec.batch.ray`).
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
    """What a job did.

    Attributes:
        users: rows in the output.
        resumed: how many of them an earlier start had written.
        problems: how often each rule was needed; the side file lists the users.
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
    **options: Any,
) -> Summary:
    """Recommend for every user of a stream, in this process.

    Args:
        recommender: who recommends.
        histories: the stream of users from a place on.
        out: see `run_job`.
        settings: how.
        fingerprint: what else the output depends on, such as the run's and the users' fingerprints.
        block_users: users decoded together.
        options: see `run_job`.

    Raises:
        ArtefactError: see `run_job`.
    """
    work = Worker(recommender, settings)

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
        blocks: makes the blocks from a place on; the same ones again when a job is resumed.
        out: a name for JSON Lines, or one that ends in `.parquet` for a folder of Parquet shards.
        job: all that the output depends on, as JSON values.
        block_users: users in each block but the last.
        resume: go on with an unfinished job; a finished one is left as it is.
        key: encrypts the output, and keeps user ids out of the side file.
        progress: told how many users are done, and how many of them an earlier start had done.

    Raises:
        ArtefactError: the output exists, another job is writing it, it was begun with other settings, or the disk is
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
                # Said before the output is in its place: whoever finds the one finds the other.
                write_json(record_of(out), {**job, "users": done, "problems": dict(problems)})
                output.finish()
    except OSError as error:
        raise ArtefactError(
            f"cannot write {out}: {error.strerror}; free some space or choose another place, then start again with "
            "--resume"
        ) from error
    return Summary(done, resumed, dict(problems))


def begun_in(out: Path, job: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
    """Return the record that a start goes on with: the output's own, or another shard's beside it; None without any.

    Ask before the model is loaded: what was begun decides the device's kind and the number format.

    Args:
        out: see `run_job`.
        job: what is known of the job by then.
        resume: see `run_job`.

    Raises:
        ArtefactError: the record is damaged.
    """
    if resume and record_of(out).exists():
        return read_record(out)
    return next(_other_shards(out, job), None)


def record_of(out: Path) -> Path:
    """Return the file that says what an output was made with."""
    return out.with_name(f"{out.name}.job.json")


def side_of(out: Path) -> Path:
    """Return the file that lists the users that needed a rule."""
    return out.with_name(f"{out.name}.problems.jsonl")


def _begin(out: Path, job: Mapping[str, Any], resume: bool) -> Summary | None:
    """Check that a job may begin or go on; return its summary if it was finished already."""
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
    # Looked at after ours is written: of two shards that start together, at least one sees the other.
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
    """Read what an output was made with.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    record = read_json(record_of(out))
    if isinstance(record, dict) and (isinstance(record.get("users"), int) or not out.exists()):
        return record
    raise ArtefactError(f"{record_of(out)} is damaged; delete it and {out.name}, and start again")


def _cut_to_rows(file: BinaryIO, rows: int) -> Counter[str]:
    """Cut the side file back to the users that are done and count what it keeps, by kind."""
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
