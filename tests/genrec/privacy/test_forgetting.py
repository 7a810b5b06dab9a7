"""Forgetting: nothing of the user is left where it can be taken out, and what is left is whole."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from genrec.batch import outputs
from genrec.batch.job import recommend_all
from genrec.batch.users import open_users
from genrec.cli.common import data_folder_of, run_fingerprint
from genrec.cli.main import run as run_command
from genrec.data.prepared import load_prepared, prepare, save_prepared
from genrec.data.splits import History
from genrec.errors import ArtefactError, DataError
from genrec.evaluation.list_files import read_recommendations
from genrec.privacy.forgetting import forget
from genrec.privacy.keys import Pseudonyms, read_or_make_key
from genrec.privacy.keys import pseudonymise as with_pseudonyms
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.storage.encryption import decrypt_blocks
from genrec.storage.folders import MANIFEST, fingerprint, read_json, read_manifest
from tests.toyworld import write_files

USER = "u0007"
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.fixture
def data(toy_data: Path, tmp_path: Path) -> Path:
    return shutil.copytree(toy_data, tmp_path / "data")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "SHARD_USERS", 16)


def job(recommender: Recommender, run: Path, data: Path, out: Path, **options: object) -> object:
    """Recommend from two items each and, for every third user, an unknown one, so that there are notes."""
    stream = open_users("all", lambda: data)
    users = [
        History(one.user, (*one.items[:1], *(["gone"] if place % 3 == 1 else [])))
        for place, one in enumerate(stream.histories(0, 40))
    ]
    return recommend_all(
        recommender,
        lambda start: iter(users[start:]),
        out,
        Settings(k=2, beams=2),
        fingerprint={**run_fingerprint(run), "histories": fingerprint(data / MANIFEST)},
        block_users=8,
        **options,
    )


def everything(*folders: Path) -> bytes:
    files = sorted(path for folder in folders for path in ([folder] if folder.is_file() else folder.rglob("*")))
    return b"".join(path.read_bytes() for path in files if path.is_file())


def test_data_without_a_user_is_as_if_prepared_without(data: Path, tmp_path: Path) -> None:
    before = load_prepared(data)
    result = forget([USER], data)
    assert (result.users, result.events) == (1, len(next(one for one in before.histories if one.user == USER).items))
    log, items = write_files(tmp_path)
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if not line.startswith(USER)))
    wanted, found = prepare(interactions=log, items=items), load_prepared(data)
    assert found.histories == wanted.histories
    assert found.catalog.ids == wanted.catalog.ids
    assert replace(found.report, notes=()) == replace(wanted.report, notes=())
    assert "forgotten since" in found.report.notes[-1]
    manifest = read_manifest(data, "data")
    assert (manifest["users"], manifest["interactions"]) == (59, wanted.report.interactions)
    assert USER.encode() not in everything(data)
    forget(["u0008", "u0009"], data)
    manifest = read_manifest(data, "data")
    assert (manifest["forgotten"], len(manifest["formerly"])) == (3, 2)
    assert load_prepared(data).report.notes.count(found.report.notes[-1]) == 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.jsonl.enc", "out.parquet.enc"])
def test_an_output_loses_the_row_and_stays_whole(
    recommender: Recommender, toy_run: Path, data: Path, tmp_path: Path, name: str
) -> None:
    key = KEY if name.endswith(".enc") else None
    out = tmp_path / name
    job(recommender, toy_run, data, out, key=key)
    plain = tmp_path / "plain.jsonl"
    job(recommender, toy_run, data, plain)
    before = plain.read_text().splitlines()
    result = forget([USER, "u0010"], data, [out, plain], key=key)
    assert result.rows == {out: 2, plain: 2}
    wanted = [line for line in before if json.loads(line)["user"] not in (USER, "u0010")]
    assert plain.read_text().splitlines() == wanted
    if name == "out.parquet":
        assert sum(pl.read_parquet(path).height for path in out.glob("*.parquet")) == 38
        assert list(read_recommendations(out)) == [json.loads(line)["user"] for line in wanted]
        assert pl.read_parquet(out / "part-00001.parquet").height == 16, "a shard without them was written anew"
    elif name == "out.jsonl":
        assert out.read_bytes() == plain.read_bytes()
    elif name == "out.jsonl.enc":
        assert b"".join(decrypt_blocks(out, KEY)) == plain.read_bytes()
    else:
        assert read_manifest(out, outputs.KIND, name=outputs.SHARDS_MANIFEST)["encrypted"] is True
    record = read_json(tmp_path / f"{name}.job.json")
    assert (record["users"], record["problems"]) == (38, {"unknown-items": 11})
    notes = [json.loads(line) for line in (tmp_path / "plain.jsonl.problems.jsonl").read_text().splitlines()]
    assert [note["user"] for note in notes] == [json.loads(wanted[note["row"]])["user"] for note in notes]
    assert len(notes) == 11
    assert USER.encode() not in everything(tmp_path)
    # A job over the data as it is now finds its own output, finished.
    summary = job(recommender, toy_run, data, out, key=key, resume=True)
    assert (summary.users, summary.resumed) == (38, 38)


def test_a_run_counts_again_and_still_knows_its_data(toy_run: Path, data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(toy_run, tmp_path / "run")
    (run / "evaluation" / "test").mkdir(parents=True)
    (run / "evaluation" / "test" / "report.html").write_text(USER)
    (run / "evaluation" / "test" / "metrics.json").write_text("{}")
    train = [history for history in load_prepared(data).split().train if history.user != USER]
    result = forget([USER], data, runs=[run])
    assert [report.name for report in result.reports] == ["report.html"]
    assert sorted(path.name for path in (run / "evaluation" / "test").iterdir()) == ["metrics.json"]
    loaded = Recommender.from_pretrained(run, precision="fp32")
    takers = np.array([sum(item in history.items for history in train) for item in loaded.catalog.ids])
    assert np.allclose(loaded.signals["popularity"].score([History("", ())])[0], np.log1p(takers))
    assert read_manifest(run, "run")["counted_on"] == fingerprint(data / MANIFEST)
    assert data_folder_of(run, data) == data
    assert data_folder_of(toy_run, data) == data
    other = tmp_path / "other"
    save_prepared(load_prepared(data), other)
    with pytest.raises(ArtefactError, match="was trained on other data"):
        forget(["u0008"], other, runs=[run])
    assert len(load_prepared(other).histories) == 59


def test_what_is_refused_changes_nothing(recommender: Recommender, toy_run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    job(recommender, toy_run, data, out)
    before = everything(data, out)
    with pytest.raises(DataError, match="no such user"):
        forget(["nobody"], data, [out])
    with pytest.raises(ArtefactError, match="there is no output"):
        forget([USER], data, [tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="has no other users; delete the folder instead"):
        forget([history.user for history in load_prepared(data).histories], data)
    out.rename(tmp_path / "out.jsonl.part")
    with pytest.raises(ArtefactError, match="is unfinished; finish it with --resume"):
        forget([USER], data, [out])
    (tmp_path / "out.jsonl.part").rename(out)
    assert everything(data, out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data", "out.jsonl", "out.jsonl.job.json", "out.jsonl.problems.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("after", range(7))
def test_a_kill_between_two_renames_is_mended_by_the_next_start(
    recommender: Recommender, toy_run: Path, data: Path, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six files change: two of the data, its manifest, and three of the output; the log is written before any."""
    out = tmp_path / "out.jsonl"
    job(recommender, toy_run, data, out)
    aside = [shutil.copytree(data, tmp_path / "b" / "data"), shutil.copy(out, tmp_path / "b")]
    for file in ("out.jsonl.job.json", "out.jsonl.problems.jsonl"):
        aside.append(shutil.copy(tmp_path / file, tmp_path / "b"))
    forget([USER], tmp_path / "b" / "data", [tmp_path / "b" / "out.jsonl"])
    rename, renamed = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            if len(renamed) == after:
                raise KeyboardInterrupt
            renamed.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    if after < 6:
        with pytest.raises(KeyboardInterrupt):
            forget([USER], data, [out])
    else:
        forget([USER], data, [out])
    monkeypatch.undo()
    if after < 6:
        result = forget([USER], data, [out])
        assert result.finished
    for path in aside:
        mine = tmp_path / Path(path).name
        assert everything(mine) == everything(Path(path)), mine
    assert not list(tmp_path.rglob(".*"))


def test_pseudonyms_and_what_is_said(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, _ = read_or_make_key(tmp_path / "users.key")
    data = tmp_path / "data"
    save_prepared(with_pseudonyms(load_prepared(toy_data), Pseudonyms(key)), data)

    def genrec(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["genrec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err

    code, told = genrec("forget", "--user", USER, "--data", data)
    assert code == 2
    assert "no such user" in told
    code, told = genrec("forget", "--user", USER, "--data", data, "--user-key", tmp_path / "users.key")
    assert code == 0
    assert f"{data}: 1 users and their" in told
    assert "no subtraction takes it out" in told
    assert "train again with the next training at the latest" in told
    assert USER not in told
    assert Pseudonyms(key).of(USER) not in load_prepared(data).histories.__repr__()
    many = [part for number in range(20, 58) for part in ("--user", f"u{number:04}")]
    code, told = genrec("forget", *many, "--data", data, "--user-key", tmp_path / "users.key")
    assert code == 0
    assert "train again now: " in told
