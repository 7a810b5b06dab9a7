"""A run's base, encoder and data are known by what they hold, and are found again after a move."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from genrec import Recommender
from genrec.cli.common import data_folder_of
from genrec.data.prepared import load_prepared
from genrec.data.splits import History
from genrec.errors import ArtefactError, ModelError
from genrec.language.bases import hub_folder, path_or_hub_id, resolve_base
from genrec.language.identity import Identity, Role, find_model, identity_of, source_of
from genrec.runs.train import train_run
from genrec.runs.unfinished import BEGUN_FILE
from genrec.settings import Settings
from genrec.storage.fingerprints import file_entries
from genrec.storage.folders import MANIFEST, fingerprint, read_manifest, write_json
from genrec.storage.places import follow, is_hub_id, way_to
from training.recipe import make_recipe


@dataclass
class Named:
    """What of a run's manifest says which models it rests on."""

    base: str = ""
    encoder: str = ""
    models: dict[Role, Identity] = field(default_factory=dict)


VALUES = {"base": "bases/books", "max_tokens": 128, "batch_tokens": 512, "precision": "fp32", "tuning_cases": 10}


def train(data: Path, out: Path, **options: Any) -> None:
    changes = options.pop("changes", {})
    train_run(
        load_prepared(data),
        make_recipe({**VALUES, **changes}),
        out,
        data_fingerprint=fingerprint(data / MANIFEST),
        data_folder=str(data),
        encoder="hashing",
        **options,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, toy_base: Path, toy_data: Path) -> Path:
    """A project whose folders are named from its own folder: bases/books, data/books, runs/books."""
    project = tmp_path_factory.mktemp("made") / "project"
    shutil.copytree(toy_base, project / "bases" / "books")
    shutil.copytree(toy_data, project / "data" / "books")
    before = Path.cwd()
    os.chdir(project)
    try:
        train(Path("data/books"), Path("runs/books"))
    finally:
        os.chdir(before)
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """The project, moved: the folder that it was made in is not where it was."""
    return shutil.copytree(made, tmp_path / "moved" / "deeper", symlinks=True)


def lists(run: Path | str, **options: Any) -> list[str]:
    recommender = Recommender.from_pretrained(run, "cpu", "fp32", **options)
    asked = History("", recommender.catalog.ids[:3])
    return [entry.item.id for entry in recommender.recommend_many([asked], Settings(k=3, beams=3))[0]]


def swap(base: Path, name: str = "model.safetensors") -> None:
    """Change one byte of a file; its size and its time of modification stay."""
    file = base / name
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_moved_project_is_used_from_anywhere(made: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert lists(project / "runs" / "books") == lists(made / "runs" / "books")
    assert data_folder_of(project / "runs" / "books", None) == project / "data" / "books"
    monkeypatch.chdir(project)
    assert lists("runs/books") == lists(made / "runs" / "books")
    # Nothing in the run names this machine's folders.
    for name in (MANIFEST, BEGUN_FILE, "recipe.yaml"):
        assert str(made) not in (project / "runs" / "books" / name).read_text(encoding="utf-8")


def test_a_run_that_is_moved_alone(made: Path, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = shutil.move(project / "runs" / "books", tmp_path / "alone")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"base of .*alone is not where it was: there is no folder .*--base"):
        lists(run)
    with pytest.raises(ArtefactError, match=r"data of .*alone is not where it was.*--data"):
        data_folder_of(run, None)
    assert lists(run, base=str(project / "bases" / "books")) == lists(made / "runs" / "books")
    monkeypatch.chdir(project)  # the names as they were given hold from here
    assert lists(run) == lists(made / "runs" / "books")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_base_that_changed_is_refused_by_name(project: Path, name: str) -> None:
    swap(project / "bases" / "books", name)
    with pytest.raises(ModelError, match=rf"is not the base that .* was trained on \(other files: {name}\)"):
        lists(project / "runs" / "books")


def test_what_does_not_decide_may_change(project: Path) -> None:
    (project / "bases" / "books" / "README.md").write_text("notes", encoding="utf-8")
    (project / "bases" / "books" / "LICENSE").write_text("MIT", encoding="utf-8")
    assert lists(project / "runs" / "books")


def test_a_base_that_the_user_names_must_hold_the_same(project: Path, weak: Path) -> None:
    with pytest.raises(ModelError, match=r"is not the base that"):
        lists(project / "runs" / "books", base=str(weak))
    with pytest.raises(ModelError, match=r"there is no folder \./gone"):
        lists(project / "runs" / "books", base="./gone")


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Path:
    """Another base of the same shape."""
    folder = shutil.copytree(made / "bases" / "books", tmp_path_factory.mktemp("weak") / "books")
    swap(folder)
    return folder


def test_a_name_that_was_a_folder_is_never_asked_of_a_hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bases/books` looks like a hub's id; whoever owns that name there must not serve our users."""
    shutil.rmtree(project / "bases")
    monkeypatch.chdir("/")
    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    with pytest.raises(ModelError, match="is not where it was"):
        lists(project / "runs" / "books")


def asked(*_: Any, **__: Any) -> str:
    raise AssertionError("the hub was asked")


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("gpt2", True), ("Qwen/Qwen3-0.6B", True), ("a_b/c.d-e", True),
        ("./books", False), ("../books", False), ("/bases/books", False), ("~/books", False), ("~books", False),
        ("bases/books/", False), ("bases//books", False), ("a/b/c", False), ("bases\\books", False),
        ("C:\\books", False),
        ("bases/.books", False), ("my bases/books", False), ("bases/../books", False), ("bücher/bases", False),
        ("books..", False), ("", False), ("file:books", False),
    ],
)  # fmt: skip
def test_a_name_that_can_only_be_a_path_never_reaches_a_hub(
    name: str, hub: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id(name) == hub
    if not hub and name:
        monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
        with pytest.raises(ModelError, match="there is no folder"):
            resolve_base(name)


def test_a_slip_beside_ones_own_models_is_not_asked_of_a_hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(ModelError, match=r"no folder bases/boks, though bases holds models \(books\)"):
        path_or_hub_id("bases/boks")


def cached(folder: Path, model: Path, commit: str) -> Path:
    """Lay a model into a hub's cache, as a download leaves it."""
    repository = folder / "models--owner--books"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    return Path(shutil.copytree(model, repository / "snapshots" / commit))


def test_a_hub_model_keeps_its_revision(
    made: Path, weak: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    old, new = "a" * 40, "b" * 40
    here = cached(tmp_path / "hub", made / "bases" / "books", old)
    source = source_of("base", "owner/books")
    assert (source.folder, source.kind, source.revision) == (str(here), "hub", old)
    known = identity_of("base", "owner/books", source, tmp_path)
    named = Named(base="owner/books", models={"base": known})
    cached(tmp_path / "hub", weak, new)
    assert hub_folder("owner/books").name == new
    assert find_model("base", named, tmp_path) == str(here)
    shutil.rmtree(here)
    with pytest.raises(ModelError, match=f"cannot get the model 'owner/books' at {old[:12]} from the hub"):
        find_model("base", named, tmp_path)


def test_an_encoder_that_changed_is_refused(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "bases" / "books", tmp_path / "encoder")
    known = identity_of("encoder", str(folder), source_of("encoder", str(folder)), tmp_path)
    named = Named(encoder=str(folder), models={"encoder": known})
    assert find_model("encoder", named, tmp_path) == str(folder)
    swap(folder)
    with pytest.raises(ModelError, match="is not the encoder that"):
        find_model("encoder", named, tmp_path)


def test_old_runs_still_load_and_are_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = project / "runs" / "books"
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    for key in ("models", "data_way", "checksum"):
        del manifest[key]
    write_json(run / MANIFEST, manifest)
    monkeypatch.chdir(project)
    with caplog.at_level(logging.WARNING):
        assert lists(run)
    assert "trained by an older genrec" in caplog.text
    assert data_folder_of(run, None).resolve() == project / "data" / "books"
    monkeypatch.chdir("/")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError, match=r"neither a folder here nor a downloaded model; say with --base"):
        lists(run)
    assert lists(run, base=str(project / "bases" / "books"))


def test_a_training_is_not_resumed_on_another_base(project: Path, weak: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    out = Path("runs/second")
    with pytest.raises(RuntimeError, match="stopped"):
        train(Path("data/books"), out, progress=stop)
    shutil.move("bases/books", "bases/kept")
    shutil.copytree(weak, "bases/books")
    with pytest.raises(ModelError, match=r"is not the base that .* was trained on"):
        train(Path("data/books"), out, resume=True)
    # Where it stands now is a matter of its own; what it holds is the same.
    train(Path("data/books"), out, resume=True, changes={"base": "bases/kept"})
    assert read_manifest(out, "run")["models"]["base"]["way"] == "../../bases/kept"


def stop(*_: Any) -> None:
    raise RuntimeError("stopped")


def test_a_run_made_from_another_leads_to_the_same_base(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genrec.data.catalog import Item
    from genrec.runs.grow import add_to_run

    monkeypatch.chdir("/")
    add_to_run(project / "runs" / "books", [Item("new", "Red Harbour 7")], project / "more" / "deeply" / "books")
    assert lists(project / "more" / "deeply" / "books")
    assert data_folder_of(project / "more" / "deeply" / "books", None) == project / "data" / "books"
    swap(project / "bases" / "books")
    with pytest.raises(ModelError, match="is not the base that"):
        add_to_run(project / "runs" / "books", [Item("new", "Red Harbour 7")], project / "again")


def test_ways_lead_back(tmp_path: Path) -> None:
    (tmp_path / "real" / "runs" / "one").mkdir(parents=True)
    (tmp_path / "bases").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "runs")
    for home in (tmp_path / "real" / "runs" / "one", tmp_path / "link" / "one"):
        assert follow(way_to(tmp_path / "bases", home), home) == tmp_path / "bases"
        assert way_to(tmp_path / "bases", home) == "../../../bases"
    latest = tmp_path / "latest"
    latest.symlink_to(tmp_path / "bases")
    assert way_to(latest, tmp_path) == "latest"


def test_fingerprints_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("genrec.storage.fingerprints.REMEMBERED_BYTES", 0)
    monkeypatch.setattr("genrec.storage.fingerprints.SETTLED_SECONDS", -1.0)
    monkeypatch.setattr("genrec.storage.fingerprints.ANNOUNCED_BYTES", 10)
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 100)
    first = file_entries(tmp_path, [file])
    assert "taking the fingerprint of" in caplog.text
    caplog.clear()
    read: list[Path] = []
    monkeypatch.setattr("genrec.storage.fingerprints.fingerprint", lambda path: read.append(path) or fingerprint(path))
    assert file_entries(tmp_path, [file]) == first
    assert not read
    assert not caplog.text
    status = file.stat()
    file.write_bytes(b"y" * 100)  # the same size, and its old time put back
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_entries(tmp_path, [file]) != first
    (tmp_path / "cache").rename(tmp_path / "gone")
    (tmp_path / "cache").write_text("not a folder", encoding="utf-8")
    assert file_entries(tmp_path, [file])["weights"]["sha256"] == fingerprint(file)


def test_an_identity_survives_json(made: Path) -> None:
    recorded = read_manifest(made / "runs" / "books", "run")["models"]
    assert Identity(**recorded["base"]).to_json() == recorded["base"]
    assert recorded["base"]["way"] == "../../bases/books"
    assert recorded["base"]["kind"] == "folder"
    assert recorded["encoder"]["kind"] == "built-in"


def test_no_home_is_no_hindrance() -> None:
    code = (
        "import os, pwd, tempfile; from genrec.storage.places import cache_folder; "
        "os.setuid(54321); print(cache_folder())"
    )
    environment = {
        key: value for key, value in os.environ.items() if key not in ("HOME", "GENREC_CACHE", "XDG_CACHE_HOME")
    }
    if os.geteuid() != 0:
        pytest.skip("only root can become an account without a home")
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "genrec-54321" in shown.stdout
