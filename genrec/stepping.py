"""Running the model further for the beams of a search: caches and rows; it knows no trie.

Beams stand in a grid, one row of columns for each user, so that the beams of a user can share its prompt. Two moves:
`step` feeds every beam one token and keeps what it computed; `look_ahead` feeds some beams all that is left of the
only item they can still become, in one go, and keeps nothing, since those beams never need the model again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from genrec.attention import SharedPrompt
from genrec.errors import ModelError

LOOK_AHEAD_TOKENS = 1024
"""The most tokens that one forward pass of `look_ahead` takes in; bounds the memory of its logits."""


@dataclass(slots=True)
class Prompts:
    """A batch of prompts that have been read: what a search starts from, more than once if need be."""

    shared: SharedPrompt
    log_probabilities: Tensor  # float32 [users, tokens of the head]: the first step's
    cross: list[tuple[Tensor, Tensor]]  # seq2seq: the cross-attention's keys and values per layer, per user
    own: list[tuple[Tensor, Tensor]]  # seq2seq: the decoder's first token's keys and values per layer, per user
    encoder_states: Tensor | None

    @property
    def users(self) -> int:
        """The number of prompts."""
        return len(self.shared.lengths)


class Stepper:
    """Runs one model for the beams of one search.

    Args:
        model: a model whose attention is `genrec.attention`'s.
        prompts: what the beams start from.
    """

    def __init__(self, model: Any, prompts: Prompts) -> None:
        self.model = model
        self.prompts = prompts
        self.width = 1
        self.length = 0
        self.own = DynamicCache()
        for layer, (key, value) in enumerate(prompts.own):
            self.own.update(key, value, layer)

    def step(self, tokens: Tensor, origins: Tensor) -> Tensor:
        """Feed each beam its new token.

        Args:
            tokens: int64 [users, beams].
            origins: int64 [users, beams]; the column of the beam of the step before that each one continues.

        Returns:
            Logits [users * beams, tokens of the head].
        """
        if self.own.get_seq_length():
            self.own.reorder_cache(self._rows(origins, 0).flatten())
        self.width = tokens.shape[1]
        everyone = slice(0, self.prompts.users)
        logits = self._forward(tokens.reshape(-1, 1), everyone, self.own)
        self.length += 1
        return logits[:, -1]

    def look_ahead(self, tokens: Tensor, targets: Tensor, origins: Tensor, forced: Tensor | None) -> Tensor:
        """Return the log-probability of each token of some beams' only continuation.

        Args:
            tokens: int64 [users, beams, most]; what each beam is fed, its own new token first.
            targets: int64 [users, beams, most]; what comes after each, as places in the head; -1 is padding.
            origins: int64 [users, beams]; as in `step`.
            forced: bool [users, beams, most], true where a token costs nothing; or None.

        Returns:
            float32 [users, beams, most]; 0 in the padding.
        """
        users, width, most = tokens.shape
        gains = torch.zeros(tokens.shape, device=tokens.device)
        size = max(1, LOOK_AHEAD_TOKENS // (width * most))
        for start in range(0, users, size):
            part = slice(start, min(start + size, users))
            rows = self._rows(origins[part], start).flatten()
            past = DynamicCache()
            if self.own.get_seq_length():
                for layer, kept in enumerate(self.own.layers):
                    past.update(kept.keys.index_select(0, rows), kept.values.index_select(0, rows), layer)
            logits = self._forward(tokens[part].flatten(0, 1), part, past).float()
            wanted = targets[part].flatten(0, 1).clamp(min=0)[..., None]
            found = logits.gather(2, wanted)[..., 0] - logits.logsumexp(dim=2)
            gains[part] = found.view(gains[part].shape)
        hidden = targets < 0 if forced is None else (targets < 0) | forced
        return gains.masked_fill_(hidden, 0.0)

    def _rows(self, origins: Tensor, first: int) -> Tensor:
        """Return the cache rows of columns of users, the first of whom is given."""
        return (torch.arange(len(origins), device=origins.device) + first)[:, None] * self.width + origins

    def _forward(self, ids: Tensor, users: slice, own: DynamicCache) -> Tensor:
        """Run the model over new tokens [rows, tokens] of some users' beams; their own cache grows by them."""
        everyone = users == slice(0, self.prompts.users)
        shared = self.prompts.shared if everyone else self.prompts.shared.part(users)
        if self.prompts.encoder_states is not None:
            cross = DynamicCache()
            for layer, (key, value) in enumerate(self.prompts.cross):
                cross.update(key[users], value[users], layer)
            output = self.model(
                decoder_input_ids=ids,
                encoder_outputs=(self.prompts.encoder_states[users],),
                past_key_values=EncoderDecoderCache(own, cross),
                use_cache=True,
                shared_prompt=shared,
            )
        else:
            beams = len(ids) // len(shared.lengths)
            start = (shared.lengths + self.length).repeat_interleave(beams)[:, None]
            positions = start + torch.arange(ids.shape[1], device=ids.device)
            output = self.model(ids, position_ids=positions, past_key_values=own, use_cache=True, shared_prompt=shared)
        if not shared.layers_seen:
            name = type(self.model).__name__
            raise ModelError(f"{name} does not pass its attention the shared prompt; use another base")
        logits: Tensor = output.logits
        return logits
