"""Attention in which many beams share one prompt: its keys and values are held once per user.

`transformers` lets a model's attention be replaced by name. This attention gets each beam's own few tokens as the cache
and the user's prompt separately. It concatenates the scores against both before one softmax. So the prompt is never
copied per beam, and the beams of a user (and the query heads of a group) become the rows of one matrix product.

The model's own mask is not enough, since the model knows only the beam's own tokens. This file handles the padding of
prompts and sliding windows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SHARED_PROMPT = "genrec_shared_prompt"
"""The attention's name, as `attn_implementation`."""


@dataclass(slots=True)
class SharedPrompt:
    """The prompts of some users, of similar length, which all beams of a user share.

    Attributes:
        keys: per layer, [users, key heads, prompt tokens, head size]; empty in the seq2seq family, where the
            cross-attention's cache has this shape already.
        values: likewise.
        lengths: int64 [users]; true prompt lengths; the rest is padding on the right.
        shortest: the shortest of them; no position before it is padding.
        beams: the number of beams of all these users together.
        width: the number of places for beams that each user has.
        slots: int64 [beams]; the place, among users x width, of each beam, ascending; None: beam i has place i.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor
    shortest: int
    beams: int = 0
    width: int = 1
    slots: Tensor | None = None


@dataclass(slots=True)
class SharedPrompts:
    """The shared prompts of a batch, grouped by similar length so that little is padded.

    Attributes:
        parts: the groups, in the order of the users; the beams have the same order.
    """

    parts: list[SharedPrompt]
    layers_seen: set[int] = field(default_factory=set)


@dataclass(slots=True)
class PackedPrompts:
    """Prompts that are concatenated in a single row, so that none of them is padded.

    Attributes:
        lengths: the number of tokens of each.
    """

    lengths: list[int]
    layers_seen: set[int] = field(default_factory=set)


@dataclass(slots=True)
class TokenTree:
    """Tokens of several continuations of each prompt, written behind the prompt's own keys and values.

    A token sees its prompt and the tokens that it continues, and no others. So continuations are never moved or
    copied, and all shapes are known before the model runs.

    Attributes:
        keys: per layer, [users, key heads, places, head size]; the prompt's first, then room for added tokens.
        values: likewise.
        start: the place at which the next tokens are written.
        end: the number of places that are read.
        seen: bool [users, new tokens, end]; which places each new token sees.
        positions: int64 [users, end]; each place's position in its text, for sliding windows.
        new_positions: int64 [users, new tokens].
        layers_seen: the number of layers that have run; they run in order.
    """

    keys: list[Tensor]
    values: list[Tensor]
    start: int
    end: int
    seen: Tensor
    positions: Tensor
    new_positions: Tensor
    layers_seen: int = 0
    masks: dict[int | None, Tensor] = field(default_factory=dict)  # made once for all layers of one window


def shared_prompt_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prompts: SharedPrompts | None = None,
    packed_prompts: PackedPrompts | None = None,
    token_tree: TokenTree | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend to the beam's own tokens and to its shared prompt; without one, use the standard attention.

    Args:
        module: the attention layer.
        query: [beams, heads, 1, head size], the beams of one user next to each other, and as many as there are.
        key: [beams, key heads, own tokens, head size]; or the shared [users, ...] in cross-attention.
        value: likewise.
        attention_mask: the model's own mask; used only where nothing is shared.
        scaling: factor on the scores.
        dropout: always 0 in decoding.
        shared_prompts: the prompts; passed through the model's forward as a keyword.
        packed_prompts: given if the row holds several prompts, none of which sees another; passed likewise.
        token_tree: given if the tokens continue prompts whose keys and values it holds; passed likewise.
        kwargs: `position_bias` (T5), `softcap` (Gemma), `sliding_window`.

    Returns:
        The output [beams, 1, heads, head size], and no weights.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if packed_prompts is not None:
        packed_prompts.layers_seen.add(int(module.layer_idx))  # type: ignore[arg-type]
        return _packed(module, query, key, value, scale, packed_prompts.lengths, **kwargs), None
    if token_tree is not None:
        window, softcap = kwargs.get("sliding_window"), kwargs.get("softcap")
        if torch.compiler.is_compiling():
            return torch.ops.genrec.attention_in_tree(query, key, value, scale, window, softcap), None
        return _in_tree(token_tree, query, key, value, scale, window, softcap), None
    if shared_prompts is None:
        if kwargs.get("softcap") is not None:
            return _softcapped(query, key, value, attention_mask, scale, kwargs["softcap"])
        output: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    shared_prompts.layers_seen.add(layer)
    decoder_only = bool(shared_prompts.parts[0].keys)
    if not decoder_only and not _is_cross(module):
        return _own_only(query, key, value, scale, kwargs.get("position_bias"))
    outputs = []
    end = 0
    for part in shared_prompts.parts:
        if not part.beams:
            continue
        start, end = end, end + part.beams
        if decoder_only:
            own = (key[start:end], value[start:end])
            prompt_key, prompt_value = part.keys[layer], part.values[layer]
        else:
            own, prompt_key, prompt_value = None, key, value
        outputs.append(_with_prompt(part, query[start:end] * scale, prompt_key, prompt_value, own, **kwargs))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs), None


def _with_prompt(
    shared: SharedPrompt, query: Tensor, key: Tensor, value: Tensor, own: tuple[Tensor, Tensor] | None, **kwargs: Any
) -> Tensor:
    """Attend to the prompts' keys and to the beams' own keys, if there are any; the query is already scaled."""
    beams, heads, _, size = query.shape
    groups, prompt_size = key.shape[1], key.shape[2]
    # [beams, heads, 1, size] -> [beams, key heads, heads of the group, size]
    grouped = query.view(beams, groups, heads // groups, size)
    scores = _to_rows(grouped, shared) @ key.transpose(2, 3)
    if own is not None:
        scores = torch.cat((scores, _to_rows(grouped @ own[0].transpose(2, 3), shared)), dim=-1)
    if (softcap := kwargs.get("softcap")) is not None:
        scores = torch.tanh(scores / softcap) * softcap
    _hide(scores, shared, prompt_size, 0 if own is None else own[0].shape[2], kwargs.get("sliding_window"))
    weights = scores.softmax(dim=-1)  # sums in fp32 inside, whatever the format
    attended = _to_beams(weights[..., :prompt_size] @ value, shared)
    if own is not None:
        attended = attended + _to_beams(weights[..., prompt_size:], shared) @ own[1]
    return attended.reshape(beams, 1, heads, size)


def _packed(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, scale: float, lengths: list[int], **kwargs: Any
) -> Tensor:
    """Compute each prompt's attention to itself, for prompts concatenated in one row."""
    window, softcap = kwargs.get("sliding_window"), kwargs.get("softcap")
    if len(lengths) > 1 and min(lengths) == max(lengths):
        # Prompts of the same length form one batch: one call instead of one for each.
        query, key, value = (
            tensor[0].reshape(tensor.shape[1], len(lengths), -1, tensor.shape[3]).transpose(0, 1)
            for tensor in (query, key, value)
        )
        output = _packed(module, query, key, value, scale, lengths[:1], **kwargs)
        return output.flatten(0, 1)[None]
    outputs = []
    end = 0
    for size in lengths:
        start, end = end, end + size
        own_query, own_key, own_value = (tensor[:, :, start:end] for tensor in (query, key, value))
        mask = None
        if window is not None and size > window:
            mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril().triu(1 - window)[None, None]
        if softcap is not None:
            outputs.append(_softcapped(own_query, own_key, own_value, mask, scale, softcap)[0])
        else:
            outputs.append(sdpa_attention_forward(module, own_query, own_key, own_value, mask, scaling=scale)[0])
    return torch.cat(outputs, dim=1)


def _in_tree(
    tree: TokenTree, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Compute the next layer's attention of new tokens to their prompt and to the tokens that they continue."""
    users, heads, new, size = query.shape
    groups = key.shape[1]
    keys, values = tree.keys[tree.layers_seen], tree.values[tree.layers_seen]
    tree.layers_seen += 1
    keys[:, :, tree.start : tree.start + new] = key
    values[:, :, tree.start : tree.start + new] = value
    if (mask := tree.masks.get(window)) is None:
        seen = tree.seen
        if window is not None:
            seen = seen & (tree.positions[:, None] > tree.new_positions[:, :, None] - window)
        # The heads that share a key are rows of one matrix product, each with the same mask.
        seen = seen[:, None].expand(-1, heads // groups, -1, -1)
        visible, hidden = query.new_zeros(()), query.new_full((), torch.finfo(query.dtype).min)
        mask = tree.masks[window] = torch.where(seen, visible, hidden).flatten(1, 2)[:, None]
    rows = query.reshape(users, groups, -1, size)
    if softcap is None:
        attended = torch.nn.functional.scaled_dot_product_attention(
            rows, keys[:, :, : tree.end], values[:, :, : tree.end], attn_mask=mask, scale=scale
        )
    else:
        scores = torch.tanh((rows @ keys[:, :, : tree.end].transpose(2, 3)).float() * (scale / softcap)) * softcap
        attended = (scores + mask).softmax(dim=-1).to(query.dtype) @ values[:, :, : tree.end]
    return attended.reshape(users, heads, new, size).transpose(1, 2).contiguous()


@torch.library.custom_op("genrec::attention_in_tree", mutates_args=())
def attention_in_tree(
    query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Compute `_in_tree` for the tree of `running`, from within a compiled layer.

    To the compiler this is one opaque operation. Neither the tree, which differs in each call, nor the layer's number,
    which differs in each layer, is an argument: each new value would have the layer compiled again.
    """
    return _in_tree(_running.tree, query, key, value, scale, window, softcap)


@attention_in_tree.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    users, heads, new, size = query.shape
    return query.new_empty((users, new, heads, size))


class _Running(threading.local):
    """The tree that this thread's model run continues."""

    tree: TokenTree


_running = _Running()


@contextmanager
def running(tree: TokenTree) -> Iterator[None]:
    """Make a tree the one that compiled layers continue."""
    _running.tree = tree
    try:
        yield
    finally:
        del _running.tree


def _is_cross(module: torch.nn.Module) -> bool:
    """Return whether an attention layer of the seq2seq family is cross-attention."""
    return bool(getattr(module, "is_cross_attention", not getattr(module, "is_causal", True)))


def _own_only(query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor | None) -> tuple[Tensor, None]:
    """Compute a decoder's self-attention in the seq2seq family; the prompt has no part in it."""
    scores = (query @ key.transpose(2, 3)).float() * scale
    if bias is not None:
        scores = scores + bias
    output = scores.softmax(dim=-1).to(query.dtype) @ value
    return output.transpose(1, 2), None


def _softcapped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: float
) -> tuple[Tensor, None]:
    """Standard attention for models that cap their scores (Gemma 2), which torch's fused attention cannot do."""
    grouped = query.view(query.shape[0], key.shape[1], -1, *query.shape[2:])
    scores = torch.tanh((grouped @ key.unsqueeze(2).transpose(3, 4)).float() * (scale / softcap)) * softcap
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril(
            key.shape[2] - query.shape[2]
        )[None, None]
    scores = scores.masked_fill(~mask[:, :, None], torch.finfo(scores.dtype).min)
    output = scores.softmax(dim=-1).to(query.dtype) @ value.unsqueeze(2)
    return output.flatten(1, 2).transpose(1, 2), None


def _to_rows(scores: Tensor, shared: SharedPrompt) -> Tensor:
    """[beams, key heads, group, any] -> [users, key heads, places of the user x group, any]; empty places are 0."""
    if shared.slots is not None:
        room = scores.new_zeros((len(shared.lengths) * shared.width, *scores.shape[1:]))
        scores = room.index_copy_(0, shared.slots, scores)
    _, groups, group, size = scores.shape
    return scores.view(-1, shared.width, groups, group, size).transpose(1, 2).flatten(2, 3)


def _to_beams(rows: Tensor, shared: SharedPrompt) -> Tensor:
    """[users, key heads, places of the user x group, any] -> [beams, key heads, group, any]."""
    users, groups, _, size = rows.shape
    beams = rows.view(users, groups, shared.width, -1, size).transpose(1, 2).flatten(0, 1)
    return beams if shared.slots is None else beams[shared.slots]


def _hide(scores: Tensor, shared: SharedPrompt, size: int, own: int, window: int | None) -> None:
    """Mask, in place, what a beam must not see: the padding of prompts, and tokens outside a sliding window."""
    lowest = torch.finfo(scores.dtype).min
    places = torch.arange(size, device=scores.device)
    if shared.shortest < size:  # only where some prompt is padded
        padding = places[shared.shortest :] >= shared.lengths[:, None, None, None]
        scores[..., shared.shortest : size].masked_fill_(padding, lowest)
    if window is not None and own and size + own > window:
        oldest = (shared.lengths + own - window)[:, None, None, None]
        scores[..., :size].masked_fill_(places < oldest, lowest)
        scores[..., size : size + max(0, own - window)] = lowest  # a title may be longer than the window


AttentionInterface.register(SHARED_PROMPT, shared_prompt_attention)
AttentionMaskInterface.register(SHARED_PROMPT, sdpa_mask)
