"""The manifest of a run folder: the run's description in `genrec.json`.

Manifests of older runs can be read: keys that they lack have defaults here. Unknown keys of a newer genrec are kept
when a run is made out of another, but not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genrec.errors import ArtefactError
from genrec.language.identity import Identity, Role, moved_models
from genrec.storage.folders import ABOUT_THE_FOLDER, MANIFEST, read_manifest
from genrec.storage.places import follow, way_to


class Training(BaseModel):
    """The record of a finished training.

    Attributes:
        steps: optimiser steps.
        supervised_tokens: tokens that the loss was taken over.
        seconds: how long it took.
        final_loss: of the last step that was noted; None where there was none.
        device: where it ran.
        precision: in which number format.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    steps: int
    supervised_tokens: int
    seconds: float
    final_loss: float | None = None
    device: str = ""
    precision: str = ""


class RunManifest(BaseModel):
    """The description of a run.

    Attributes:
        base: the base model, as the user named it.
        family: of the base.
        layers: how many of the base's layers are used; None: all.
        loss: over which tokens the loss was taken.
        keep_seen: whether seen items may be recommended again.
        max_tokens: of a prompt.
        encoder: the text encoder of the index, as the user named it.
        models: the identities of base and encoder, by role; empty in older runs, which did not record them.
        split: how the data was divided.
        data: the fingerprint of the data's manifest.
        data_folder: the data, as the user named it.
        data_way: the relative path from the run to the data; None in older runs, which did not record it.
        training: the record of the training.
        versions: the versions of the relevant libraries.
        no_weights: why no weights of the signals were fitted; empty if they were.
        added_items: how many items were added after the training.
        preference: what the preference stage did; None where there was none.
        counted_on: the fingerprint of the data that the signals were last counted on, where users were forgotten.
        files: size and SHA-256 of the run's files; empty before the run is whole.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    base: str
    family: Literal["causal", "seq2seq"]
    layers: int | None
    loss: Literal["catalogue", "vocabulary"]
    keep_seen: bool = False
    max_tokens: int = Field(ge=1)
    encoder: str
    models: Mapping[Role, Identity] = Field(default_factory=dict)
    split: str
    data: str
    data_folder: str
    data_way: str | None = None
    training: Training
    versions: Mapping[str, str]
    no_weights: str = ""
    added_items: int = 0
    preference: Mapping[str, Any] | None = None
    counted_on: str = ""
    files: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)

    @classmethod
    def read(cls, run: Path, verify: bool = True) -> RunManifest:
        """Read a run folder's manifest.

        Args:
            run: the folder.
            verify: also compare every file with what the manifest says of it.

        Raises:
            ArtefactError: there is no such folder, it is unfinished or damaged, or its manifest is no run's.
        """
        return cls.from_json(read_manifest(run, "run", verify), run / MANIFEST)

    @classmethod
    def from_json(cls, manifest: Mapping[str, Any], path: Path = Path(MANIFEST)) -> RunManifest:
        """Build from the JSON values of a manifest, now or of an earlier version.

        Args:
            manifest: the values; what every folder's manifest says is left out, but for the files.
            path: where they were read, for the message.

        Raises:
            ArtefactError: something is missing or of another kind; all problems are told at once.
        """
        told = {name: value for name, value in manifest.items() if name not in ABOUT_THE_FOLDER - {"files"}}
        try:
            return cls.model_validate(told)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
                for problem in error.errors()
            ]
            raise ArtefactError(
                f"{path} is not a run's manifest ({'; '.join(problems)}); use the genrec that made the run, or train "
                "again"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's keys beyond those of every saved folder; `from_json` is the inverse."""
        told = self.model_dump(exclude={"files"}, exclude_defaults=True)
        if self.models:
            told["models"] = {role: identity.to_json() for role, identity in self.models.items()}
        return {**told, "training": self.training.model_dump()}

    def changed(self, **changes: Any) -> RunManifest:
        """Return a manifest that says some things otherwise."""
        return self.model_copy(update=changes)

    def moved(self, run: Path, out: Path, base: str) -> RunManifest:
        """Return the manifest of a run that is made out of this one: the same, its ways leading from the new folder.

        Args:
            run: this run's folder.
            out: the new run's.
            base: where the base is, as `find_model` returned it.
        """
        way = None if self.data_way is None else way_to(follow(self.data_way, run), out)
        return self.changed(models=moved_models(self.models, run, out, base), data_way=way)
