"""The loss over a batch's supervised tokens, which `prompts.encoding` marks by their labels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.encoding import IGNORED, Family


def summed_loss(model: Any, family: Family, inputs: dict[str, Tensor], tokens: Tensor | None) -> tuple[Tensor, int]:
    """Return the cross-entropy summed over supervised tokens, in nats, and how many they are.

    Args:
        model: of the family.
        family: causal, whose labels stand beside their inputs; or seq2seq, whose labels are the decoder's targets.
        inputs: `input_ids`, `attention_mask` and `labels`, each of shape (examples, length).
        tokens: the tokens that the model's head is restricted to, sorted; None: it is whole.
    """
    logits, wanted = supervised(model, family, inputs)
    if tokens is not None:
        wanted = torch.searchsorted(tokens.to(wanted.device), wanted)
    return F.cross_entropy(logits.float(), wanted, reduction="sum"), len(wanted)


def supervised(model: Any, family: Family, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the head's output at the supervised positions, and the labels there.

    Args:
        model: of the family.
        family: see `summed_loss`.
        inputs: likewise.

    Returns:
        shape (supervised, size of the head's output), and int64 (supervised,).
    """
    labels = inputs["labels"]
    if family == "seq2seq":
        config = getattr(model, "module", model).config  # several processes wrap the model
        shifted = shift_right(labels, config.decoder_start_token_id)
        logits = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], decoder_input_ids=shifted
        ).logits
        kept = labels != IGNORED
        return logits[kept], labels[kept]
    if "places" not in inputs:
        inputs = with_places(inputs)
    places = inputs["places"]
    # The head computes what is supervised, nothing else; what the model does to logits, it still does.
    head = getattr(model, "module", model).get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].flatten(0, 1).index_select(0, places)[None],))
    try:
        logits = model(input_ids=inputs["input_ids"]).logits[0]
    finally:
        hook.remove()
    return logits, inputs["wanted"]


def with_places(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a causal model's batch with the places of its supervised tokens, and the tokens wanted there.

    Made where the batch is made, in host memory: a GPU would be waited for to learn how many there are.

    Args:
        inputs: as of `summed_loss`.

    Returns:
        Also `places`, int64 (supervised,), into the rows of hidden states laid end to end, and `wanted`, of the same
        shape.
    """
    rows, columns = (inputs["labels"][:, 1:] != IGNORED).nonzero(as_tuple=True)
    places = rows * inputs["labels"].shape[1] + columns
    return {**inputs, "places": places, "wanted": inputs["labels"][rows, columns + 1]}


def shift_right(labels: Tensor, start: int) -> Tensor:
    """Return the decoder's input: the labels one place later, padding in place of what is not supervised."""
    shifted = labels.new_full(labels.shape, start)
    shifted[:, 1:] = labels[:, :-1].clamp(min=0)
    return shifted
