"""Several processes: `accelerate launch` with two on the CPU trains, one writes, and the run is whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from training import processes


def test_alone_a_process_is_the_first_and_agrees_with_itself() -> None:
    assert (processes.count(), processes.is_first(), processes.place_here()) == (1, True, 0)
    assert processes.agreed(True, torch.device("cpu"))
    assert not processes.agreed(False, torch.device("cpu"))


def test_two_processes_train_one_run(toy_base: Path, toy_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [
        f"base={toy_base}", "max_tokens=128", "batch_tokens=512", "epochs=2", "precision=fp32", "max_minutes=5",
        "tuning_cases=10",
    ]  # fmt: skip
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
    from genrec import Recommender
    from genrec.artefacts import read_manifest
    from genrec.interactions import load_prepared
    from genrec.runs import make_examples, read_losses
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training.backbone import load_tokenizer
    from training.finetune import Batches
    from training.recipe import load_recipe

    manifest = read_manifest(out, "run")
    recipe = load_recipe(str(out / "recipe.yaml"))
    data = load_prepared(toy_data)
    encoder = PromptEncoder(load_template(recipe.template), load_tokenizer(str(toy_base)), "causal", recipe.max_tokens)
    batches = Batches(make_examples(encoder, data.catalog, data.split().train, recipe), recipe.batch_tokens, 0)
    # Each process takes every second batch, so there are half as many steps as one process takes.
    assert manifest["training"]["steps"] == 2 * -(-len(batches) // 2)
    assert len(read_losses(out)) == manifest["training"]["steps"]
    assert len(Recommender.from_pretrained(out).recommend(["Red Harbour 1"], k=3, explain="none")) == 3
