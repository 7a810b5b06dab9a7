"""A model during pretraining: its inputs, its targets, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from prompts.encoding import Family
from training.batches import Batches
from training.computing import Computing
from training.feeding import Feed, Step, hidden_states
from training.losses import catalogue_loss, rows_at_once
from training.meaning import Meaning
from training.soft_targets import SoftTargets

K = 10
"""Ranks from which on a token counts nothing in `Pass.gain`."""


UNWANTED = -50.0
"""Added to the score of what takes no part in the loss: its share is nothing, yet a number that a processor computes
exponentials of at full speed; it takes fifty times as long where the result is too small for one."""


class NoHead(torch.nn.Module):
    """Replaces the output head, so that the model's logits are its last hidden states.

    The loss is then computed over the tokens of titles only: many BPE tokens are only intermediate steps of merges and
    need no loss.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states as they come."""
        return hidden


class Learner:
    """A model in training, with its inputs and targets.

    Args:
        model: of the family, with `NoHead`.
        family: causal or seq2seq.
        head: the weights of the head it had, of shape (tokens, width).
        soft: makes the targets, and knows the tokens that the probabilities are over.
        computing: where the model is, and the number format of its products; its weights are fp32.
        meaning: what titles' tokens get from their items' vectors; None: nothing.

    Attributes:
        feed: makes its steps.
    """

    def __init__(
        self,
        model: Any,
        family: Family,
        head: Tensor,
        soft: SoftTargets,
        computing: Computing,
        meaning: Meaning | None = None,
    ) -> None:
        self._model, self._head, self._computing, self._meaning = model, head, computing, meaning
        device, kind = computing.device, computing.kind
        self._tokens = soft.tokens.to(device)
        self._offsets = None
        if meaning is not None:
            # What nobody took is no target, and as a negative it would only teach f that the unknown is unwanted.
            self._offsets = torch.where(meaning.unknown(self._tokens), UNWANTED, 0.0)
        self.feed = Feed(family, getattr(model.config, "decoder_start_token_id", None), soft, device, kind == "cpu")

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of supervised tokens over some tokens, in nats."""
        inside, head = self._tables()
        return catalogue_loss(self._hidden(step, inside), self._items(head), step.targets, self._offsets)

    def _tables(self) -> tuple[Tensor | None, Tensor]:
        """Return the vectors of all tokens in the input, None for the model's own, and in the head."""
        return (None, self._head) if self._meaning is None else self._meaning.tables()

    def _hidden(self, step: Step, inside: Tensor | None) -> Tensor:
        embed = None if self._meaning is None or inside is None else partial(self._meaning.embed, inside)
        with torch.autocast(self._computing.kind, torch.bfloat16, enabled=self._computing.precision == "bf16"):
            hidden = hidden_states(self._model, step, embed)
        return hidden.to(self._computing.dtype)  # norms leave fp32

    def _items(self, head: Tensor) -> Tensor:
        return head.index_select(0, self._tokens)

    @torch.inference_mode()
    def judge(self, questions: Batches) -> tuple[float, float]:
        """Return the mean loss of an answer, in nats, and the mean gain (see `Pass`); zeros without questions."""
        self._model.eval()
        if self._meaning is not None:
            self._meaning.eval()
        losses: list[Tensor] = []
        gains: list[Tensor] = []
        inside, head = self._tables()
        items = self._items(head)
        weights = items.to(self._computing.dtype)
        many = rows_at_once(items)
        for step in self.feed.steps(questions, range(len(questions)), hard=True):
            hidden = self._hidden(step, inside)
            products = items.new_ones(step.examples)
            for start in range(0, len(hidden), many):
                part = slice(start, start + many)
                scores = (hidden[part] @ weights.T).float()
                step.targets.leave_out(scores, start)
                own = scores.gather(1, step.wanted[part, None])
                losses.append((scores.logsumexp(dim=1) - own[:, 0]).sum())
                ranks = (scores >= own).sum(dim=1)
                shares = torch.where(ranks <= K, 1 / torch.log2(1.0 + ranks), 0.0)
                products.scatter_reduce_(0, step.owners[part], shares, "prod")
            gains.append(products.sum())
        count = max(1, sum(map(len, questions.groups)))
        return _sum(losses) / count, _sum(gains) / count


def _sum(values: Sequence[Tensor]) -> float:
    return float(sum(torch.stack(list(values)).tolist())) if values else 0.0
