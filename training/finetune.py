"""Fine-tuning: batches of examples into an adapter, through `transformers`' trainer.

The loss is normalised over the catalogue's tokens only or over the whole vocabulary, and covers exactly the tokens that
`prompts.encoding` supervises. Batches are made in `training.batches`, the loss in `training.supervision`.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from prompts.encoding import Example, Family
from training import processes
from training.backbone import add_adapter, diverged, readable_as, restrict_head
from training.batches import Batches
from training.best_pass import BestPass, Judge, JudgedPass
from training.errors import BackboneError, RecipeError
from training.recipe import Recipe
from training.reporting import TENSORBOARD, missing_reporters, tensorboard, trainer_arguments
from training.supervision import summed_loss, with_places

logger = logging.getLogger(__name__)

Progress = Callable[[float, float, float | None], None]
"""Called with the share of training done (0 to 1), the latest loss, and the seconds left (None: not known yet)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record of a training.

    Attributes:
        losses: (step, loss) pairs, in order.
        steps: optimiser steps taken.
        supervised: supervised tokens seen.
        seconds: time spent training, earlier parts of a resumed run not counted.
        passes: what validation said of each pass; empty where it was not asked. The adapter is that of the best one.
    """

    losses: tuple[tuple[int, float], ...]
    steps: int
    supervised: int
    seconds: float
    passes: tuple[JudgedPass, ...] = ()


def finetune(
    model: Any,
    family: Family,
    examples: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    *,
    catalogue_tokens: Sequence[int],
    catalogue_texts: Sequence[Example] = (),
    resume: bool = False,
    progress: Progress | None = None,
    judge_of: Callable[[Any], Judge] | None = None,
) -> tuple[Any, Outcome]:
    """Fine-tune a LoRA adapter on examples.

    Args:
        model: the base model.
        family: its family.
        examples: what to learn from; at least one.
        recipe: the recipe.
        folder: where checkpoints and the loss log go.
        catalogue_tokens: every token that an item's label or terminator uses, sorted.
        catalogue_texts: what the adapter reads first, `recipe.catalogue_epochs` times, under the loss over the whole
            vocabulary; see `training.catalogue_texts`.
        resume: continue from the newest checkpoint in the folder.
        progress: told about each logged step; it starts anew after the catalogue's texts.
        judge_of: given the model with its adapter, returns what judges it after each of several passes, and the best
            pass is kept. None, or a single pass: the last state is kept.

    Returns:
        The model with its adapter, and what was done after the catalogue's texts.

    Raises:
        BackboneError: there are no examples, or the loss is not finite.
        RecipeError: the recipe asks for what this base or this installation cannot do.
    """
    if not examples:
        raise BackboneError("there are no training examples; every history has fewer than two items")
    _check(recipe, family)
    tokens = torch.tensor(sorted(catalogue_tokens)) if recipe.loss == "catalogue" else None
    reads = recipe.catalogue_epochs > 0 and bool(catalogue_texts)
    if tokens is not None and not reads:
        restrict_head(model, tokens)  # before the adapter: 4-bit training keeps an fp32 copy of the head
    adapted = add_adapter(model, recipe)
    adapted.config.use_cache = False
    if reads:
        _read_catalogue(adapted, family, catalogue_texts, recipe, folder, resume, progress)
        if tokens is not None:
            restrict_head(adapted.get_base_model(), tokens)
    best = None
    if judge_of is not None and recipe.epochs > 1:
        best = BestPass(adapted, judge_of(adapted), recipe.patience, folder / "checkpoints", resume)
    return adapted, _fit(adapted, family, examples, recipe, folder, tokens, resume, progress, best)


def _read_catalogue(
    adapted: Any,
    family: Family,
    texts: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    resume: bool,
    progress: Progress | None,
) -> None:
    """Train the adapter on the catalogue's texts; where that was finished before a kill, take up what came of it."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file, save

    done = folder / "checkpoints" / "catalogue.safetensors"
    if resume and done.exists():
        set_peft_model_state_dict(adapted, load_file(done))
        return
    first = recipe.model_copy(update={"epochs": recipe.catalogue_epochs, "max_minutes": None})
    _fit(adapted, family, texts, first, folder / "checkpoints" / "catalogue", None, resume, progress)
    if processes.is_first():
        unfinished = done.with_suffix(".unfinished")
        unfinished.write_bytes(save(get_peft_model_state_dict(adapted)))
        unfinished.rename(done)


def _fit(
    adapted: Any,
    family: Family,
    examples: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    tokens: Tensor | None,
    resume: bool,
    progress: Progress | None,
    best: BestPass | None = None,
) -> Outcome:
    parameter = next(adapted.get_base_model().parameters())
    on_gpu = parameter.device.type == "cuda"
    # New shapes and odd widths are slow on a GPU; a base has positions for the widest of them.
    widest = getattr(adapted.config, "max_position_embeddings", None)
    batches = Batches(examples, recipe.batch_tokens, recipe.seed, 64 if on_gpu else 1, widest)
    steps = len(batches) * recipe.epochs / recipe.accumulate / processes.count()
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=recipe.accumulate,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        bf16=parameter.dtype == torch.bfloat16 or recipe.quantisation == "4bit",
        use_cpu=parameter.device.type == "cpu",
        gradient_checkpointing=recipe.gradient_checkpointing,
        logging_nan_inf_filter=False,  # it would write the last good loss in place of one that is no number
        logging_steps=min(5, max(1, int(steps) // 100)),
        save_strategy="no",  # the clock decides, see _Clock
        save_total_limit=1,
        disable_tqdm=True,
        seed=recipe.seed,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        **trainer_arguments(recipe.report_to, folder),
    )
    clock = _Clock(recipe, progress, folder / "loss.jsonl", resume, parameter.device)
    made = _with_places if family == "causal" else _only
    trainer = _Trainer(model=adapted, args=arguments, train_dataset=batches, data_collator=made, callbacks=[clock])
    trainer.remove_callback(PrinterCallback)
    if best is not None:
        trainer.add_callback(best)
    if TENSORBOARD in recipe.report_to and processes.is_first():
        trainer.add_callback(tensorboard(folder))
    trainer.tokens, trainer.family = tokens, family
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=_newest_checkpoint(folder) if resume else None)
    if best is not None:
        best.restore()
    losses = tuple((entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
    supervised = sum(example.supervised for group in batches.groups for example in group)
    share = trainer.state.global_step * recipe.accumulate * processes.count() / len(batches)
    seconds = time.monotonic() - started
    passes = best.passes if best else ()
    return Outcome(losses, trainer.state.global_step, int(supervised * share), seconds, passes)


def _check(recipe: Recipe, family: Family) -> None:
    problems = missing_reporters(recipe.report_to)
    if recipe.catalogue_epochs and family == "seq2seq":
        problems.append("catalogue_epochs needs a decoder-only base, and this one has an encoder; leave it out")
    if problems:
        raise RecipeError(problems)


class _Trainer(Trainer):  # type: ignore[misc]
    """A trainer whose loss may be over the catalogue's tokens only."""

    tokens: Tensor | None = None
    family: Family = "causal"

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        total, supervised = summed_loss(model, self.family, inputs, self.tokens)
        if num_items_in_batch is None:
            return total / supervised
        # The items are those of all processes, whose gradients are then averaged.
        return total / num_items_in_batch * self.accelerator.num_processes

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint; where the disk has no room for it, go on without: the training is worth more."""
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            if processes.count() > 1 or not is_write_error(error):
                raise
            unfinished = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(unfinished, ignore_errors=True)
            logger.warning(
                "no checkpoint could be written at step %d (%s); training goes on, and a later one may succeed",
                self.state.global_step,
                " ".join(str(error).split())[:160],
            )


def is_write_error(error: Exception) -> bool:
    """Return whether an error of the libraries that write weights means that a file could not be written."""
    text = str(error)
    told = "os error" in text or "failed writing" in text or "unexpected pos" in text or "file write failed" in text
    return isinstance(error, OSError) or told


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Saves and stops by the clock, logs losses, and estimates the remaining time."""

    def __init__(
        self, recipe: Recipe, progress: Progress | None, log: Path, resume: bool, device: torch.device
    ) -> None:
        self.recipe = recipe
        self.progress = progress
        self.log = log
        self.device = device
        if not resume and processes.is_first():
            log.unlink(missing_ok=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = self.saved = time.monotonic()
        self.first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        now = time.monotonic()
        if self.recipe.max_minutes is not None:
            spent = processes.agreed((now - self.started) / (60 * self.recipe.max_minutes), self.device)
            control.should_training_stop = control.should_training_stop or spent >= 1
            # The schedule knows passes only; where the minutes end first, the rate rises and falls with them.
            share, warmup = max(spent, state.global_step / state.max_steps), self.recipe.warmup
            rate = share / warmup if share < warmup else max(0.0, 1 - share) / (1 - warmup)
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * rate
        if processes.agreed(now - self.saved > self.recipe.save_minutes * 60, self.device):
            control.should_save = True
            self.saved = now

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "trainer_state.json"
        if state.is_world_process_zero and saved.exists():  # not where the disk was full
            readable_as(Path(args.output_dir) / f"checkpoint-{state.global_step}", "trainer_state.json")

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise BackboneError(diverged(f"step {state.global_step}"))
        if not state.is_world_process_zero:
            return
        line = {"step": state.global_step, "loss": loss, "learning_rate": optimizer.param_groups[0]["lr"]}
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # a curve with a gap is worth less than the training
            logger.debug("the loss of step %d is not in %s: %s", state.global_step, self.log, error)
        if self.progress is not None:
            spent = time.monotonic() - self.started
            share = state.global_step / max(1, state.max_steps)
            left = spent / max(1, state.global_step - self.first) * (state.max_steps - state.global_step)
            if self.recipe.max_minutes is not None:
                share = max(share, min(1.0, spent / (self.recipe.max_minutes * 60)))
                left = min(left, self.recipe.max_minutes * 60 - spent)
            self.progress(share, loss, max(0.0, left))


def _newest_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint, or None where there is none to resume from."""
    found = sorted(
        (path for path in (folder / "checkpoints").glob("checkpoint-*") if (path / "trainer_state.json").is_file()),
        key=lambda path: int(path.name.split("-")[1]),
    )
    return str(found[-1]) if found else None


def _only(elements: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return elements[0]


def _with_places(elements: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return with_places(elements[0])
