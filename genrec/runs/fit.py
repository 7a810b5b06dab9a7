"""The common case in one call: a log and a catalogue become a finished, evaluated run.

The training is chosen by the data and the machine, and each choice is logged with its reason:

- a base from nothing (`pretrain`) whenever there are histories to learn from: in minutes it is as good as LoRA on a
  trained model's own tokens after hours;
- more minutes for more events, up to half an hour on a processor;
- then a short LoRA training and the weights of all signals (recipe `pretrained`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec.data.prepared import PreparedData, load_prepared, prepare
from genrec.errors import translated
from genrec.language.bases import PRETRAIN_FILE
from genrec.recommender import Recommender
from genrec.runs.bases import pretrain_with
from genrec.runs.evaluate import evaluate
from genrec.runs.train import ENCODER, train
from genrec.storage.folders import MANIFEST
from training.pretrain import choose_where
from training.pretrain_recipe import PretrainRecipe

logger = logging.getLogger(__name__)

EVENTS_A_MINUTE = 20_000
"""Events for which one minute of pretraining is planned; ml-100k gets five."""

LEAST_MINUTES, MOST_MINUTES = 1.0, 30.0
"""Bounds of the minutes that are planned."""

GPU_SPEED = 10.0
"""The assumed speed-up of pretraining on a GPU, used to plan minutes; the plan is logged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be trained, and why.

    Attributes:
        minutes: of pretraining.
        reasons: one sentence for each choice, as it is announced.
    """

    minutes: float
    reasons: tuple[str, ...]


def plan(data: PreparedData, device: str, minutes: float | None = None) -> Plan:
    """Choose what to train from the data and the machine.

    Args:
        data: what will be learnt from.
        device: where; see `training.computing.choose_device`.
        minutes: of pretraining, where the user has said so.
    """
    events = data.report.interactions
    speed = GPU_SPEED if device.startswith("cuda") else 1.0
    chosen = minutes or min(max(events / EVENTS_A_MINUTE / speed, LEAST_MINUTES), MOST_MINUTES)
    why = "as asked" if minutes else f"for {events:,} events on {device}"
    return Plan(
        chosen,
        (
            "a base model from nothing, each title one token: it learns in minutes what LoRA on a trained model's own "
            "tokens takes hours for",
            f"{chosen:.1f} minutes of pretraining {why}",
            "then the weights of all signals on held-out validation cases; what does not help gets no weight",
        ),
    )


@translated()
def fit(
    interactions: Any = None,
    items: Any = None,
    out: str | Path = "runs/fit",
    *,
    dataset: str | None = None,
    minutes: float | None = None,
    encoder: str = ENCODER,
    device: str | None = None,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
    **preparing: Any,
) -> Recommender:
    """Prepare, choose, train, tune and evaluate in one call.

    Three folders are made: `OUT-data`, `OUT-base` and `OUT`. A step that is finished already is not repeated, so a call
    that was broken off goes on where it stopped.

    Args:
        interactions: the log: a file, or a data frame.
        items: the catalogue: a file, or a data frame.
        out: the run folder to make.
        dataset: instead of the two, a named source: `NAME` or `NAME:PATH`.
        minutes: of pretraining; None: chosen by the data and the machine.
        encoder: of titles: "starter", "hashing", a sentence-transformers folder or hub id.
        device: where the model is trained; see `training.computing.choose_device`.
        progress: whether progress bars are shown on stderr.
        say: told what is done and why, a sentence at a time; None: the log, at level INFO.
        preparing: further arguments of `genrec.prepare`, such as `columns`.

    Returns:
        The recommender, loaded from `out`. Its test figures are in `OUT/evaluation/test`.

    Raises:
        DataError: the log or the catalogue is not what it should be.
        ArtefactError: a folder holds something else, or cannot be written.

    Example:
        >>> import genrec
        >>> rec = genrec.fit("log.csv", "films.csv", "runs/fitted")
        >>> rec.recommend(["Night Train 1", "Night Train 2"], k=1)[0].item.title
        'Night Train 3'
    """
    tell = say or logger.info
    run = Path(out)
    folder, base = run.with_name(f"{run.name}-data"), run.with_name(f"{run.name}-base")
    if not (folder / MANIFEST).is_file():
        tell(prepare(interactions, items, out=folder, dataset=dataset, **preparing).report.to_text())
    data = load_prepared(folder)
    if not (run / MANIFEST).is_file():
        chosen = plan(data, choose_where(device).device, minutes)
        for reason in chosen.reasons:
            tell(reason)
        if not (base / PRETRAIN_FILE).is_file():
            shutil.rmtree(base, ignore_errors=True)
            begun = base.with_name(f"{base.name}.unfinished")
            shutil.rmtree(begun, ignore_errors=True)
            recipe = PretrainRecipe(max_minutes=chosen.minutes)
            made = pretrain_with(data, recipe, begun, encoder=encoder, device=device, progress=progress, say=tell)
            begun.rename(base)
            tell(f"kept pass {made.best.number} of {len(made.passes)}: validation gain {made.best.gain:.4f}")
        rec = train(data, run, base=base, encoder=encoder, device=device, resume=run.exists(), progress=progress)
        for sentence in rec.fusion.to_words() if rec.fusion else ():
            tell(sentence)
    recommender = Recommender.from_pretrained(run, device)
    evaluate(recommender, data, out=run / "evaluation" / "test", progress=progress)
    return recommender
