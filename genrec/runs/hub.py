"""Runs on a hub: uploaded with a model card, and loaded by their id through the hub's own cache.

Easy to get wrong: a path that looks like an id, such as `runs/films`. Anybody may own that name on a hub. So a name in
an existing folder is a path, and only the files that a run's manifest lists are downloaded.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec.errors import ArtefactError, ConfigError
from genrec.evaluation.results import Report
from genrec.manifest import RunManifest
from genrec.runs.card import model_card
from genrec.runs.saving import save_recommender, state_of
from genrec.storage.folders import MANIFEST, read_json, write_text
from genrec.storage.places import expanded, is_hub_id
from prompts.errors import first_line

if TYPE_CHECKING:
    from genrec.recommender import Recommender

logger = logging.getLogger(__name__)

CARD = "README.md"


def run_folder(run: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a run: the one that is named, or that of a hub's files, downloaded if need be.

    Args:
        run: a folder, or a hub id (`owner/name`).
        revision: of a hub's: a branch, tag or commit.

    Raises:
        ArtefactError: the hub did not give the run, or there is a revision of a folder.
    """
    path = expanded(str(run))
    # Beside existing folders, a missing one is probably a typing error, and anybody may own that name on a hub.
    is_path = isinstance(run, Path) or path.exists() or "/" not in run or not is_hub_id(run) or path.parent.is_dir()
    if not is_path:
        return _downloaded(str(run), revision)
    if revision is not None:
        raise ArtefactError(f"{run} is a folder here, and only a hub's run has revisions; leave revision out")
    return path


def _downloaded(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=[MANIFEST]))
        if not (folder / MANIFEST).is_file():
            raise ArtefactError(f"the hub's {repo_id} has no {MANIFEST}, so it is not a run that genrec uploaded")
        files = [*RunManifest.read(folder, verify=False).files, MANIFEST]
        # The commit that the first call found, so that both are of one state.
        return Path(snapshot_download(repo_id, revision=folder.name, allow_patterns=files))
    except (OSError, HfHubHTTPError, ValueError) as error:
        at = f" at {revision}" if revision else ""
        raise ArtefactError(
            f"there is no folder {repo_id}, and the hub did not give a run of that name{at} ({first_line(error)}); "
            "give a folder, or check the id, the network and HF_HUB_OFFLINE"
        ) from error


def push(recommender: Recommender, repo_id: str, private: bool, token: str | None) -> str:
    """Upload a recommender; `Recommender.push_to_hub` is its public name.

    Raises:
        ArtefactError: the hub refused, or the run that the recommender was loaded from is gone.
        ConfigError: the id is none, the repository is public, or a signal is the user's own.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if "/" not in repo_id or not is_hub_id(repo_id):
        raise ConfigError([f"{repo_id!r} is not a repository id; expected owner/name, such as you/{_name(repo_id)}"])
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="genrec.") as aside:
        folder = Path(aside) / "run"
        save_recommender(recommender, folder, alone=True)
        manifest = RunManifest.read(folder, verify=False)
        card = model_card(
            manifest, repo_id, recommender.catalog.items[:2], len(recommender.catalog), figures(recommender)
        )
        write_text(folder / CARD, card)
        try:
            made = api.create_repo(repo_id, private=private, exist_ok=True)
            if private and not api.model_info(made.repo_id).private:
                raise ConfigError(
                    [f"{made.repo_id} is public on the hub; say private=False if it may be, or choose another name"]
                )
            done = api.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                allow_patterns=[*manifest.files, MANIFEST, CARD],
                delete_patterns=["*"],  # files of an earlier upload that this one does not have
                commit_message="genrec: a run folder",
            )
        except (OSError, HfHubHTTPError) as error:
            raise ArtefactError(
                f"the hub did not take {repo_id} ({first_line(error)}); log in with `hf auth login` or give a token "
                "that may write there, and check the network and HF_HUB_OFFLINE"
            ) from error
    return str(done.commit_url)


def figures(recommender: Recommender) -> Report | None:
    """Return the test figures, or else the validation figures, of the run that a recommender was loaded from.

    None where there are none, or where they are of another state: before items were added, or of other weights.
    """
    if recommender.origin is None:
        return None
    for split in ("test", "valid"):
        place = recommender.origin.run / "evaluation" / split / "metrics.json"
        if not place.is_file():
            continue
        found: dict[str, Any] = read_json(place)
        if found.get("settings", {}).get("run") == state_of(recommender):
            return Report.from_json(found)
        logger.warning("the figures in %s are not of this recommender as it is now, and are left out", place)
    return None


def _name(repo_id: str) -> str:
    return json.dumps(repo_id.rpartition("/")[2] or "films", ensure_ascii=False).strip('"')
