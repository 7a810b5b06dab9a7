"""The batch job: streamed, ordered, exactly once, whatever kills it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genrec import batch
from genrec.batch import read_histories, recommend_all
from genrec.errors import ArtefactError, DataError
from genrec.recommender import Recommender, Settings
from genrec.splits import History
from tests.toyworld import make_catalog, make_histories

SETTINGS = Settings(k=4, beams=4)
USERS = make_histories(70, seed=3)


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BLOCK_USERS", 8)


def job(recommender: Recommender, out: Path, histories: Any = USERS, **options: Any) -> Any:
    return recommend_all(recommender, histories, out, SETTINGS, fingerprint={"run": "a"}, **options)


@pytest.fixture(scope="module")
def whole(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "BLOCK_USERS", 8)
        job(recommender, out)
    return out.read_bytes()


class StopError(Exception):
    """Stands for a kill between two blocks."""


def broken_off(recommender: Recommender, out: Path, after: int) -> None:
    def progress(done: int) -> None:
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]


def test_a_finished_job_is_left_alone(recommender: Recommender, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "out.jsonl"
    job(recommender, out)
    assert job(recommender, out, resume=True).resumed == 70
    with pytest.raises(ArtefactError, match="exists; choose another --out"):
        job(recommender, out)


def test_a_changed_setting_is_refused(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    broken_off(recommender, out, after=16)
    with pytest.raises(ArtefactError, match="another settings"):
        recommend_all(recommender, USERS, out, Settings(k=5), fingerprint={"run": "a"}, resume=True)
    with pytest.raises(ArtefactError, match="another run"):
        recommend_all(recommender, USERS, out, SETTINGS, fingerprint={"run": "b"}, resume=True)
    with pytest.raises(ArtefactError, match="add --resume to continue"):
        job(recommender, out)


def test_two_jobs_cannot_write_one_output(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def second(done: int) -> None:
        with pytest.raises(ArtefactError, match="another job is writing"):
            job(recommender, out, resume=True)

    job(recommender, out, progress=second)


def test_bad_users_do_not_stop_the_job(recommender: Recommender, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ids = make_catalog().ids
    users = [History("a", (ids[0], "gone")), History("b", ()), History("c", ("gone",)), History("d", ids[:2] * 60)]
    assert job(recommender, out, users).problems == 3
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [len(row["recommendations"]) for row in rows] == [4, 4, 4, 4]
    notes = [json.loads(line) for line in (tmp_path / "out.jsonl.problems.jsonl").read_text().splitlines()]
    assert [note["user"] for note in notes] == ["a", "b", "c"]
    assert "1 of 2 items are not in the catalogue" in notes[0]["problem"]


def test_a_full_disk_is_told_and_survived(recommender: Recommender, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, before[1]))
    try:
        with pytest.raises(ArtefactError, match=r"cannot write .*free some space.*--resume"):
            job(recommender, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    job(recommender, out, resume=True)
    assert out.read_bytes() == whole


def test_a_killed_process_loses_nothing(toy_run: Path, tmp_path: Path, whole: bytes) -> None:
    """SIGKILL in mid-job, from outside, then resume in another process."""
    out = tmp_path / "out.jsonl"
    code = (
        "import os, sys, signal; from pathlib import Path; from genrec import batch, Recommender\n"
        "from tests.genrec.test_batch import SETTINGS, USERS\n"
        "batch.BLOCK_USERS = 8\n"
        "kill = int(sys.argv[2])\n"
        "def progress(done):\n    if 0 < kill <= done: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"recommender = Recommender.from_pretrained({str(toy_run)!r}, precision='fp32')\n"
        "batch.recommend_all(recommender, USERS, Path(sys.argv[1]), SETTINGS, fingerprint={'run': 'a'}, "
        "resume=True, progress=progress)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(out), "32"], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    subprocess.run([sys.executable, "-c", code, str(out), "0"], check=True, cwd=Path(__file__).parents[2])
    assert out.read_bytes() == whole


def test_users_from_a_file(tmp_path: Path) -> None:
    known = {history.user: history for history in USERS}
    ids = tmp_path / "users.txt"
    ids.write_text("u0003\n\nu0001\n", encoding="utf-8")
    found = list(read_histories(ids, lambda wanted: (known[user] for user in sorted(wanted) if user in known)))
    assert [history.user for history in found] == ["u0003", "u0001"]
    ids.write_text("u0003\nnobody\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2: this user is not in the data"):
        list(read_histories(ids, lambda wanted: (known[user] for user in sorted(wanted) if user in known)))
    fresh = tmp_path / "fresh.jsonl"
    fresh.write_text('{"user": 7, "items": ["red1", "red2"]}\n', encoding="utf-8")
    assert list(read_histories(fresh, lambda _: iter(()))) == [History("7", ("red1", "red2"))]
    for line in ("[1]", '{"user": 1}', '{"user": 1, "items": "red1"}', "nonsense"):
        fresh.write_text(line + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"fresh\.jsonl line 1.*expected"):
            list(read_histories(fresh, lambda _: iter(())))
    fresh.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="is empty"):
        list(read_histories(fresh, lambda _: iter(())))
