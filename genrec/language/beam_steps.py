"""One decoding step for all beams: the beams' own caches, and the prompts that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from genrec.errors import ModelError
from genrec.language.attention import SharedPrompt, SharedPrompts
from genrec.language.prompt_reading import Prompts

if TYPE_CHECKING:
    from genrec.language.decoder import Decoder

_ROOM = 3
"""The number of tokens, beyond the next one, for which the beams' caches have room."""


class Stepper:
    """Runs the model for one more token of the beams that need it; knows caches, not tries."""

    def __init__(self, decoder: Decoder, prompts: Prompts) -> None:
        self.decoder = decoder
        self.prompts = prompts
        self.length = 0
        self.places = torch.arange(prompts.users, device=decoder.device)[:, None]  # [users, beams]: rows of the cache
        self.own = Cache(layer_class_to_replicate=_BeamLayer)
        self.cache: Cache = self.own
        if decoder.seq2seq:
            cross = DynamicCache()
            for layer, (key, value) in enumerate(prompts.own):
                self.own.update(key, value, layer)
                cross.update(*prompts.cross[layer], layer)
            self.cache = EncoderDecoderCache(self.own, cross)

    def step(self, tokens: Tensor, origins: Tensor, needed: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Feed each beam its new token.

        Args:
            tokens: int64 [users, beams].
            origins: int64 [users, beams]; the earlier beam of the user that each one continues.
            needed: bool [users, beams]; the other beams are not run, now or later.
            before: the first value that the last step returned; returned again if no beam is needed.

        Returns:
            float32 [needed beams, tokens of the head], and int64 [users, beams], each beam's row in it (0 where none).
        """
        users, width = tokens.shape
        slots = needed.flatten().nonzero()[:, 0]
        rows = self.places.gather(1, origins).flatten()[slots]
        # Beams are sorted by score; the caches keep their own order if they can, since moving them means copying them.
        rows, order = rows.sort(stable=True)
        slots = slots[order]
        self.places = torch.zeros_like(tokens).flatten().index_put((slots,), torch.arange(len(slots)).to(slots))
        self.places = self.places.view(users, width)
        if not len(slots):
            return before, self.places
        if self.own.get_seq_length() and not torch.equal(rows, torch.arange(len(self.own.layers[0].keys)).to(rows)):
            self.own.reorder_cache(rows)
        model = self.decoder.model
        user = slots // width
        shared = _share(self.prompts.shared, user, users)
        ids = tokens.flatten()[slots, None]
        if self.decoder.seq2seq:
            output = model(
                decoder_input_ids=ids,
                encoder_outputs=(self.prompts.encoder_states,),
                **{self.decoder.cache_name: self.cache},
                use_cache=True,
                shared_prompts=shared,
            )
        else:
            positions = (self.prompts.lengths + self.length)[user, None]
            output = model(
                ids,
                position_ids=positions,
                **{self.decoder.cache_name: self.cache},
                use_cache=True,
                shared_prompts=shared,
            )
        self.length += 1
        if not shared.layers_seen:
            raise ModelError(f"{type(model).__name__} does not pass its attention the shared prompt; use another base")
        return self.decoder.normalise(output.logits[:, -1]), self.places


class _BeamLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of the beams, with room for a few more tokens: adding one writes only that one."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add the beams' next tokens; returns all of them, [beams, key heads, tokens, head size]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room = [key_states[:, :, :0], value_states[:, :, :0]]
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for place, states in enumerate((key_states, value_states)):
            if end > self.room[place].shape[2]:
                grown = states.new_empty((*states.shape[:2], end + _ROOM, states.shape[3]))
                grown[:, :, :start] = self.room[place][:, :, :start]
                self.room[place] = grown
            self.room[place][:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the given beams, in this order."""
        self.room = [states.index_select(0, beam_idx) for states in self.room]
        self._show(self.get_seq_length())

    def _show(self, length: int) -> None:
        self.keys, self.values = (states[:, :, :length] for states in self.room)


def _share(prompts: Sequence[SharedPrompt], user: Tensor, users: int) -> SharedPrompts:
    """Return the prompts as these beams see them, given each beam's user in ascending order."""
    counts = torch.bincount(user, minlength=users)
    rank = torch.arange(len(user)).to(user) - (counts.cumsum(0) - counts)[user]
    parts = []
    first = start = 0
    for prompt in prompts:
        here = counts[first : first + len(prompt.lengths)]
        beams, width = int(here.sum()), int(here.max())
        slots = (user - first)[start : start + beams] * width + rank[start : start + beams]
        full = beams == len(here) * width
        parts.append(replace(prompt, beams=beams, width=width, slots=None if full else slots))
        first, start = first + len(here), start + beams
    return SharedPrompts(parts)
