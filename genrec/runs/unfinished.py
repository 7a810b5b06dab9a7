"""The files of an unfinished run, and how it is resumed.

begun.json      the request, written before training
trained.json    the training's record, written when the adapter is saved; all later steps can be repeated
checkpoints/    the trainer's checkpoints
.reserved       reserves disk space for the adapter during training
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from genrec.data.catalog import Catalog
from genrec.errors import ArtefactError
from genrec.language.identity import (
    MODELS,
    Identity,
    Source,
    check_contents,
    source_of,
    where_known,
)
from genrec.storage.disk_space import check_file_size, check_space
from genrec.storage.folders import (
    MANIFEST,
    check_writable,
    read_json,
    write_json,
    write_text,
)
from training import backbone
from training.recipe import Recipe

BEGUN_FILE = "begun.json"
"""The request of an unfinished run; `resume` compares it."""


TRAINED_FILE = "trained.json"
"""The record of a finished training; all later steps can be repeated."""


RESERVED_FILE = ".reserved"
"""Reserves disk space for the adapter during training, so that it is not lost if the disk fills up meanwhile."""


KEPT_FREE = 1 << 20
"""Bytes for the small files of a run."""


BYTES_PER_ITEM = 2000
"""What an item takes in a run's index and catalogue, at least: 384 numbers of four bytes, and its titles."""


LATER_SETTINGS = frozenset({"tuning_cases", "tuning_minutes", "save_minutes", "report_to", "tensorboard"})
"""Settings that may change when a run is resumed: the training does not depend on them."""


def check_folder(out: Path, begun: dict[str, Any], resume: bool) -> None:
    """Check that a run may be written to the folder, and that an unfinished one in it is the one to resume."""
    if (out / MANIFEST).exists():
        raise ArtefactError(f"{out} holds a finished folder already; choose another --out or delete it")
    mark = out / BEGUN_FILE
    if not mark.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtefactError(f"{out} is not empty and holds no run; choose another --out")
        check_writable(out)
    elif not resume:
        raise ArtefactError(f"{out} holds an unfinished run; add --resume to continue it, or delete it")
    elif changed := _changed(read_json(mark), begun):
        raise ArtefactError(
            f"the unfinished run in {out} was begun with another {', '.join(changed)}; "
            "resume it with the same, or choose another --out"
        )


def begin(out: Path, begun: dict[str, Any], recipe: Recipe) -> None:
    """Make the folder and note in it what was begun, or for a resumed run what is asked for now."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "recipe.yaml", recipe.to_yaml())
    write_json(out / BEGUN_FILE, begun)


def keep_training(adapted: Any, folder: Path, base_name: str, trained: dict[str, Any]) -> None:
    """Write a trained adapter and, last, the mark that it is whole; the room that was reserved for it is given back."""
    (folder / RESERVED_FILE).unlink(missing_ok=True)
    backbone.save_adapter(adapted, folder / "adapter", base_name)
    write_json(folder / TRAINED_FILE, trained)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def read_trained(folder: Path) -> dict[str, Any] | None:
    """Return the record of a finished training whose later steps are still to be done; None without one."""
    mark = folder / TRAINED_FILE
    if not mark.exists():
        return None
    trained: dict[str, Any] = read_json(mark)
    return trained


def base_to_train(name: str, out: Path) -> Source:
    """Return the place of the base: the one that the name means, or the one recorded by the resumed run."""
    begun = read_json(out / BEGUN_FILE) if (out / BEGUN_FILE).exists() else {}
    if MODELS not in begun or begun["recipe"].get("base") != name:
        return source_of("base", name)
    return where_known("base", Identity(**begun[MODELS]["base"]), out)


def check_begun_base(out: Path, begun: dict[str, Any]) -> None:
    """Check that an unfinished run goes on with the base that it was begun with."""
    before = read_json(out / BEGUN_FILE) if (out / BEGUN_FILE).exists() else {}
    if MODELS in before:
        check_contents("base", Identity(**before[MODELS]["base"]), Identity(**begun[MODELS]["base"]), out)


def check_room(out: Path, adapter: int, catalog: Catalog) -> None:
    """Check that a run can fit: its adapter, two checkpoints with the optimiser's two moments, and its index."""
    check_space(out, 7 * adapter + len(catalog) * BYTES_PER_ITEM + KEPT_FREE, "the run and its checkpoints")
    check_file_size(2 * adapter, "a checkpoint")


def begun_in(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return the recorded request of an unfinished run that is to be resumed; None without one."""
    found = read_json(out / BEGUN_FILE) if resume and (out / BEGUN_FILE).exists() else None
    return found if isinstance(found, dict) else None


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the settings that differ from the recorded request and on which the training depends.

    The base's name may be another, as it may have moved; its contents are compared.
    """
    free = LATER_SETTINGS | ({"base"} if MODELS in before else set())
    old, new = before["recipe"], now["recipe"]
    changed = [
        f"{key}={old.get(key)} (now {new.get(key)})"
        for key in sorted(old.keys() | new.keys())
        if key not in free and old.get(key) != new.get(key)
    ]
    return changed + (["data"] if before["data"] != now["data"] else [])
