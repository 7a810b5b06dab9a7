"""Exact scores of given items in fixed shapes, for GPUs: one run of the model over the tree of their tokens.

See `genrec.language.fixed_shapes`, which searches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.language.attention import TokenTree
from genrec.language.fixed_shapes import forward, prompt_seen, up
from genrec.language.grouped import log_sum_exp
from genrec.language.prompt_reading import Prompts

if TYPE_CHECKING:
    from genrec.language.decoder import Decoder

SCORED_TOKENS = 32_768
"""The most tokens that are scored in one run of the model."""

SCORED_LOGITS = 1 << 28
"""The most logits that one run of the model may return; 1 GiB in fp32."""


def score(decoder: Decoder, prompts: Prompts, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """Return the exact log-likelihood of given items for each user; see `Decoder.score`."""
    counts = np.array([len(user_rows) for user_rows in rows])
    owner = np.repeat(np.arange(len(rows)), counts)
    nodes, items = decoder.trie.paths(np.concatenate(rows).astype(np.int64))
    total = decoder.trie.nodes
    keys, of_key = np.unique(owner[items] * total + nodes, return_inverse=True)
    user, node = np.divmod(keys, total)
    parent = decoder.trie.parent[node].astype(np.int64)
    # The model is run on the nodes that are followed by a choice; the root was run with the prompt.
    runs = ~decoder.is_leaf[node] & decoder.costs[node]
    gains = np.zeros(len(keys), np.float64)
    for part in _user_parts(np.bincount(user[runs], minlength=len(rows)), len(decoder.trie.vocabulary), decoder):
        here = np.flatnonzero((user >= part.start) & (user < part.stop))
        if len(here):
            gains[here] = _score_part(decoder, prompts, part, user[here], node[here], parent[here], runs[here])
    sums = np.bincount(items, weights=gains[of_key.reshape(-1)], minlength=len(owner)).astype(np.float32)
    return np.split(sums, np.cumsum(counts)[:-1])


def _score_part(
    decoder: Decoder,
    prompts: Prompts,
    part: slice,
    user: NDArray[np.int64],
    node: NDArray[np.int64],
    parent: NDArray[np.int64],
    runs: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return the amount that each node of some users' trees adds to the score of the items below it."""
    users, device = part.stop - part.start, decoder.device
    user = user - part.start
    asked = np.flatnonzero(runs)
    sizes = np.bincount(user[asked], minlength=users)
    rank = np.arange(len(asked)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    width = up(int(sizes.max())) if len(asked) else 0
    # A node's place is its rank among the user's nodes that are run; the root's place follows them.
    run_keys = user[asked] * decoder.trie.nodes + node[asked]
    place = np.full(len(node), width, np.int64)
    if len(asked):
        wanted = user * decoder.trie.nodes + parent
        found = np.searchsorted(run_keys, wanted).clip(max=len(asked) - 1)
        place = np.where(run_keys[found] == wanted, rank[found], width)

    def grid(values: NDArray[Any], filler: int) -> Tensor:
        table = np.full((users, width), filler, np.int64)
        table[user[asked], rank] = values
        return torch.from_numpy(table).to(device)

    values = prompts.log_probabilities[part, None]
    if width:
        depth = decoder.continuations.depth[node[asked]] - 1
        logits = _run_tree(
            decoder, prompts, part, grid(decoder.tokens[node[asked]], 0), grid(depth, 0), grid(place[asked], width)
        )
        values = torch.cat((logits, values), 1)
    where = [torch.from_numpy(array).to(device) for array in (user, place, decoder.places[node])]
    gains = values[where[0], where[1], where[2]]
    if decoder.normalisation == "children":
        gains = gains - _over_all_children(decoder, values, user, place, parent)
    result: NDArray[np.float32] = gains.cpu().numpy()
    if decoder.forced_tokens == "free":
        result[np.diff(decoder.trie.child_start)[parent] == 1] = 0.0
    elif decoder.normalisation == "children":
        result[~decoder.costs[parent]] = 0.0
    return result


def _over_all_children(
    decoder: Decoder, values: Tensor, user: NDArray[np.int64], place: NDArray[np.int64], parent: NDArray[np.int64]
) -> Tensor:
    """Return, for each node, log(sum(exp(logits))) over all children of its parent."""
    start = decoder.trie.child_start.astype(np.int64)
    counts = start[parent + 1] - start[parent]
    group = np.repeat(np.arange(len(parent)), counts)
    child = start[parent][group] + np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    device = values.device
    where = [torch.from_numpy(array).to(device) for array in (user[group], place[group], decoder.places[child], group)]
    return log_sum_exp(values[where[0], where[1], where[2]], where[3], len(parent))


def _user_parts(sizes: NDArray[np.int64], vocabulary: int, decoder: Decoder) -> Iterator[slice]:
    """Yield slices of users whose trees, padded to the largest of them, fit in one run."""
    if decoder.normalisation == "vocabulary":
        vocabulary = int(decoder.model.config.get_text_config().vocab_size)
    most = max(1, min(SCORED_TOKENS, SCORED_LOGITS // vocabulary))
    start = 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or int(sizes[start : end + 1].max()) * (end + 1 - start) > most:
            yield slice(start, end)
            start = end


def _run_tree(
    decoder: Decoder, prompts: Prompts, part: slice, tokens: Tensor, depth: Tensor, parent_place: Tensor
) -> Tensor:
    """Run the model once over each user's tree of tokens; return logits after each, [users, tokens, head]."""
    users, width = tokens.shape
    (shared,) = prompts.shared
    size = shared.keys[0].shape[2]
    device = decoder.device
    # Each node sees itself and the nodes above it; the root's parent gets one extra place, cut off at the end.
    seen = torch.zeros((users, width, width + 1), dtype=torch.bool, device=device)
    above = torch.arange(width, device=device).expand(users, width)
    parents = torch.cat((parent_place, torch.full_like(parent_place[:, :1], width)), 1)
    for _ in range(len(decoder.continuations.most)):
        seen.scatter_(2, above[..., None], True)
        above = parents.gather(1, above)
    lengths = prompts.lengths[part]
    positions = lengths[:, None] + depth
    tree = TokenTree(
        keys=[torch.nn.functional.pad(layer[part], (0, 0, 0, width)) for layer in shared.keys],
        values=[torch.nn.functional.pad(layer[part], (0, 0, 0, width)) for layer in shared.values],
        start=size,
        end=size + width,
        seen=torch.cat((prompt_seen(lengths, size, width), seen[:, :, :width]), 2),
        positions=torch.cat((torch.arange(size, device=device).expand(users, -1), positions), 1),
        new_positions=positions,
    )
    return decoder.normalise(forward(decoder, tokens, positions, tree))
