"""A finished training is never lost to a later step, nor to a second process, nor to a disk that fills up."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from genrec import Recommender
from genrec.cli.pretrain import pretrain_into
from genrec.data.prepared import load_prepared
from genrec.errors import ArtefactError, told
from genrec.runs.prefer import prefer_run
from genrec.runs.train import train_run
from genrec.runs.unfinished import RESERVED_FILE, TRAINED_FILE
from genrec.storage.disk_space import check_file_size, check_space, reserve
from genrec.storage.folders import MANIFEST, fingerprint, read_manifest
from genrec.storage.locks import locked
from training import pretrain as pretraining
from training.backbone import load_base
from training.preference import PreferenceRecipe
from training.pretrain_recipe import PretrainRecipe
from training.recipe import make_recipe


def train(base: Path, data: Path, out: Path, resume: bool = False, progress: Any = None, **changes: Any) -> None:
    values = {
        "base": str(base), "max_tokens": 128, "batch_tokens": 512, "precision": "fp32", "tuning_cases": 10, **changes,
    }  # fmt: skip
    train_run(
        load_prepared(data),
        make_recipe(values),
        out,
        data_fingerprint=fingerprint(data / MANIFEST),
        data_folder=str(data),
        encoder="hashing",
        resume=resume,
        progress=progress,
    )


def no_weights(*_: Any, **__: Any) -> None:
    raise ArtefactError("no weights can be fitted: the disk is full")


def test_what_follows_a_training_is_done_again_from_it(
    toy_base: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("genrec.runs.weights.tune_fusion", no_weights)
        with pytest.raises(ArtefactError, match="no weights can be fitted") as failed:
            train(toy_base, toy_data, out)
    line = told(failed.value)
    for part in ("the training is finished and kept in", "--resume", "tuning_cases"):
        assert part in line
    kept = fingerprint(out / "adapter" / "adapter_model.safetensors")
    monkeypatch.setattr("genrec.runs.train.finetune", no_weights)  # nothing is trained again
    with pytest.raises(ArtefactError, match=r"begun with another epochs=1\.0 \(now 2\.0\)"):
        train(toy_base, toy_data, out, resume=True, epochs=2)
    with pytest.raises(ArtefactError, match="add --resume to continue it"):
        train(toy_base, toy_data, out)
    train(toy_base, toy_data, out, resume=True, tuning_cases=0)
    assert "the training in" in caplog.text
    manifest = read_manifest(out, "run")
    assert manifest["training"]["steps"] > 0
    assert fingerprint(out / "adapter" / "adapter_model.safetensors") == kept
    assert not (out / "fusion.json").exists()
    assert "tuning_cases: 0" in (out / "recipe.yaml").read_text(encoding="utf-8")
    assert Recommender.from_pretrained(out, "cpu", "fp32").recommend(["Red Harbour 1"], k=2)


def test_preferences_that_were_learnt_are_kept(
    toy_run: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, data = tmp_path / "preferred", load_prepared(toy_data)
    recipe = PreferenceRecipe(cases=8, negatives=1, precision="fp32")
    with monkeypatch.context() as patch:
        patch.setattr("genrec.runs.weights.tune_fusion", no_weights)
        with pytest.raises(ArtefactError) as failed:
            prefer_run(toy_run, data, recipe, out)
    assert "the training is finished and kept in" in told(failed.value)
    assert not out.exists()
    with pytest.raises(ArtefactError, match=r"finished its training.*add --resume"):
        prefer_run(toy_run, data, recipe, out)
    with pytest.raises(ArtefactError, match="had other settings"):
        prefer_run(toy_run, data, recipe.model_copy(update={"beta": 0.5}), out, resume=True)
    monkeypatch.setattr("genrec.runs.prefer.prefer", no_weights)  # nothing is trained again
    manifest = prefer_run(toy_run, data, recipe.model_copy(update={"tuning_cases": 0}), out, resume=True)
    assert manifest.preference["steps"] > 0
    assert Recommender.from_pretrained(out, "cpu", "fp32").fusion is None
    assert [path.name for path in tmp_path.iterdir()] == ["preferred"]


def test_two_processes_cannot_resume_one_run(toy_base: Path, toy_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def second(*_: Any) -> None:
        with pytest.raises(ArtefactError, match=rf"another genrec process is writing {out} \(process {os.getpid()} "):
            train(toy_base, toy_data, out, resume=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(toy_base, toy_data, out, progress=second)
    assert "--resume" in "".join(stopped.value.__notes__)
    assert not (tmp_path / ".run.lock").exists()
    train(toy_base, toy_data, out, resume=True)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, time; from pathlib import Path; from genrec.storage.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ArtefactError, match=f"process {holder.pid} on .* since "), locked(out):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / ".out.lock").exists()
    with locked(out), pytest.raises(ArtefactError), locked(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_where_locks_are_unknown_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked(tmp_path / "out"):
        pass
    assert "cannot be locked (Function not implemented)" in caplog.text


def test_room_is_asked_for_first(
    toy_base: Path, toy_data: Path, toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrec.storage.disk_space.shutil.disk_usage", lambda _: (1 << 40, 0, 2_000_000))
    check_space(tmp_path / "not" / "yet", 2_000_000, "it")
    with pytest.raises(ArtefactError, match=r"it will take at least 3 MB, and .* has 2 MB left; free some space"):
        check_space(tmp_path / "not" / "yet", 3_000_000, "it")
    with pytest.raises(ArtefactError, match="the run and its checkpoints will take at least"):
        train(toy_base, toy_data, tmp_path / "run", lora_rank=64)
    monkeypatch.setattr("genrec.storage.disk_space.shutil.disk_usage", lambda _: (1 << 40, 0, 1000))
    with pytest.raises(ArtefactError, match="the new run"):
        prefer_run(toy_run, load_prepared(toy_data), PreferenceRecipe(), tmp_path / "preferred")
    assert list(tmp_path.iterdir()) == []


def test_what_is_reserved_is_taken(tmp_path: Path) -> None:
    reserve(tmp_path / "kept", 3_000_000)
    assert (tmp_path / "kept").stat().st_blocks * 512 >= 3_000_000
    with file_limit(1000), pytest.raises(ArtefactError, match=r"cannot take 2 MB"):
        reserve(tmp_path / "more", 2_000_000)
    assert not (tmp_path / "more").exists()
    with file_limit(1000), pytest.raises(ArtefactError, match=r"this process may write 1 KB; raise the limit"):
        check_file_size(2000, "it")


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let this process write files of a size only, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_cannot_be_written_costs_no_training(
    toy_base: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the first step on the disk is full, until the training is over; the room for the adapter was kept."""
    out = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(share: float, *_: Any) -> None:
        assert (out / RESERVED_FILE).exists()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000 if share < 0.9 else soft, hard))

    try:
        with caplog.at_level(logging.WARNING):
            train(toy_base, toy_data, out, progress=fill, save_minutes=1e-6, epochs=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "no checkpoint could be written at step" in caplog.text
    assert read_manifest(out, "run")["training"]["steps"] == 2 * steps_of_an_epoch(out)
    assert not (out / RESERVED_FILE).exists()
    assert (out / TRAINED_FILE).exists()


def steps_of_an_epoch(run: Path) -> int:
    return int(json.loads((run / TRAINED_FILE).read_text(encoding="utf-8"))["training"]["steps"]) // 2


def test_a_base_that_is_being_replaced_stays_whole(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when a later pass turns out better than the first: the first one's weights are kept."""
    recipe = PretrainRecipe(width=32, layers=1, vocabulary=400, epochs=6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    replace = pretraining._replace_saved
    saved = []

    def full(model: Any, folder: Path, meaning: Any) -> None:
        if saved:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        saved.append(folder)
        replace(model, folder, meaning)

    monkeypatch.setattr(pretraining, "_replace_saved", full)
    try:
        with pytest.raises(Exception, match=r"os error|File too large") as failed:
            pretrain_into(toy_data, recipe, tmp_path / "base", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(saved) == 2
    assert "are kept in" in told(failed.value)
    load_base(str(tmp_path / "base"), "cpu", torch.float32)
    assert not [path for path in (tmp_path / "base").iterdir() if path.name.startswith(".")]
