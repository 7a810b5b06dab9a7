"""Encrypted outputs and pseudonyms: opened with the key and unchanged, or refused."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.batch import outputs
from genrec.batch.job import recommend_all
from genrec.cli.main import run as run_command
from genrec.errors import ArtefactError, MissingExtra
from genrec.privacy.keys import KEY_BYTES, Pseudonyms, read_key, read_or_make_key
from genrec.privacy.rewriting import decrypt_output
from genrec.recommender import Recommender
from genrec.settings import Settings
from genrec.storage.encryption import HEADER_BYTES, LENGTH_BYTES, EncryptedFile, decrypt_blocks, encrypt_bytes
from genrec.storage.folders import read_manifest
from tests.toyworld import make_histories, write_files

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
CONTENTS = [b"first block\n", b"", b"third\n" * 100]


def write(path: Path, contents: list[bytes], key: bytes = KEY, end: bool = True) -> Path:
    with path.open("w+b") as file:
        encrypted = EncryptedFile(file, key)
        for content in contents:
            encrypted.append(content)
        if end:
            encrypted.append(b"", last=True)
    return path


def blocks_of(raw: bytes) -> list[bytes]:
    """Cut an encrypted file into its blocks, length fields included."""
    blocks, place = [], HEADER_BYTES
    while place < len(raw):
        size = LENGTH_BYTES + int.from_bytes(raw[place : place + LENGTH_BYTES], "big")
        blocks.append(raw[place : place + size])
        place += size
    return blocks


def test_what_goes_in_comes_out_and_does_not_show(tmp_path: Path) -> None:
    path = write(tmp_path / "a.enc", CONTENTS)
    assert list(decrypt_blocks(path, KEY)) == CONTENTS
    assert b"block" not in path.read_bytes()
    again = write(tmp_path / "b.enc", CONTENTS)
    assert again.read_bytes()[HEADER_BYTES:] != path.read_bytes()[HEADER_BYTES:]
    long = bytes(range(256)) * 10_000
    encrypt_bytes(long, tmp_path / "c.enc", KEY)
    assert b"".join(decrypt_blocks(tmp_path / "c.enc", KEY)) == long


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.enc", CONTENTS)
    with pytest.raises(ArtefactError, match="does not open with this key after 0 blocks"):
        list(decrypt_blocks(path, OTHER_KEY))
    with path.open("r+b") as file, pytest.raises(ArtefactError, match="does not open with this key"):
        list(EncryptedFile(file, OTHER_KEY).read())


def swapped(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return [blocks[1], blocks[0], *blocks[2:]]


def dropped(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return [blocks[0], *blocks[2:]]


def doubled(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return [blocks[0], *blocks]


def cut_off(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return blocks[:-1]


def ended_early(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return [*blocks[:2], blocks[-1]]


def moved_here(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return [other[0], *blocks[1:]]


def added(blocks: list[bytes], other: list[bytes]) -> list[bytes]:
    return [*blocks, blocks[0]]


@pytest.mark.parametrize("harm", [swapped, dropped, doubled, cut_off, ended_early, moved_here, added])
def test_blocks_cannot_be_moved(tmp_path: Path, harm: Callable[[list[bytes], list[bytes]], list[bytes]]) -> None:
    path = write(tmp_path / "a.enc", CONTENTS)
    other = blocks_of(write(tmp_path / "b.enc", CONTENTS).read_bytes())
    raw = path.read_bytes()
    path.write_bytes(raw[:HEADER_BYTES] + b"".join(harm(blocks_of(raw), other)))
    with pytest.raises(ArtefactError, match=r"changed"):
        list(decrypt_blocks(path, KEY))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_byte_can_be_changed_and_no_end_be_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("a") / "a.enc", CONTENTS)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(raw[:place])
    else:
        raw[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
    with pytest.raises(ArtefactError):
        list(decrypt_blocks(path, KEY))


def test_a_torn_block_is_cut_away_and_written_again(tmp_path: Path) -> None:
    raw = write(tmp_path / "whole.enc", CONTENTS, end=False).read_bytes()
    last = len(raw) - len(blocks_of(raw)[-1])
    path = tmp_path / "a.enc"
    for end in (last, last + 1, last + LENGTH_BYTES, len(raw) - 1):
        path.write_bytes(raw[:end])
        with path.open("r+b") as file:
            encrypted = EncryptedFile(file, KEY)
            found = list(encrypted.read())
            assert [content for content, _ in found] == CONTENTS[:2]
            encrypted.cut(found[-1][1], len(found))
            encrypted.append(CONTENTS[2])
            encrypted.append(b"", last=True)
        assert list(decrypt_blocks(path, KEY)) == CONTENTS


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "films.key"
    key, made = read_or_make_key(path)
    assert (len(key), made, read_or_make_key(path)) == (KEY_BYTES, True, (key, False))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for content in (b"", b"secret", path.read_bytes()[:-8], b"\xff" * 44):
        (tmp_path / "bad.key").write_bytes(content)
        with pytest.raises(ArtefactError, match=r"bad\.key is not a key file; expected one line of 44"):
            read_or_make_key(tmp_path / "bad.key")
    with pytest.raises(ArtefactError, match="give an existing one"):
        read_key(tmp_path / "none.key")
    with pytest.raises(ArtefactError, match="cannot make the key file"):
        read_or_make_key(tmp_path / "bad.key" / "below.key")


@given(st.text(max_size=40))
@settings(max_examples=25, deadline=None)
def test_a_pseudonym_turns_back_with_its_key_only(user: str) -> None:
    user = user.encode(errors="ignore").decode()
    names = Pseudonyms(KEY)
    name = names.of(user)
    assert names.of(user) == name != Pseudonyms(OTHER_KEY).of(user)
    assert names.user(name) == user
    with pytest.raises(ArtefactError, match="not a pseudonym made with this key"):
        Pseudonyms(OTHER_KEY).user(name)


def test_pseudonyms_of_short_ids_look_alike() -> None:
    names = [Pseudonyms(KEY).of(user) for user in ("", "7", "77", "fifteen letters")]
    assert {len(name) for name in names} == {64}
    assert len({name[:32] for name in names}) == 4
    for bad in ("7", "zz", "ab" * 40):
        with pytest.raises(ArtefactError):
            Pseudonyms(KEY).user(bad)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("cryptography", "cryptography.hazmat.primitives.ciphers.aead"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"genrec\[privacy\]"):
        Pseudonyms(KEY)
    with pytest.raises(MissingExtra, match=r"genrec\[privacy\]"):
        encrypt_bytes(b"x", tmp_path / "a.enc", KEY)


class StopError(Exception):
    """Stands for a kill between two blocks."""


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_an_encrypted_job_broken_off_and_resumed_decrypts_to_the_plain_one(
    recommender: Recommender, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "SHARD_USERS", 16)
    users = [one if place % 2 else type(one)(one.user, (*one.items, "gone")) for place, one in enumerate(HISTORIES)]

    def job(out: Path, **options: object) -> None:
        recommend_all(
            recommender,
            lambda start: iter(users[start:]),
            out,
            Settings(k=3, beams=3),
            fingerprint={},
            block_users=8,
            **options,
        )

    def stop(done: int, resumed: int) -> None:
        if done >= 24:
            raise StopError

    out = tmp_path / f"{name}.enc"
    with pytest.raises(StopError):
        job(out, key=KEY, progress=stop)
    with pytest.raises(ArtefactError, match="another encrypted"):
        job(out, resume=True)
    with pytest.raises(ArtefactError, match="does not open with this key"):
        job(out, key=OTHER_KEY, resume=True)
    journal = next(path for path in (tmp_path / f"{name}.enc.part", *tmp_path.rglob(".part-*")) if path.is_file())
    journal.write_bytes(journal.read_bytes() + b"\0\0\1\0torn")
    job(out, key=KEY, resume=True)
    job(tmp_path / name, key=None)
    stored = b"".join(path.read_bytes() for path in sorted(tmp_path.glob(f"{name}.enc*")) if path.is_file())
    stored += b"".join(path.read_bytes() for path in tmp_path.glob(f"{name}.enc/*"))
    assert not [user.user for user in users if user.user.encode() in stored]
    kinds = [json.loads(line)["kind"] for line in (tmp_path / f"{name}.enc.problems.jsonl").read_text().splitlines()]
    assert kinds == ["unknown-items"] * 15
    opened = tmp_path / f"opened-{name}"
    for key, message in ((None, "is encrypted; give its key"), (OTHER_KEY, "does not open with this key")):
        with pytest.raises(ArtefactError, match=message):
            decrypt_output(out, opened, str, key)
    assert not list(tmp_path.glob("opened*"))
    decrypt_output(out, opened, str, KEY)
    if out.is_dir():
        assert read_manifest(opened, outputs.KIND, name=outputs.SHARDS_MANIFEST)["encrypted"] is False
        frames = [pl.read_parquet(folder / "*.parquet") for folder in (opened, tmp_path / name)]
        assert frames[0].equals(frames[1])
    else:
        assert opened.read_bytes() == (tmp_path / name).read_bytes()
    with pytest.raises(ArtefactError, match="exists; choose another --out"):
        decrypt_output(out, opened, str, KEY)
    with pytest.raises(ArtefactError, match="is not encrypted; leave out --key"):
        decrypt_output(opened, tmp_path / f"again-{name}", str, KEY)


HISTORIES = make_histories(30, seed=5)


def genrec(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["genrec", *map(str, arguments)])
    monkeypatch.delenv("GENREC_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        run_command()
    return int(ended.value.code or 0)


def test_pseudonyms_from_prepare_to_the_output_and_back(
    tmp_path: Path, toy_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, items = write_files(tmp_path)
    prepare = ("prepare", "--interactions", log, "--items", items, "--pseudonymise", tmp_path / "users.key", "--out")
    assert genrec(monkeypatch, *prepare, tmp_path / "data") == 0
    assert "a new key was written to" in capsys.readouterr().out
    assert genrec(monkeypatch, *prepare, tmp_path / "again") == 0
    assert "a new key" not in capsys.readouterr().out
    names = pl.read_parquet(tmp_path / "data" / "histories.parquet")["user"].to_list()
    assert pl.read_parquet(tmp_path / "again" / "histories.parquet")["user"].to_list() == names == sorted(names)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert not [history.user for history in make_histories(60) if history.user.encode() in stored]
    rows = [json.dumps({"user": name, "recommendations": []}) + "\n" for name in names]
    (tmp_path / "out.jsonl").write_text("".join(rows))
    decrypt = ("decrypt", "--recommendations", tmp_path / "out.jsonl", "--out", tmp_path / "open.jsonl")
    assert genrec(monkeypatch, *decrypt) == 2
    assert "neither --key nor --user-key" in capsys.readouterr().err
    assert genrec(monkeypatch, *decrypt, "--user-key", tmp_path / "users.key") == 0
    opened = [json.loads(line)["user"] for line in (tmp_path / "open.jsonl").read_text().splitlines()]
    assert sorted(opened) == sorted(history.user for history in make_histories(60))
    assert opened != sorted(opened), "the order tells of the ids"


def test_a_bad_key_file_stops_prepare_before_the_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.key").write_text("?")
    prepare = ("prepare", "--dataset", "no such set", "--pseudonymise", tmp_path / "bad.key", "--out", tmp_path / "d")
    assert genrec(monkeypatch, *prepare) == 2
    assert "is not a key file" in capsys.readouterr().err
