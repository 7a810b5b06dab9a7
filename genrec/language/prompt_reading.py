"""Reading prompts: the model is run over many users' prompts at once, before any search.

On a processor, prompts are concatenated in packs without padding (`genrec.language.attention`). On a GPU they are
padded to a few shapes. A seq2seq model's encoder reads them padded and masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from genrec.errors import ModelError
from genrec.language.attention import PackedPrompts, SharedPrompt

if TYPE_CHECKING:
    from genrec.language.decoder import Decoder

PACK_TOKENS = 2048
"""Prompt tokens that are read in one row: enough for the fastest matrix products, few enough to stay small."""

FIXED_READ_TOKENS = 65_536
"""The number of prompt tokens, padding included, that a GPU reads at once."""

PROMPT_STEP = 64
"""With fixed shapes, the prompts of a batch are padded to a multiple of this, so that there are few shapes."""

PADDED = 1.25
"""Users may share a padded block if it holds at most this many times their tokens."""


@dataclass(slots=True)
class Prompts:
    """A batch of prompts that have been read; several searches may start from it."""

    shared: list[SharedPrompt]
    lengths: Tensor  # int64 [users]
    log_probabilities: Tensor  # float32 [users, tokens of the head]: the first step's
    cross: list[tuple[Tensor, Tensor]]  # seq2seq: the cross-attention's keys and values per layer, per user
    own: list[tuple[Tensor, Tensor]]  # seq2seq: the decoder's first token's keys and values per layer, per user
    encoder_states: Tensor | None

    @property
    def users(self) -> int:
        """The number of prompts."""
        return len(self.lengths)


def read_packed(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Prompts:
    """Read prompts that are concatenated in packs, without padding."""
    sizes = [len(prompt) for prompt in prompts]
    parts = list(_parts(sizes))
    shared = [SharedPrompt([], [], decoder.tensor(np.array(sizes[part])), min(sizes[part])) for part in parts]
    logits = []
    for pack in _packs(sizes):
        packed = PackedPrompts(sizes[pack])
        cache = DynamicCache()
        output = decoder.model(
            torch.cat([torch.tensor(prompt) for prompt in prompts[pack]])[None].to(decoder.device),
            position_ids=torch.cat([torch.arange(size) for size in packed.lengths])[None].to(decoder.device),
            **{decoder.cache_name: cache},
            use_cache=True,
            logits_to_keep=torch.tensor(packed.lengths).cumsum(0).to(decoder.device) - 1,
            packed_prompts=packed,
        )
        if len(packed.layers_seen) < len(cache.layers):
            kind = type(decoder.model).__name__
            raise ModelError(f"{kind} does not pass its attention the prompts; use another base")
        logits.append(output.logits[0])
        for one, part in zip(shared, parts, strict=True):
            _lay_out(cache, packed.lengths, pack.start, one, part, max(sizes[part]))
    return Prompts(shared, decoder.tensor(np.array(sizes)), decoder.normalise(torch.cat(logits)), [], [], None)


def read_padded(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Prompts:
    """Read prompts padded to one length, many in one call."""
    sizes = np.array([len(prompt) for prompt in prompts])
    longest = -(-int(sizes.max()) // PROMPT_STEP) * PROMPT_STEP
    ids = np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    tokens, lengths = decoder.tensor(ids), decoder.tensor(sizes)
    shared = SharedPrompt([], [], lengths, int(sizes.min()))
    logits = []
    start = 0
    while start < len(prompts):
        users, width = _next_read(sizes[start:])
        rows = slice(start, start + users)
        packed = PackedPrompts([width] * users)
        cache = DynamicCache()
        output = decoder.model(
            tokens[rows, :width].reshape(1, -1),
            position_ids=torch.arange(width, device=decoder.device).repeat(users)[None],
            **{decoder.cache_name: cache},
            use_cache=True,
            # No token of a prompt sees the padding behind it.
            logits_to_keep=torch.arange(users, device=decoder.device) * width + lengths[rows] - 1,
            packed_prompts=packed,
        )
        if len(packed.layers_seen) < len(cache.layers):
            kind = type(decoder.model).__name__
            raise ModelError(f"{kind} does not pass its attention the prompts; use another base")
        logits.append(output.logits[0])
        for layer, read in enumerate(cache.layers):
            for whole, pack in ((shared.keys, read.keys), (shared.values, read.values)):
                if len(whole) == layer:
                    whole.append(pack.new_zeros((len(prompts), pack.shape[1], longest, pack.shape[3])))
                whole[layer][rows, :, :width] = pack[0].unflatten(1, (users, width)).transpose(0, 1)
        start += users
    return Prompts([shared], lengths, decoder.normalise(torch.cat(logits)), [], [], None)


def _next_read(sizes: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many of the next prompts are read in one call, and the length that they are padded to.

    Prompts come in the order of their lengths, so a call of fewer prompts than the batch has less padding.
    """
    users = width = 0
    for size in sizes.tolist():
        wider = max(width, -(-size // PROMPT_STEP) * PROMPT_STEP)
        if users and (users + 1) * wider > FIXED_READ_TOKENS:
            break
        users, width = users + 1, wider
    return users, width


def read_seq2seq(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Prompts:
    """Read prompts with a seq2seq model: the encoder's states, and the decoder's first step."""
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=decoder.device)
    shortest = int(lengths.min())
    rows = [torch.tensor(prompt) for prompt in prompts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(decoder.device)
    mask = (
        (torch.arange(ids.shape[1], device=decoder.device) < lengths[:, None]).long()
        if shortest < ids.shape[1]
        else None
    )
    states = decoder.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    start = torch.full((len(ids), 1), decoder.model.config.decoder_start_token_id, device=decoder.device)
    output = decoder.model(
        decoder_input_ids=start,
        encoder_outputs=(states,),
        attention_mask=mask,
        **{decoder.cache_name: cache},
        use_cache=True,
    )
    shared = [SharedPrompt([], [], lengths, shortest)]
    cross = [(layer.keys, layer.values) for layer in cache.cross_attention_cache.layers]
    own = [(layer.keys, layer.values) for layer in cache.self_attention_cache.layers]
    return Prompts(shared, lengths, decoder.normalise(output.logits[:, -1]), cross, own, states)


def _packs(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield where to cut a list of prompts so that each piece has at most `PACK_TOKENS`, or one prompt."""
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and total + size > PACK_TOKENS:
            yield slice(start, place)
            start, total = place, 0
        total += size
    yield slice(start, len(sizes))


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield where to cut a list of prompts so that each piece, padded, holds at most `PADDED` times its tokens."""
    start = 0
    for end in range(1, len(sizes) + 1):
        within = sizes[start : end + 1]
        if end == len(sizes) or max(within) * len(within) > PADDED * sum(within):
            yield slice(start, end)
            start = end


def _lay_out(
    cache: DynamicCache, lengths: Sequence[int], first: int, shared: SharedPrompt, users: slice, longest: int
) -> None:
    """Copy these users' keys and values out of a pack's cache, a row each; the pack begins with user `first`."""
    ends = np.cumsum(lengths).tolist()
    for layer, read in enumerate(cache.layers):
        for whole, pack in ((shared.keys, read.keys), (shared.values, read.values)):
            if len(whole) == layer:
                whole.append(pack.new_zeros((users.stop - users.start, pack.shape[1], longest, pack.shape[3])))
            for user in range(max(first, users.start), min(first + len(lengths), users.stop)):
                end, size = ends[user - first], lengths[user - first]
                whole[layer][user - users.start, :, :size] = pack[0, :, end - size : end]
