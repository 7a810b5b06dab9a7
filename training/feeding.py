"""Batches for training steps, prepared ahead of time and copied to the model's device.

On a processor, a batch is prepared when its step comes. On a GPU, other threads pad, lay out and copy the next batches
through pinned memory while a step runs. No step waits for a value from the device: the positions of the supervised
tokens are computed here, on the host.

Nothing is selected by a mask: the host would have to wait for the device to count the selected elements.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from prompts.encoding import IGNORED, Family
from training.batches import Batches
from training.device_targets import DeviceLayout, DeviceTargets, SuccessorTable
from training.losses import AnyTargets
from training.soft_targets import SoftTargets
from training.supervision import shift_right

THREADS = 2
"""Threads that make batches for a GPU; they share Python's lock with the one that trains, so more help little."""
AHEAD = 4
"""Batches that are made before they are asked for."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Step:
    """The inputs and targets of one training step, on the model's device.

    Attributes:
        inputs: what the model is called with.
        places: where the supervised tokens stand in the model's output, examples one after another.
        owners: whose each supervised token is.
        wanted: each supervised token's place among the tokens that the loss is over.
        targets: what the loss compares with.
        examples: how many the batch has.
    """

    inputs: dict[str, Tensor]
    places: Tensor
    owners: Tensor
    wanted: Tensor
    targets: AnyTargets
    examples: int


class Feed:
    """Makes the steps of batches.

    Args:
        family: causal or seq2seq.
        start: the token that a decoder starts with, of a seq2seq model.
        soft: makes the targets.
        device: where the steps are wanted.
        on_host: make a step's targets in host memory, when it is asked for: a processor's way, and only its.
    """

    def __init__(self, family: Family, start: int | None, soft: SoftTargets, device: str, on_host: bool) -> None:
        self._family, self._start, self._soft, self._device, self._on_host = family, start, soft, device, on_host
        self._table = None if on_host else SuccessorTable.of(soft.successors, device)

    def steps(self, batches: Batches, order: Sequence[int], hard: bool = False) -> Iterator[Step]:
        """Yield the steps of some batches.

        Args:
            batches: see there.
            order: which ones, in turn.
            hard: without the shares of others, for judging.
        """
        if self._on_host:
            return (self.step(batches[place], hard) for place in order)
        made = ahead(lambda place: self._host_parts(batches[place]), order, THREADS)
        return (self._on_device(*parts, hard) for parts in made)

    def step(self, batch: dict[str, Tensor], hard: bool = False) -> Step:
        """Return the step of a padded batch in host memory; see `steps`."""
        if not self._on_host:
            return self._on_device(*self._host_parts(batch), hard)
        inputs, places = self._inputs(batch)
        layout = self._soft.layout(self._family, batch)
        owners, wanted = torch.from_numpy(layout.owners), torch.from_numpy(layout.wanted)
        targets = self._soft.targets(layout, hard)
        return Step(inputs, places, owners, wanted, targets, len(batch["labels"]))

    def _host_parts(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, DeviceLayout]:
        inputs, places = self._inputs(batch)
        length = sum(batch[name].shape[1] for name in ("input_ids", "labels")[: len(inputs)])
        layout = DeviceLayout.of(self._soft.layout(self._family, batch), len(batch["labels"]), length)
        if torch.device(self._device).type != "cuda":
            return inputs, places, layout
        pinned = {name: tensor.pin_memory() for name, tensor in inputs.items()}
        return pinned, places.pin_memory(), layout.map(Tensor.pin_memory)

    def _inputs(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        labels = batch["labels"].numpy()
        inputs = {"input_ids": batch["input_ids"]}
        if self._family == "seq2seq":
            assert self._start is not None  # noqa: S101 - every seq2seq model has one
            inputs["attention_mask"] = batch["attention_mask"]
            inputs["decoder_input_ids"] = shift_right(batch["labels"], self._start)
            return inputs, torch.from_numpy(np.flatnonzero(labels != IGNORED))
        # Padding stands on the right, where causal attention never looks: without a mask the fastest kernel runs.
        rows, columns = np.nonzero(labels[:, 1:] != IGNORED)
        return inputs, torch.from_numpy(rows * labels.shape[1] + columns)

    def _on_device(self, inputs: dict[str, Tensor], places: Tensor, layout: DeviceLayout, hard: bool) -> Step:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(self._device, non_blocking=True)

        assert self._table is not None  # noqa: S101 - made for every device but the host
        there = layout.map(moved)
        share = 0.0 if hard else self._soft.share
        targets = DeviceTargets(self._table, there, share, self._soft.exclude_seen)
        given = {name: moved(tensor) for name, tensor in inputs.items()}
        return Step(given, moved(places), there.owners, there.wanted, targets, len(there.titles))


def hidden_states(model: Any, step: Step, embed: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return the model's hidden states at the supervised tokens, of shape (supervised, width).

    Args:
        model: with its head off.
        step: see there.
        embed: token ids to input vectors; None: the model's own embedding.
    """
    given = step.inputs
    if "attention_mask" not in given:
        # Given ids without a mask, transformers looks for padding among them, and a GPU would be waited for.
        given = {"inputs_embeds": (embed or model.get_input_embeddings())(given["input_ids"])}
    elif embed is not None:
        given = {
            "attention_mask": given["attention_mask"],
            "inputs_embeds": embed(given["input_ids"]),
            "decoder_inputs_embeds": embed(given["decoder_input_ids"]),
        }
    hidden: Tensor = model(**given).logits
    return hidden.flatten(0, 1).index_select(0, step.places)


def ahead(make: Callable[[int], Made], places: Sequence[int], threads: int) -> Iterator[Made]:
    """Yield what is made of each place, in order, the next few made by other threads meanwhile.

    Args:
        make: called with each place.
        places: in the order that they are wanted in.
        threads: how many make them.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
    waiting: deque[Future[Made]] = deque()
    try:
        for place in places:
            waiting.append(pool.submit(make, place))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where no more is asked for
        pool.shutdown(wait=True, cancel_futures=True)
