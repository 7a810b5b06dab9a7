"""Saved folders: whole or not at all, and damage is found when they are read."""

import errno
import json
import os
from pathlib import Path

import pytest

from genrec.errors import ArtefactError
from genrec.storage.folders import MANIFEST, check_target, fingerprint, new_folder, read_json, read_manifest, write_json


def make(target: Path, text: str = "x", kind: str = "data") -> None:
    with new_folder(target, kind, {"size": 1}) as work:
        (work / "sub").mkdir()
        (work / "sub" / "part.txt").write_text(text)


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "out")
    manifest = read_manifest(tmp_path / "deep" / "out", "data")
    assert (manifest["kind"], manifest["size"], list(manifest["files"])) == ("data", 1, ["sub/part.txt"])
    assert manifest["files"]["sub/part.txt"]["bytes"] == 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_details_may_be_filled_in_the_block(tmp_path: Path) -> None:
    details: dict[str, int] = {}
    with new_folder(tmp_path / "out", "data", details):
        details["late"] = 7
    assert read_manifest(tmp_path / "out", "data")["late"] == 7


@pytest.mark.parametrize("older", [True, False])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, older: bool) -> None:
    target = tmp_path / "out"
    if older:
        make(target, "old")

    def stop_half_way() -> None:
        with new_folder(target, "data", {}) as work:
            (work / "half.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if older else [])
    if older:
        assert (target / "sub" / "part.txt").read_text() == "old"
        read_manifest(target, "data")


def test_a_folder_of_the_same_kind_is_replaced_through_a_link_too(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    make(tmp_path / "link", "new")
    assert (tmp_path / "out" / "sub" / "part.txt").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_the_working_folder_can_be_the_target_if_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make(Path())
    read_manifest(tmp_path / "here", "data")


def foreign(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")


def a_file(path: Path) -> None:
    path.write_text("years of work")


@pytest.mark.parametrize("build", [foreign, a_file, lambda path: make(path, kind="run")])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, build) -> None:
    build(tmp_path / "out")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for attempt in (make, lambda path: check_target(path, "data")):
        with pytest.raises(ArtefactError, match="exists and is not a genrec data folder; choose another --out"):
            attempt(tmp_path / "out")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for attempt in (make, lambda path: check_target(path, "data")):
        with pytest.raises(ArtefactError, match=r"cannot write to .*; choose another --out"):
            attempt(tmp_path / "file" / "out")
    check_target(tmp_path / "new" / "deep", "data")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_told_and_another_error_stays_itself(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(ArtefactError, match="No space left on device; free some space"),
        new_folder(tmp_path / "a", "x", {}),
    ):
        raise full
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "b", "x", {}):
        (tmp_path / "missing").read_text()
    assert list(tmp_path.iterdir()) == []


def damage_size(folder: Path) -> None:
    (folder / "sub" / "part.txt").write_text("xx")


def damage_bytes(folder: Path) -> None:
    (folder / "sub" / "part.txt").write_text("y")


def damage_missing(folder: Path) -> None:
    (folder / "sub" / "part.txt").unlink()


def damage_manifest_cut(folder: Path) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:40])


def damage_manifest_gone(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def damage_manifest_binary(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe")


def edit(**changes: object):
    def change(folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps({**json.loads((folder / MANIFEST).read_text()), **changes}))

    return change


DAMAGES = [
    (damage_size, "is not the file that was written"),
    (damage_bytes, "is not the file that was written"),
    (damage_missing, r"part\.txt is missing"),
    (damage_manifest_cut, "is not valid JSON"),
    (damage_manifest_binary, "is not valid JSON"),
    (damage_manifest_gone, r"has no genrec\.json: it is unfinished"),
    (edit(kind="run"), "holds 'run', expected a genrec data folder"),
    (edit(format_version=99), "has format version 99, this genrec reads 1"),
    (edit(files=None), "does not list the folder's files"),
    (edit(files={"sub/part.txt": {"bytes": 1}}), "does not list the folder's files"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_found_when_the_folder_is_read(tmp_path: Path, damage, message: str) -> None:
    make(tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(ArtefactError, match=message):
        read_manifest(tmp_path / "out", "data")


def test_json_is_replaced_whole_and_refuses_what_json_has_not(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"title": "ملك 👑"})
    assert read_json(path) == {"title": "ملك 👑"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"title": "ملك 👑"}
    with pytest.raises(ArtefactError, match="cannot write"):
        write_json(tmp_path / "missing" / "a.json", 1)
    with pytest.raises(ArtefactError, match=r"cannot read .*No such file"):
        read_json(tmp_path / "b.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_fingerprint_is_the_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
