"""Every verb where things are against it: one line, the right exit code, no traceback, and nothing lost.

The consoles know ASCII or cp1252 only, pipes close, the home cannot be written, no hub answers, disks are full, masks
are 077, files are another account's, and somebody presses Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genrec.storage.folders import read_manifest
from tests.toyworld import write_files

ROOT = Path(__file__).parents[2]
NOWHERE = {"HOME": "/proc/nobody", "GENREC_CACHE": "/proc/nobody/cache", "XDG_CACHE_HOME": "/proc/nobody/x"}
"""A home that not even root can write."""

SMALL = ("--set", "width=16", "--set", "layers=1", "--set", "epochs=1", "--set", "vocabulary=400")
TINY = ("max_tokens=128", "batch_tokens=512", "epochs=1", "precision=fp32", "tuning_cases=10")


class Surroundings:
    """Calls verbs through `tests.hostile`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder

    def call(self, *words: str | Path, **surroundings: Any) -> tuple[int, str, str]:
        request = {"words": [str(word) for word in words], "folder": str(self.folder), **surroundings}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        assert "Traceback" not in found["err"], found["err"]
        assert "Exception ignored" not in found["err"], found["err"]
        return found["code"], found["out"], found["err"]

    def refused(self, *words: str | Path, code: int = 2, **surroundings: Any) -> str:
        """Call a verb that must end with one line and an exit code; return the line."""
        found, _, err = self.call(*words, **surroundings)
        assert found == code, err
        lines = [line for line in err.splitlines() if line.startswith("genrec: ")]
        assert len(lines) == 1, err
        assert err.endswith(lines[0] + "\n"), err
        return lines[0]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other accounts may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def here(folder: Path, toy_base: Path) -> Iterator[Surroundings]:
    """A project of a few small files, in which each verb has been called once, in a hostile place of the mild kind."""
    write_files(folder, users=24)
    (folder / "new.csv").write_text("id,title\nnew,Café Étoile 7\n", encoding="utf-8")
    shutil.copytree(toy_base, folder / "base")
    environment = {key: value for key, value in os.environ.items() if key != "GENREC_DEBUG"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hostile"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    ) as process:  # fmt: skip
        yield Surroundings(process, folder)
        assert process.stdin is not None
        process.stdin.close()


def changes(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def verbs(out: str) -> dict[str, tuple[str, ...]]:
    """Return a command line of each verb, the earlier ones' outputs being the later ones' inputs.

    Args:
        out: the end of every output's name.
    """
    data, run = ("--data", "data"), ("--run", "run")
    encoder = ("--encoder", "hashing")
    return {
        "prepare": ("prepare", "--interactions", "log.csv", "--items", "films.csv", "--out", f"data{out}"),
        "doctor": ("doctor", *data),
        "pretrain": ("pretrain", *data, "--out", f"made{out}", *encoder, *SMALL),
        "train": ("train", *data, "--out", f"run{out}", *changes("base=base", *TINY), *encoder),
        "prefer": ("prefer", *run, "--out", f"preferred{out}", *changes("cases=4", "negatives=1", "precision=fp32")),
        "add-items": ("add-items", *run, "--items", "new.csv", "--out", f"more{out}"),
        "recommend": ("recommend", *run, "--k", "3", "--beams", "3", "--explain", "--out", f"lists{out}.jsonl"),
        "evaluate": ("evaluate", *run, "--baselines", "popularity", "--out", f"figures{out}"),
        "export": ("export", *run, "--out", f"plain{out}", "--merged"),
        "show": ("show", *run, "--user", "u0003", "--beams", "3"),
        "forget": ("forget", "--user", "u0005", "--data", f"forgetting{out}"),
    }


def test_every_verb_has_its_line() -> None:
    from genrec.cli.main import app

    names = {(command.name or command.callback.__name__).replace("_", "-") for command in app.registered_commands}  # type: ignore[union-attr]
    # demo and fit are made of other verbs and take minutes; tune changes its run in place; decrypt needs an extra, and
    # serve runs until it is stopped.
    assert names - {"demo", "fit", "tune", "decrypt", "serve"} == set(verbs("")), names


@pytest.fixture(scope="module")
def project(here: Surroundings) -> Surroundings:
    """The same place once every verb has been through it: ASCII only, a home that cannot be written, umask 077."""
    for name, words in verbs("").items():
        if name == "forget":
            for copy in ("forgetting", "forgetting-piped"):
                shutil.copytree(here.folder / "data", here.folder / copy)
        code, out, err = here.call(*words, encoding="ascii", environment=NOWHERE, umask=0o077)
        assert code == 0, (name, err)
        assert out.isascii(), name
    return here


def test_every_verb_on_a_poor_console_with_a_home_that_cannot_be_written(project: Surroundings) -> None:
    place = project.folder
    for name in ("run", "preferred", "more"):
        read_manifest(place / name, "run")
    assert len((place / "lists.jsonl").read_text(encoding="utf-8").splitlines()) == 24
    code, out, _ = project.call(*verbs("-2")["show"], encoding="cp1252", environment=NOWHERE)
    assert code == 0
    assert out
    code, out, _ = project.call("show", "--run", "run", "--taste", "Café Étoile", encoding="ascii")
    assert code == 0
    assert "Cafe Etoile" in out
    code, out, _ = project.call("evaluate", "--run", "run", "--baselines", "popularity", encoding="ascii")
    assert code == 0
    assert "?" not in out.partition("better")[0]  # which of two is better is still told


@pytest.mark.parametrize("name", [name for name in verbs("") if name not in ("train", "prefer", "pretrain")])
def test_a_pipe_that_closes_ends_quietly_and_what_was_made_is_whole(project: Surroundings, name: str) -> None:
    code, _, err = project.call(*verbs("-piped")[name], stdout="closed pipe")
    assert (code, [line for line in err.splitlines() if line.startswith("genrec")]) == (141, [])
    made = {"prepare": "data-piped", "add-items": "more-piped"}
    if name in made:
        read_manifest(project.folder / made[name], {"prepare": "data", "add-items": "run"}[name])
    if name == "recommend":
        whole = (project.folder / "lists.jsonl").read_bytes()
        assert (project.folder / "lists-piped.jsonl").read_bytes() == whole


def test_shut_streams_and_a_full_standard_output(project: Surroundings) -> None:
    code, _, _ = project.call(*verbs("-shut")["recommend"], stdout="shut")
    assert code == 0
    # What is printed must not have been written into the file that was opened first.
    assert (project.folder / "lists-shut.jsonl").read_bytes() == (project.folder / "lists.jsonl").read_bytes()
    line = project.refused(*verbs("-full")["recommend"], stdout="full")
    assert "No space left on device" in line
    assert (project.folder / "lists-full.jsonl").read_bytes() == (project.folder / "lists.jsonl").read_bytes()
    for words in (["--help"], ["recommend", "--help"]):
        code, _, err = project.call(*words, stdout="closed pipe")
        assert (code, err) == (141, "")


@pytest.mark.parametrize("name", ["prepare", "pretrain", "train", "prefer", "add-items", "recommend", "evaluate"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_made(project: Surroundings, name: str) -> None:
    before = contents(project.folder)
    words = verbs("-no-room")[name]
    line = project.refused(*words, file_size=100)
    assert any(part in line for part in ("File too large", "this process may write", "os error 27", "cannot take")), (
        line
    )
    left = contents(project.folder)
    assert {path: left[path] for path in before} == before
    rest = {path.split("/")[0] for path in left.keys() - before.keys()}
    # What a resumed job goes on from may stay; a folder that claims to be whole may not.
    assert not {path for path in left.keys() - before.keys() if path.endswith("genrec.json")}
    assert rest <= {"run-no-room", "lists-no-room.jsonl.job.json", "lists-no-room.jsonl.part", "made-no-room"}
    for path in rest:
        target = project.folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()


def contents(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["prepare", "pretrain", "train", "prefer", "add-items", "recommend", "evaluate"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(project: Surroundings, name: str) -> None:
    words = list(verbs("")[name])
    words[words.index("--out") + 1] = "/proc/nobody/out"
    assert "cannot write" in project.refused(*words)


def test_the_two_verbs_that_need_more_are_refused_in_a_line_too(project: Surroundings) -> None:
    project.refused("demo", "--out", "/proc/nobody/demo", environment=NOWHERE)
    assert "give the key" in project.refused("decrypt", "--recommendations", "lists.jsonl", "--out", "plain.jsonl")


def test_a_hub_that_cannot_be_reached(project: Surroundings) -> None:
    away = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", **NOWHERE}
    train = ("train", "--data", "data", "--out", "run-hub", *changes("base=owner/model", *TINY))
    for surroundings in ({}, {"environment": away}):
        assert "cannot get the model 'owner/model' from the hub" in project.refused(*train, **surroundings)
    line = project.refused(*verbs("-hub")["train"][:-1], "owner/encoder", environment=away)
    assert "cannot get the model 'owner/encoder' from the hub" in line
    line = project.refused("pretrain", "--data", "data", "--out", "made-hub", "--base", "owner/model", environment=away)
    assert "cannot get the model 'owner/model' from the hub" in line
    assert not {"run-hub", "made-hub"} & {path.name for path in project.folder.iterdir()}


def test_files_of_another_account(project: Surroundings, folder: Path) -> None:
    """Root without its privileges, or whoever runs the tests, meets files that it may not read."""
    theirs = folder / "theirs"
    for name in ("run", "base", "data"):
        shutil.copytree(folder / name, theirs / name)
    if os.geteuid() == 0:
        for path in [theirs, *theirs.rglob("*")]:
            os.chown(path, 1234, 1234)
    recommend = ("recommend", "--run", "theirs/run", "--k", "3", "--beams", "3")
    for path in ("run/trie.safetensors", "run/genrec.json", "base/model.safetensors", "data/genrec.json"):
        for one in theirs.rglob("*"):
            one.chmod(0o755 if one.is_dir() else 0o644)
        (theirs / path).chmod(0)
        line = project.refused(*recommend, "--out", "denied.jsonl", plain_account=True)
        assert "Permission denied" in line
        assert Path(path).name in line
    (theirs / path).chmod(0o644)
    code, _, err = project.call(*recommend, "--out", "allowed.jsonl", plain_account=True, environment=NOWHERE)
    assert code == 0, err
    theirs.chmod(0o555)
    (theirs / "run").chmod(0o555)
    assert "cannot write" in project.refused(
        "evaluate", "--run", "theirs/run", "--baselines", "none", plain_account=True
    )
    theirs.chmod(0o755)
    (theirs / "run").chmod(0o755)


def test_ctrl_c_keeps_what_is_done(project: Surroundings) -> None:
    place = project.folder
    train = verbs("-stopped")["train"]
    line = project.refused(*train, code=130, interrupt_at="run-stopped/loss.jsonl")
    assert "interrupted" in line
    assert "--resume" in line
    code, _, err = project.call(*train, "--resume")
    assert code == 0, err
    recommend = verbs("-stopped")["recommend"]
    line = project.refused(*recommend, code=130, interrupt_at="lists-stopped.jsonl.part")
    assert "--resume" in line
    code, _, err = project.call(*recommend, "--resume")
    assert code == 0, err
    assert (place / "lists-stopped.jsonl").read_bytes() == (place / "lists.jsonl").read_bytes()
