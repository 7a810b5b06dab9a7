"""The best pass of a fine-tuning: each pass is judged on validation cases, and the best pass's adapter is kept.

The training loss keeps falling while the model memorises its histories; lists for held-out cases get worse long before.
So the last pass is kept only if there is no validation.

The best adapter so far is in a file beside the checkpoints, so that a killed training can resume with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save
from transformers import TrainerCallback

from training import processes

logger = logging.getLogger(__name__)

Judge = Callable[[], float]
"""Judges the model in memory on validation cases; higher is better."""

WEIGHTS, PASSES = "best.safetensors", "passes.json"


@dataclass(frozen=True, slots=True)
class JudgedPass:
    """One pass over the examples, and its validation figure.

    Attributes:
        number: from 1.
        step: the optimiser steps taken by then.
        figure: the judge's, NDCG@10 for instance.
    """

    number: int
    step: int
    figure: float


def best_of(passes: Sequence[JudgedPass]) -> JudgedPass:
    """Return the pass with the highest figure; of equal ones the first, which has memorised the least."""
    return max(passes, key=lambda one: (one.figure, -one.number))


class BestPass(TrainerCallback):  # type: ignore[misc]
    """Judges each pass, keeps the best one's adapter, and stops after some passes without improvement.

    Args:
        adapted: the model with its adapter.
        judge: returns the validation figure.
        patience: passes without a better figure before training stops.
        folder: the folder of the best adapter so far.
        resume: whether the files in the folder belong to this training.
    """

    def __init__(self, adapted: Any, judge: Judge, patience: int, folder: Path, resume: bool) -> None:
        self._adapted, self._judge, self._patience, self._folder = adapted, judge, patience, folder
        self._passes: dict[int, JudgedPass] = {}
        self._best: dict[str, torch.Tensor] | None = None  # its weights; None: those of the file, where it is resumed
        self._saved = True
        if resume and (folder / PASSES).exists():
            earlier = json.loads((folder / PASSES).read_text(encoding="utf-8"))
            self._passes = {entry["number"]: JudgedPass(**entry) for entry in earlier}

    @property
    def passes(self) -> tuple[JudgedPass, ...]:
        """The passes judged so far, in order."""
        return tuple(self._passes[number] for number in sorted(self._passes))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Judge the pass that has ended; called by the trainer, also where the minutes ended inside a pass."""
        number = max(1, round(state.epoch))
        training = self._adapted.training
        figure = self._judge() if processes.is_first() else 0.0
        self._adapted.train(training)
        self._passes[number] = JudgedPass(
            number, state.global_step, processes.agreed(figure, next(self._adapted.parameters()).device)
        )
        best = best_of(self.passes)
        logger.info("pass %d: validation %.4f; best so far %.4f in pass %d", number, figure, best.figure, best.number)
        if processes.is_first():
            if best.number == number:
                weights = get_peft_model_state_dict(self._adapted)
                self._best = {
                    name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()
                }
                self._saved = False
            self._write()
        if number - best.number >= self._patience:
            control.should_training_stop = True

    def _write(self) -> None:
        """Write what a resumed training needs; where the disk has no room for it, go on: the training is worth more."""
        entries = [{"number": one.number, "step": one.step, "figure": one.figure} for one in self.passes]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._best is not None and not self._saved:
                _replace(self._folder / WEIGHTS, save(self._best))
                self._saved = True
            _replace(self._folder / PASSES, json.dumps(entries).encode())
        except OSError as error:
            logger.warning("the best pass could not be written to %s (%s); training goes on", self._folder, error)

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the adapter of the best pass; only the first process, which writes it, needs to."""
        if processes.is_first() and self._passes:
            best = load_file(self._folder / WEIGHTS) if self._best is None else self._best
            set_peft_model_state_dict(self._adapted, best)


def _replace(path: Path, contents: bytes) -> None:
    """Write a file atomically."""
    unfinished = path.with_suffix(".unfinished")
    try:
        unfinished.write_bytes(contents)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
