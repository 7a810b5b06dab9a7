"""Where losses are also written: TensorBoard, MLflow, Weights & Biases, each through the library that others use.

Fine-tuning and the preference stage go through `transformers`' trainer, which knows all three. `genrec pretrain` has a
loop of its own, so `accelerate`'s trackers are told of its passes. TensorBoard's files go into the folder that is made;
where the others write is said as they have it (`MLFLOW_TRACKING_URI`, `WANDB_PROJECT`, ...). No user id is reported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.errors import RecipeError

if TYPE_CHECKING:
    from training.passes import Pass

Reporter = Literal["tensorboard", "mlflow", "wandb"]

PROJECT = "genrec"
"""What a project or experiment is called where the environment does not say."""

TENSORBOARD = "tensorboard"
"""The folder of TensorBoard's files, and its name as a reporter."""

_INSTALL: Mapping[str, str] = {
    "tensorboard": "pip install 'genrec[tensorboard]'",
    "mlflow": "pip install mlflow",
    "wandb": "pip install wandb",
}

LABEL = "Where losses are also written: tensorboard, mlflow, wandb."
"""What recipes say of it."""


def missing_reporters(names: Sequence[str]) -> list[str]:
    """Return the problems of the requested reporters: those whose library is not installed."""
    return [
        f"report_to={name} needs an optional library; run: {_INSTALL[name]}"
        for name in names
        if importlib.util.find_spec(name) is None
    ]


def check_reporters(names: Sequence[str]) -> None:
    """Check that every reporter's library is installed; call it before the work.

    Raises:
        RecipeError: one is not; all of them at once.
    """
    if problems := missing_reporters(names):
        raise RecipeError(problems)


def trainer_arguments(names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the reporters for `TrainingArguments`: all but TensorBoard, whose folder `tensorboard` chooses."""
    return {"report_to": [name for name in names if name != TENSORBOARD], "run_name": folder.absolute().name}


def tensorboard(folder: Path) -> Any:
    """Return the trainer's callback that writes TensorBoard's files into a folder."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder / TENSORBOARD)))


@contextmanager
def reported_passes(
    names: Sequence[str], folder: Path, settings: Mapping[str, Any]
) -> Iterator[Callable[[Pass | None], None]]:
    """Report the passes of pretraining while the block runs.

    Args:
        names: where to.
        folder: the base that is made; its name is the run's.
        settings: the recipe.

    Yields:
        What is to be told of the newest pass; telling it again changes nothing.
    """
    if not names:
        yield lambda newest: None
        return
    trackers = [_tracker(name, folder) for name in names]
    for tracker in trackers:
        if tracker.name != TENSORBOARD:  # it would make a second run of the settings
            tracker.store_init_configuration(dict(settings))
    told = 0

    def tell(newest: Pass | None) -> None:
        nonlocal told
        if newest is None or newest.number <= told:
            return
        told = newest.number
        values = {"train/loss": newest.train, "valid/loss": newest.valid, "valid/gain": newest.gain}
        for tracker in trackers:
            tracker.log(values, step=newest.number)

    try:
        yield tell
    finally:
        for tracker in trackers:
            tracker.finish()


def _tracker(name: str, folder: Path) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    run = folder.absolute().name
    if name == TENSORBOARD:
        tracker = TensorBoardTracker(TENSORBOARD, str(folder))
    elif name == "mlflow":
        tracker = MLflowTracker(PROJECT, run_name=run)
    else:
        tracker = WandBTracker(PROJECT, name=run)
    tracker.start()
    return tracker
