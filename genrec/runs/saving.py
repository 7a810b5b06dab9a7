"""Saving a recommender from memory as a whole run folder.

Parts that may have changed in memory are written from memory: the items, their tokens and vectors, the signals, the
fusion. Parts that training decided (the adapter, the recipe, the prompt) are copied from the folder from which the
recommender was loaded. They are compared with what was loaded, since that folder may have been replaced meanwhile.

A recommender with a signal of the user's own is refused: a run folder holds no code, and without the signal the saved
run would give other lists.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from genrec.errors import ArtefactError, ConfigError
from genrec.explain.writer import TEMPLATES
from genrec.language.identity import find_model
from genrec.manifest import RunManifest
from genrec.runs.folder import FUSION, write_items
from genrec.signals.registry import check_savable, save_signals
from genrec.storage.disk_space import check_space
from genrec.storage.folders import file_entry, new_folder, write_json, write_text
from genrec.storage.locks import locked
from training.backbone import rename_base

if TYPE_CHECKING:
    from genrec.origin import Origin
    from genrec.recommender import Recommender

RECIPE = "recipe.yaml"
_FROM_TRAINING = frozenset({RECIPE, "template.toml", "loss.jsonl", *(f"{name}.toml" for name in TEMPLATES.values())})
"""The files that training decided, besides the adapter."""

_DECIDING = (
    "adapter/", "index/", "items.jsonl", "trie.safetensors", "signals.safetensors", "template.toml",
    "tokens.safetensors",
)  # fmt: skip
"""The files that determine a run's lists, besides the fusion."""


def save_recommender(recommender: Recommender, out: Path, *, alone: bool = False) -> None:
    """Write a recommender as a run folder, whole or not at all; `Recommender.save_pretrained` is its public name.

    Args:
        recommender: one that was loaded from a run folder, or made out of such a one.
        out: the folder to make; nothing may be there.
        alone: for another machine: a base and an encoder that are folders here are put in (as links to their files),
            and nothing of this machine is said.

    Raises:
        ArtefactError: `out` exists or cannot be written, or the run that it was loaded from is not there any more.
        ConfigError: a signal is the user's own, or the weights were fitted for other signals.
        ModelError: a model that is to be put in is not here any more.
    """
    origin, manifest = recommender.origin, recommender.manifest
    if origin is None or not manifest.files:
        raise ArtefactError(
            "this recommender was not loaded from a run folder, so there is no adapter to save; load one"
        )
    check_savable(recommender.signals, recommender.index.vectors(recommender.catalog.ids))
    if recommender.fusion is not None and recommender.fusion.signals != tuple(recommender.signals):
        raise ConfigError(
            [
                f"the weights were fitted for {', '.join(recommender.fusion.signals)}, and there are "
                f"{', '.join(recommender.signals)}; fit them again with genrec.runs.tuning.tune_fusion"
            ]
        )
    with locked(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtefactError(f"{out} exists already; choose another folder or delete it")
        names = [name for name in manifest.files if name.startswith("adapter/") or name in _FROM_TRAINING]
        check_space(out, 2 * sum(entry["bytes"] for entry in manifest.files.values()), "the run")
        why_none = "" if recommender.fusion else manifest.no_weights or "the recommender that was saved had none"
        kept = manifest.moved(origin.run, out, origin.base).changed(no_weights=why_none)
        told: dict[str, Any] = {}  # filled at the end of the block
        with new_folder(out, "run", told) as work:
            for name in names:
                _copy(origin.run / name, work / name, manifest.files[name])
            write_items(work / "items.jsonl", recommender.catalog)
            recommender.decoder.trie.save(work / "trie.safetensors")
            recommender.index.save(work / "index")
            save_signals(work / "signals.safetensors", recommender.signals)
            if recommender.tokens is not None:
                recommender.tokens.save(work)
            if recommender.fusion is not None:
                write_json(work / FUSION, recommender.fusion.to_json())
            if alone:
                kept = _independent(work, kept, origin)
            told |= kept.to_json()


def state_of(recommender: Recommender) -> str:
    """Return the fingerprint of a recommender's present state, by which its figures are recognised."""
    files = recommender.manifest.files
    parts = {name: entry["sha256"] for name, entry in files.items() if name.startswith(_DECIDING)}
    fusion = None if recommender.fusion is None else recommender.fusion.to_json()
    state = [parts, fusion, len(recommender.catalog), list(recommender.signals)]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def _copy(source: Path, target: Path, known: Mapping[str, Any]) -> None:
    """Copy a file of the run that was loaded, if it still is what was loaded."""
    target.parent.mkdir(exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise ArtefactError(
            f"{source} is missing, which belongs to the run that was loaded; put that run back, or load it again"
        ) from None
    if {key: known[key] for key in ("bytes", "sha256")} != file_entry(target):
        raise ArtefactError(f"{source} is not what was loaded any more; load the run again")


def _independent(work: Path, manifest: RunManifest, origin: Origin) -> RunManifest:
    """Put in the models that are folders here, and return a manifest that says nothing of this machine."""
    if not manifest.models:
        raise ArtefactError(
            f"{origin.run} was trained by an older genrec and does not say what its models hold; train it again"
        )
    models = dict(manifest.models)
    changes: dict[str, Any] = {"data_folder": "", "data_way": None, "models": models}
    recipe = yaml.safe_load((work / RECIPE).read_text(encoding="utf-8"))
    for role, known in manifest.models.items():
        if known.kind != "folder":
            continue
        source = Path(origin.base if role == "base" else find_model(role, manifest, work))
        licences = [path.name for pattern in ("LICENSE*", "NOTICE*") for path in source.glob(pattern)]
        for name in (*known.files, *licences):
            target = work / role / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to((source / name).resolve())
        models[role] = replace(known, name=role, way=role)
        changes[role] = role
        if role == "base":
            recipe["base"] = role
            rename_base(work / "adapter", None)
    recipe["reasons"] = None
    recipe["template"] = Path(recipe["template"]).name
    write_text(work / RECIPE, yaml.safe_dump(recipe, sort_keys=False))
    return manifest.changed(**changes)
