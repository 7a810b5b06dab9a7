"""Ray: two workers give the very bytes of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from genrec.batch.job import read_record, side_of
from genrec.batch.ray import choose_for_workers, ray_blocks
from genrec.batch.users import open_users
from genrec.errors import MissingExtra
from genrec.settings import Settings
from training.computing import Computing

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(1800)  # a busy machine takes minutes to start the workers
def test_two_workers_give_the_bytes_of_one_process(toy_run: Path, toy_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed; pip install 'genrec[ray]'")
    done = subprocess.run(
        [sys.executable, "-m", "tests.two_workers", toy_run, toy_data, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for precision in ("fp32", "bf16"):
        one, two = (tmp_path / f"{name}-{precision}.jsonl" for name in ("one", "two"))
        assert two.read_bytes() == one.read_bytes()
        assert side_of(two).read_bytes() == side_of(one).read_bytes()
        assert read_record(one)["precision"] == precision
    assert (tmp_path / "one-bf16.jsonl").read_bytes() != (tmp_path / "one-fp32.jsonl").read_bytes()
    told = done.stdout.splitlines()[-1]
    assert told.startswith("a Ray worker failed: ")
    assert "has no genrec.json" in told
    assert "--resume" in told


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, toy_data: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    users = open_users("all", lambda: toy_data)
    with pytest.raises(MissingExtra, match=r"pip install 'genrec\[ray\]'"):
        ray_blocks(toy_data, Computing("cpu", "fp32"), Settings(), users, (0, 1), 2)
    with pytest.raises(MissingExtra, match=r"pip install 'genrec\[ray\]'"):
        choose_for_workers("cpu", "fp32")
