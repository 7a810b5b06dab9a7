"""The batch job: streamed, ordered, exactly once, whatever kills it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
import torch

from genrec.batch import outputs
from genrec.batch.job import recommend_all, run_job
from genrec.batch.users import open_users, shard_span
from genrec.batch.worker import Block, Worker
from genrec.data.splits import History
from genrec.errors import ArtefactError, ModelError
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.storage.folders import read_manifest
from tests.toyworld import make_catalog, make_histories

SETTINGS = Settings(k=4, beams=4)
USERS = make_histories(70, seed=3)


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "SHARD_USERS", 32)


def job(recommender: Recommender, out: Path, users: Any = USERS, settings: Settings = SETTINGS, **options: Any) -> Any:
    options = {"fingerprint": {"run": "a"}, **options}
    return recommend_all(recommender, lambda start: iter(users[start:]), out, settings, block_users=8, **options)


@pytest.fixture(scope="module")
def whole(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    job(recommender, out)
    return out.read_bytes()


@pytest.fixture(scope="module")
def shards(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("shards") / "out.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "SHARD_USERS", 32)
        job(recommender, out)
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class StopError(Exception):
    """Stands for a kill between two blocks."""


def broken_off(recommender: Recommender, out: Path, after: int) -> None:
    def progress(done: int, resumed: int) -> None:
        if done >= after:
            raise StopError

    with pytest.raises(StopError):
        job(recommender, out, progress=progress)


def test_one_line_per_user_in_the_order_of_the_stream(whole: bytes) -> None:
    rows = [json.loads(line) for line in whole.decode().splitlines()]
    assert [row["user"] for row in rows] == [history.user for history in USERS]
    assert all(len({entry["item"] for entry in row["recommendations"]}) == 4 for row in rows)
    assert set(rows[0]["recommendations"][0]) == {"rank", "item", "title", "score", "signals", "how", "generated"}


@pytest.mark.parametrize("torn", [0, 1, 300])
def test_a_resumed_job_is_byte_identical(recommender: Recommender, tmp_path: Path, whole: bytes, torn: int) -> None:
    out = tmp_path / "out.jsonl"
    broken_off(recommender, out, after=24)
    part = tmp_path / "out.jsonl.part"
    part.write_bytes(part.read_bytes() + whole[len(part.read_bytes()) :][:torn])
    summary = job(recommender, out, resume=True)
    assert (summary.users, summary.resumed) == (70, 24)
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.job.json"]


def test_a_finished_job_is_left_alone(recommender: Recommender, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "out.jsonl"
    job(recommender, out)
    assert job(recommender, out, resume=True).resumed == 70
    with pytest.raises(ArtefactError, match="exists; choose another --out"):
        job(recommender, out)


def test_a_changed_setting_is_refused(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    broken_off(recommender, out, after=16)
    for finished in (False, True):
        with pytest.raises(ArtefactError, match="another settings"):
            job(recommender, out, settings=Settings(k=5), resume=True)
        with pytest.raises(ArtefactError, match="another run"):
            job(recommender, out, fingerprint={"run": "b"}, resume=True)
        with pytest.raises(ArtefactError, match="add --resume to continue"):
            job(recommender, out)
        if not finished:
            job(recommender, out, resume=True)


def test_two_jobs_cannot_write_one_output(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def second(done: int, resumed: int) -> None:
        with pytest.raises(ArtefactError, match="another genrec process is writing"):
            job(recommender, out, resume=True)

    job(recommender, out, progress=second)


def test_bad_users_do_not_stop_the_job(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ids = make_catalog().ids
    users = [History("a", (ids[0], "gone")), History("b", ()), History("c", ("gone",)), History("d", ids[:2] * 60)]
    users = [*USERS[:10], *users]
    assert job(recommender, out, users).problems == {"unknown-items": 2, "empty": 2, "long": 1}
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [len(row["recommendations"]) for row in rows] == [4] * 14
    notes = [json.loads(line) for line in (tmp_path / "out.jsonl.problems.jsonl").read_text().splitlines()]
    assert [(note["row"], note["user"], note["kind"]) for note in notes] == [
        (10, "a", "unknown-items"), (11, "b", "empty"), (12, "c", "unknown-items"), (12, "c", "empty"),
        (13, "d", "long"),
    ]  # fmt: skip
    assert notes[0]["problem"] == "1 of 2 items are not in the catalogue and were left out"
    assert "of 120 items" in notes[4]["problem"]


def test_a_title_that_no_prompt_holds_costs_its_user_only_the_prompt(toy_run: Path, tmp_path: Path) -> None:
    recommender = Recommender.from_pretrained(toy_run, precision="fp32")
    recommender.encoder.max_tokens = 1
    assert job(recommender, tmp_path / "out.jsonl", USERS[:9]).problems == {"long-title": 9}


def test_the_side_file_of_a_resumed_job_names_each_user_once(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    users = [History(user.user, (*user.items, "gone")) for user in USERS]

    def progress(done: int, resumed: int) -> None:
        if done >= 24:
            raise StopError

    with pytest.raises(StopError):
        job(recommender, out, users, progress=progress)
    side = tmp_path / "out.jsonl.problems.jsonl"
    side.write_bytes(side.read_bytes() + b'{"row": 24, "user": "u0024", "kind": "unknown-items", "problem": "x"}\n{"ro')
    assert job(recommender, out, users, resume=True).problems == {"unknown-items": 70}
    assert [json.loads(line)["row"] for line in side.read_text(encoding="utf-8").splitlines()] == list(range(70))
    assert job(recommender, out, users, resume=True).problems == {"unknown-items": 70}


def test_parquet_shards_hold_what_the_lines_hold(whole: bytes, shards: dict[str, bytes], tmp_path: Path) -> None:
    assert sorted(shards) == ["_genrec.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    for name, content in shards.items():
        (tmp_path / name).write_bytes(content)
    assert read_manifest(tmp_path, outputs.KIND, name=outputs.SHARDS_MANIFEST)["encrypted"] is False
    table = pl.read_parquet(tmp_path / "*.parquet")
    assert table.schema == outputs.SCHEMA
    rows = [json.loads(line) for line in whole.decode().splitlines()]
    for row in rows:
        for entry in row["recommendations"]:
            entry["explanation"] = None
            entry["signals"]["again"] = None  # a signal that this run does not have
    assert table.to_dicts() == rows
    assert [pl.read_parquet(tmp_path / name).height for name in sorted(shards)[1:]] == [32, 32, 6]


def test_the_schema_is_that_of_a_recommendation(recommender: Recommender) -> None:
    """A field that is added to the lines must be added to the shards, where it would be lost in silence."""
    (found,) = recommender.recommend_many(USERS[:1], Settings(k=1, explain="sentence"))
    (fields,) = (kind.inner for kind in outputs.SCHEMA.values() if isinstance(kind, pl.List))
    assert isinstance(fields, pl.Struct)
    assert [field.name for field in fields.fields] == list(found[0].to_json())
    assert pl.DataFrame(found[0].to_json(), strict=True).row(0) is not None


@pytest.mark.parametrize("after", [8, 32, 40, 64, 70])
def test_resumed_shards_are_byte_identical(
    recommender: Recommender, tmp_path: Path, shards: dict[str, bytes], after: int
) -> None:
    out = tmp_path / "out.parquet"
    broken_off(recommender, out, after=after)
    part = tmp_path / "out.parquet.part"
    journal = part / f".part-{after // 32:05}.jsonl"
    journal.write_bytes((journal.read_bytes() if journal.exists() else b"") + b'{"user": "u00')
    (part / f".part-{after // 32:05}.parquet.tmp").write_bytes(b"PAR1")
    (part / ".part-00000.jsonl.old").write_bytes(b"stale")
    summary = job(recommender, out, resume=True)
    assert (summary.users, summary.resumed) == (70, after - after % 8)
    assert contents(out) == shards
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "out.parquet.job.json"]


def test_a_block_of_nothing_but_length_is_written_again(recommender: Recommender, tmp_path: Path, whole: bytes) -> None:
    """After a power cut the last block can have its length and not its bytes."""
    out = tmp_path / "out.jsonl"
    broken_off(recommender, out, after=24)
    part = tmp_path / "out.jsonl.part"
    written = bytearray(part.read_bytes())
    written[-200:-100] = bytes(100)
    part.write_bytes(written)
    assert job(recommender, out, resume=True).resumed == 16
    assert out.read_bytes() == whole


def test_no_users_give_an_empty_output(recommender: Recommender, tmp_path: Path) -> None:
    job(recommender, tmp_path / "a.jsonl", ())
    job(recommender, tmp_path / "a.parquet", ())
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert pl.read_parquet(tmp_path / "a.parquet" / "*.parquet").schema == outputs.SCHEMA


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_full_disk_is_told_and_survived(
    recommender: Recommender, tmp_path: Path, whole: bytes, shards: dict[str, bytes], name: str
) -> None:
    out = tmp_path / name
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // (2 if out.suffix == ".jsonl" else 4), before[1]))
    try:
        with pytest.raises(ArtefactError, match=r"cannot write .*free some space.*--resume"):
            job(recommender, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not out.exists()
    assert job(recommender, out, resume=True).resumed > 0
    assert (contents(out) == shards) if out.is_dir() else (out.read_bytes() == whole)


ROOT = Path(__file__).parents[3]


def test_twenty_kills_leave_the_bytes_of_an_unbroken_job(toy_run: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.killing", toy_run, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split(" kills")[0] for line in done.stdout.splitlines()] == ["out.jsonl: 20", "out.parquet: 20"]


def test_a_kill_between_a_full_journal_and_its_shard(
    recommender: Recommender, tmp_path: Path, whole: bytes, shards: dict[str, bytes]
) -> None:
    out = tmp_path / "out.parquet"
    broken_off(recommender, out, after=24)
    (journal,) = (tmp_path / "out.parquet.part").iterdir()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:32]))
    assert job(recommender, out, resume=True).resumed == 32
    assert contents(out) == shards


def test_a_finished_job_of_the_command_line_is_left_alone(
    toy_run: Path, recommender: Recommender, tmp_path: Path
) -> None:
    from genrec.cli.recommend import job_of, recommend_into

    out = tmp_path / "out.jsonl"
    first, second = (
        recommend_into(
            recommender, toy_run, None, "all", out, SETTINGS, resume, job=job_of(toy_run, None, "all", SETTINGS)
        )
        for resume in (False, True)
    )
    assert (first.users, first.resumed) == (60, 0)
    assert (second.users, second.resumed) == (60, 60)


def test_a_refusal_speaks_of_nothing_that_is_kept(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_bytes(b"mine")
    with pytest.raises(ArtefactError, match="exists") as refused:
        job(recommender, tmp_path / "out.jsonl", USERS)
    assert not getattr(refused.value, "__notes__", [])


def test_shards_in_a_row_are_the_whole(recommender: Recommender, tmp_path: Path, whole: bytes) -> None:
    parts = []
    for index in range(1, 5):
        first, last = shard_span(f"{index}/4", len(USERS), block_users=8)
        out = tmp_path / f"{index}.jsonl"
        job(recommender, out, USERS[first:last])
        parts.append(out.read_bytes())
    assert b"".join(parts) == whole
    assert [part.count(b"\n") for part in parts] == [16, 16, 16, 22]


def test_tonights_events_count_tonight(recommender: Recommender, toy_data: Path, tmp_path: Path) -> None:
    """Users and events that the training data does not have come in a file of histories."""
    ids = make_catalog().ids
    lines = [{"user": "new", "items": ids[:2]}, {"user": "new", "items": ids[:3]}, {"user": "new", "items": ids[6:8]}]
    file = tmp_path / "tonight.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    users = open_users(str(file), lambda: toy_data)
    out = tmp_path / "out.jsonl"
    recommend_all(recommender, lambda start: users.histories(start, users.count), out, SETTINGS, fingerprint={})
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    lists = [[entry["item"] for entry in row["recommendations"]] for row in rows]
    assert lists[0][0] == ids[2]
    assert lists[1][0] == ids[3]
    assert ids[2] not in lists[1]
    assert lists[2][0] == ids[8]


def rows_of(output: bytes) -> list[tuple[Any, ...]]:
    return [
        (row["user"], entry["rank"], entry["item"], entry["score"])
        for row in map(json.loads, output.decode().splitlines())
        for entry in row["recommendations"]
    ]


def with_room_for(recommender: Recommender, users: int) -> list[int]:
    """Let the decoder ask the allocator for more than any machine has when more users are decoded side by side."""
    tried: list[int] = []
    read = recommender.decoder.read

    def read_if_there_is_room(prompts: Any) -> Any:
        tried.append(len(prompts))
        torch.empty(2**20 if len(prompts) <= users else 2**60, dtype=torch.uint8)
        return read(prompts)

    recommender.decoder.read = read_if_there_is_room  # type: ignore[method-assign]
    return tried


def test_where_memory_is_short_fewer_users_are_decoded_together(
    toy_run: Path, tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    recommender = Recommender.from_pretrained(toy_run, precision="fp32")
    tried = with_room_for(recommender, 3)
    job(recommender, tmp_path / "out.jsonl", settings=Settings(k=4, beams=4, batch_size=8))
    # The same but for the last digits: other numbers of rows are summed in another order.
    for found, wanted in zip(rows_of((tmp_path / "out.jsonl").read_bytes()), rows_of(whole), strict=True):
        assert found[:3] == wanted[:3]
        assert found[3] == pytest.approx(wanted[3], abs=1e-2)
    assert caplog.messages == [
        "out of memory with 8 users side by side; going on with 4, the same results",
        "out of memory with 4 users side by side; going on with 2, the same results",
    ]
    assert max(tried[2:]) == 2, "the size is not kept for the next block"


def test_a_device_too_small_for_one_user_is_told(toy_run: Path, tmp_path: Path) -> None:
    recommender = Recommender.from_pretrained(toy_run, precision="fp32")
    with_room_for(recommender, 0)
    with pytest.raises(ModelError, match="out of memory even with one user at a time; lower --beams"):
        job(recommender, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_memory_does_not_grow_with_the_number_of_users(recommender: Recommender, tmp_path: Path) -> None:
    made = Worker(recommender, SETTINGS)(USERS[:64])

    def peak(users: int) -> int:
        file = tmp_path / f"{users}.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            for place in range(users):
                lines.write(json.dumps({"user": f"u{place}", "items": ["red1", "red2"]}) + "\n")
        tracemalloc.start()
        stream = open_users(str(file), lambda: tmp_path)

        def blocks(start: int) -> Iterator[Block]:
            histories = stream.histories(start, users)
            while sum(1 for _ in zip(range(64), histories, strict=False)) == 64:
                yield made

        assert run_job(blocks, tmp_path / f"{users}.out.jsonl", {}, block_users=64).users == users
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(640)
    few, many = peak(1280), peak(12_800)
    assert many < 1.5 * few + 100_000, (few, many)


def test_the_output_opens_elsewhere(recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of code that the README shows."""
    job(recommender, tmp_path / "films.jsonl")
    job(recommender, tmp_path / "films.parquet")
    monkeypatch.chdir(tmp_path)
    wanted = [row[:3] for row in rows_of((tmp_path / "films.jsonl").read_bytes())]
    for source in ("'films.parquet/*.parquet'", "'films.jsonl'"):
        query = f"select user, r.rank, r.item from {source}, unnest(recommendations) as _(r)"  # noqa: S608 - no input
        rows = duckdb.sql(query).fetchall()
        assert sorted(rows) == sorted(wanted)
    for table in (pl.read_parquet("films.parquet/*.parquet"), pl.read_ndjson("films.jsonl")):
        flat = table.explode("recommendations").unnest("recommendations")
        assert flat.select("user", "rank", "item").rows() == wanted
    for frame in (pd.read_parquet("films.parquet"), pd.read_json("films.jsonl", lines=True, dtype=False)):
        flat_frame = frame.explode("recommendations", ignore_index=True)
        columns = pd.json_normalize(flat_frame.pop("recommendations").tolist())
        joined = flat_frame.join(columns)
        assert list(zip(joined["user"], joined["rank"], joined["item"], strict=True)) == wanted
