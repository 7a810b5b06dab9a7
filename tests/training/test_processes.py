"""Several processes: `accelerate launch` with two on the CPU trains, one writes, and the run is whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import train_toy
from training import processes


def test_alone_a_process_is_the_first_and_agrees_with_itself() -> None:
    assert (processes.count(), processes.is_first(), processes.place_here()) == (1, True, 0)
    assert processes.agreed(True, torch.device("cpu"))
    assert not processes.agreed(False, torch.device("cpu"))


def test_two_processes_train_one_run(toy_base: Path, toy_data: Path, tmp_path: Path) -> None:
    """One writes; and each step is that of one process which sums the gradients of two batches."""
    from genrec import Recommender
    from genrec.runs.folder import read_losses
    from genrec.storage.folders import read_manifest

    out = tmp_path / "run"
    changes = {"epochs": 2, "batch_tokens": 200, "max_minutes": 5, "tuning_cases": 10}
    settings = [f"base={toy_base}", "max_tokens=128", "precision=fp32", "learning_rate=3e-3"]
    settings += [f"{key}={value}" for key, value in changes.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = (
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"  # of the CPU here
    )
    train = ["train", "--data", str(toy_data), "--out", str(out), "--encoder", "hashing", "--device", "cpu"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", *launch.split(), "--main_process_port", str(port)),
            *("-m", "genrec.cli.main", *train, *[word for setting in settings for word in ("--set", setting)]),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("recipe: ") == 1
    assert done.stdout.count("written to") == 1
    alone = train_toy(toy_base, toy_data, tmp_path / "alone", **{**changes, "accumulate": 2, "tuning_cases": 0})
    together, one_by_one = read_manifest(out, "run")["training"], read_manifest(alone, "run")["training"]
    assert together["steps"] == one_by_one["steps"]
    assert together["supervised_tokens"] == one_by_one["supervised_tokens"]
    losses = [[point["loss"] for point in read_losses(run)] for run in (out, alone)]
    assert len(losses[0]) == together["steps"]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert len(Recommender.from_pretrained(out).recommend(["Red Harbour 1"], k=3, explain="none")) == 3
