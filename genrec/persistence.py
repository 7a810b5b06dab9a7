"""A recommender as a whole: loaded from a run folder or a hub, saved into a folder, uploaded to a hub.

The room `runs` stands above the recommender, so it is imported only when one of these methods is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from genrec.errors import translated

if TYPE_CHECKING:
    from genrec.recommender import Recommender
    from training.recipe import ServedPrecision


class Persistent:
    """What a recommender can do as a whole."""

    @classmethod
    @translated()
    def from_pretrained(
        cls,
        run: str | Path,
        device: str | None = None,
        precision: ServedPrecision = "auto",
        *,
        base: str | None = None,
        revision: str | None = None,
    ) -> Recommender:
        """Load a finished run folder, or a run from a hub.

        Args:
            run: the folder that `genrec train` made, or a hub id, `owner/name`, of a run that `push_to_hub` wrote. What
                is a folder here, or looks like a path, is never asked of a hub.
            device: where the model runs; see `training.computing.choose_device`.
            precision: "auto", "bf16", "fp32", or "4bit" for a base that stays in 4 bits, as QLoRA trained on it. It
                belongs to the weights in memory, so it is asked here, once, and is no field of `Settings`, which may
                change from call to call. See `training.computing`.
            base: where the base model is now, if not where the run says: a folder, a hub id or "starter". It must hold
                what it held when the run was trained.
            revision: of a hub's, the branch, tag or commit; None: the newest. What was downloaded before is used where
                `HF_HUB_OFFLINE` is set or the hub cannot be reached.

        Raises:
            ArtefactError: the folder is missing, unfinished or damaged, or the hub did not give the run.
            ModelError: the base model that the run names is missing or has changed.
            ConfigError: the device is not on this machine, or the precision is none.

        Example:
            >>> from genrec import Recommender
            >>> rec = Recommender.from_pretrained("runs/films")
            >>> len(rec.catalog)
            30
        """
        from genrec.runs.folder import load_recommender
        from genrec.runs.hub import run_folder

        return load_recommender(run_folder(run, revision), device, precision, base)

    @translated()
    def save_pretrained(self, folder: str | Path) -> None:
        """Write this recommender as a run folder, as it is now: with items added, with other weights.

        `Recommender.from_pretrained` loads it, with the same answers. The folder is there whole or not at all.

        Args:
            folder: the folder to make; nothing may be there.

        Raises:
            ArtefactError: the folder exists or cannot be written, or the run that this was loaded from is gone.
            ConfigError: a signal is your own, or the weights were fitted for other signals.

        Example:
            >>> from genrec import Item, Recommender
            >>> rec = Recommender.from_pretrained("runs/films").with_items([Item("nig7", "Night Train 7")])
            >>> rec.save_pretrained("runs/films-and-one")
            >>> len(Recommender.from_pretrained("runs/films-and-one").catalog)
            31
        """
        from genrec.runs.saving import save_recommender

        save_recommender(self._whole, Path(folder))

    @translated()
    def push_to_hub(self, repo_id: str, private: bool = True, token: str | None = None) -> str:
        """Upload this recommender to a hub as a model repository, with a model card.

        A base or an encoder that is a folder of this machine goes with it, since nobody else has it. No user id, no
        history and no path of this machine is uploaded; the catalogue is. The licence is yours to write into the card.

        Args:
            repo_id: `owner/name`; the repository is made if there is none.
            private: whether it is for you alone; a public repository is refused then.
            token: of the hub; None: the one that `hf auth login` keeps.

        Returns:
            The address of the upload.

        Raises:
            ArtefactError: the hub refused, or the run that this was loaded from is gone.
            ConfigError: the id is none, the repository is public, or a signal is your own.

        Example:
            >>> from genrec import ConfigError, Recommender
            >>> rec = Recommender.from_pretrained("runs/films")
            >>> try:
            ...     rec.push_to_hub("films")
            ... except ConfigError as error:
            ...     print(error)
            'films' is not a repository id; expected owner/name, such as you/films
        """
        from genrec.runs.hub import push

        return push(self._whole, repo_id, private, token)

    @property
    def _whole(self) -> Recommender:
        return cast("Recommender", self)
