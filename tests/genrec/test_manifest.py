"""What a run says of itself: typed, the same after a round trip, also of runs of before; wrong ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from genrec.errors import ArtefactError
from genrec.language.identity import Identity
from genrec.manifest import RunManifest
from genrec.storage.folders import ABOUT_THE_FOLDER, MANIFEST, read_json, read_manifest, sealed, write_json

FIRST: dict[str, Any] = {
    "format_version": 1, "kind": "run",
    "base": "starter", "family": "causal", "layers": None, "loss": "catalogue", "max_tokens": 128, "encoder": "starter",
    "split": "leave-one-out", "data": "0a1b", "data_folder": "data/films",
    "training": {"steps": 12, "supervised_tokens": 1552, "seconds": 1.2, "final_loss": 0.5, "device": "cpu",
                 "precision": "float32"},
    "versions": {"torch": "2.9.0", "python": "3.11.7"},
    "files": {"recipe.yaml": {"bytes": 1, "sha256": "00"}},
}  # fmt: skip
"""As the first runs said it: without models, without the way to the data, without a checksum."""


def test_it_is_the_same_after_a_round_trip(toy_run: Path) -> None:
    manifest = RunManifest.read(toy_run)
    assert RunManifest.from_json(manifest.to_json()).changed(files=manifest.files) == manifest
    written = read_manifest(toy_run, "run")
    told = {name: value for name, value in written.items() if name not in ABOUT_THE_FOLDER}
    assert manifest.to_json() == told
    assert (manifest.base, manifest.files) == (written["base"], written["files"])
    assert isinstance(manifest.models["base"], Identity)
    with pytest.raises(ValidationError, match="frozen"):
        manifest.base = "another"  # type: ignore[misc]


def test_runs_of_before_are_read() -> None:
    manifest = RunManifest.from_json(FIRST)
    assert (manifest.keep_seen, manifest.models, manifest.data_way, manifest.added_items) == (False, {}, None, 0)
    assert manifest.training.precision == "float32"
    assert manifest.moved(Path("runs/films"), Path("elsewhere/films"), "starter").data_way is None


def test_what_a_newer_genrec_says_is_kept() -> None:
    manifest = RunManifest.from_json({**FIRST, "colour": "blue", "training": {**FIRST["training"], "passes": [1.0]}})
    assert manifest.to_json()["colour"] == "blue"
    assert manifest.to_json()["training"]["passes"] == [1.0]


def test_a_wrong_one_is_refused_with_all_its_problems(toy_run: Path, tmp_path: Path) -> None:
    wrong = {**FIRST, "family": "rnn", "max_tokens": 0, "training": {"steps": "many"}}
    del wrong["base"]
    with pytest.raises(ArtefactError) as caught:
        RunManifest.from_json(wrong, tmp_path / MANIFEST)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / MANIFEST} is not a run's manifest (base: field required; family: ")
    for part in ("max_tokens: ", "training.steps: ", "training.seconds: field required", "train again"):
        assert part in told
    manifest = read_json(toy_run / MANIFEST)
    del manifest["checksum"]
    write_json(tmp_path / MANIFEST, sealed({**manifest, "layers": "all"}))
    with pytest.raises(ArtefactError, match="layers: input should be a valid integer"):
        RunManifest.read(tmp_path, verify=False)
