"""The preference stage: the item that a user took is preferred to the model's own items (DPO, arXiv 2305.18290).

TRL's trainer does the training; the reference is the adapter before it. TRL compares one answer with one other, so
several negatives become several pairs with the same prompt. S-DPO (arXiv 2406.09215) puts them into one softmax, which
TRL does not offer.

TRL gets tokens, not text: it would tokenise a prompt and its answer together and add its own end token, and the answers
would differ from those of the trie. If the training loss was over the catalogue's tokens, the preferences are, too:
over the whole vocabulary, the model could satisfy them by unlearning words that are never decoded.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from training.backbone import diverged, restrict_head
from training.errors import BackboneError
from training.finetune import Progress
from training.recipe import Precision
from training.reporting import LABEL, TENSORBOARD, Reporter, tensorboard, trainer_arguments


class PreferenceRecipe(BaseModel):
    """How a model learns preferences."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: int = Field(2000, ge=1, description="Training histories, drawn by the seed, whose last item is preferred.")
    negatives: int = Field(3, ge=1, description="Items of the model's own beams that it is preferred to, the best.")
    beta: float = Field(0.1, gt=0, description="How dearly it costs to leave the model as it was.")
    epochs: float = Field(1.0, gt=0, description="Passes over the pairs.")
    max_minutes: float | None = Field(None, gt=0, description="Stop training after this many minutes.")
    learning_rate: float = Field(2e-5, gt=0, description="Peak learning rate; it falls linearly to zero.")
    batch_pairs: int = Field(8, ge=1, description="Pairs in an optimiser step.")
    device_pairs: int = Field(2, ge=1, description="Pairs that are computed side by side.")
    precision: Precision = Field("auto", description="auto: bf16 where the device has it.")
    tuning_cases: int | None = Field(
        None, ge=0, description="Validation cases that the weights of all signals are fitted on; the run's own number."
    )
    report_to: list[Reporter] = Field(default_factory=list, description=LABEL)
    seed: int = Field(0, ge=0, description="Seed of everything random.")


@dataclass(frozen=True, slots=True)
class Preference:
    """A pair of answers of which the first is preferred.

    Attributes:
        prompt: the question's tokens.
        chosen: the better answer's, its terminator included.
        rejected: the worse one's.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PreferenceOutcome:
    """The record of the stage.

    Attributes:
        losses: (step, loss) pairs, in order.
        accuracies: (step, share of pairs whose better answer gained more than the other), likewise.
        steps: optimiser steps taken.
        seconds: time spent training.
    """

    losses: tuple[tuple[int, float], ...]
    accuracies: tuple[tuple[int, float], ...]
    steps: int
    seconds: float


def prefer(
    model: Any,
    adapter: Path,
    tokenizer: Any,
    preferences: Sequence[Preference],
    recipe: PreferenceRecipe,
    *,
    catalogue_tokens: Sequence[int] | None,
    gradient_checkpointing: bool = False,
    logs: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Any, PreferenceOutcome]:
    """Train a saved adapter on preferences.

    Args:
        model: the base model, decoder-only.
        adapter: the adapter's folder; it is read, not written.
        tokenizer: the base's; it only names the padding, and is given some where it has none.
        preferences: at least one.
        recipe: the recipe.
        catalogue_tokens: the tokens that the adapter's loss was over, sorted; None: the whole vocabulary.
        gradient_checkpointing: recompute activations, to save memory.
        logs: the folder that TensorBoard's files go into, if they are asked for; its name is that of the run elsewhere.
        progress: called after each step.

    Returns:
        The model with the trained adapter, and what was done.

    Raises:
        BackboneError: there are no preferences, or the loss is not finite.
    """
    from peft import PeftModel

    if not preferences:
        raise BackboneError("there are no preferences; every training history has fewer than two items")
    if tokenizer.pad_token is None:
        # TRL wants some token of the vocabulary; what it pads is masked, so any will do.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokens = None if catalogue_tokens is None else torch.tensor(sorted(catalogue_tokens))
    if tokens is not None:
        restrict_head(model, tokens)
    adapted = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    parameter = next(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=recipe.device_pairs,
            gradient_accumulation_steps=max(1, recipe.batch_pairs // recipe.device_pairs),
            num_train_epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=0.1,
            beta=recipe.beta,
            max_length=None,  # prompts fit already, and an answer is never cut
            bf16=parameter.dtype == torch.bfloat16,
            use_cpu=parameter.device.type == "cpu",
            gradient_checkpointing=gradient_checkpointing,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            disable_tqdm=True,
            seed=recipe.seed,
            dataloader_pin_memory=False,
            **trainer_arguments(recipe.report_to, logs or Path(folder)),
        )
        trainer = _Trainer(
            model=adapted,
            args=arguments,
            train_dataset=Dataset.from_list(
                [
                    {"prompt_ids": list(one.prompt), "chosen_ids": list(one.chosen), "rejected_ids": list(one.rejected)}
                    for one in preferences
                ]
            ),
            processing_class=tokenizer,
            callbacks=[_Clock(recipe, progress)],
        )
        trainer.remove_callback(PrinterCallback)
        if TENSORBOARD in recipe.report_to and logs is not None:
            trainer.add_callback(tensorboard(logs))
        hook = None
        if tokens is not None:
            hook = adapted.register_forward_pre_hook(_labels_as_places(tokens), with_kwargs=True)
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
    if hook is not None:
        hook.remove()
    adapted.delete_adapter("ref")  # TRL's copy of the adapter as it was
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return adapted, PreferenceOutcome(
        tuple((entry["step"], entry["loss"]) for entry in history),
        tuple((entry["step"], entry["rewards/accuracies"]) for entry in history),
        trainer.state.global_step,
        seconds,
    )


class _Trainer(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer over tokens instead of texts."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def _labels_as_places(tokens: Tensor) -> Any:
    """Return a hook that turns labels from tokens into places in the restricted head's output."""

    def turn(_: Any, positional: Any, named: dict[str, Any]) -> Any:
        labels = named["labels"]
        places = torch.searchsorted(tokens.to(labels.device), labels.clamp(min=0))
        return positional, {**named, "labels": places.where(labels >= 0, labels)}

    return turn


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Stops by the clock and tells how far it is."""

    def __init__(self, recipe: PreferenceRecipe, progress: Progress | None) -> None:
        self.recipe = recipe
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        limit = self.recipe.max_minutes
        if limit is not None and time.monotonic() - self.started > 60 * limit:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise BackboneError(diverged(f"step {state.global_step}"))
        if self.progress is not None and logs and "loss" in logs:
            spent, share = time.monotonic() - self.started, state.global_step / max(1, state.max_steps)
            self.progress(share, float(logs["loss"]), spent / max(share, 1e-9) * (1 - share))
