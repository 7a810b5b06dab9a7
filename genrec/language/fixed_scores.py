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


GROUP_TOKENS = 256
"""About as many tokens of a user's items are one tree: in a larger one, each token's attention would pass over more
tokens of other items, all of them masked."""


def score(decoder: Decoder, prompts: Prompts, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """Return the exact log-likelihood of given items for each user; see `Decoder.score`."""
    counts = np.array([len(user_rows) for user_rows in rows])
    owner = np.repeat(np.arange(len(rows)), counts)
    nodes, items = decoder.trie.paths(np.concatenate(rows).astype(np.int64))
    total = decoder.trie.nodes
    group, users = _groups(decoder, nodes, items, owner)
    keys, of_key = np.unique(group[items] * total + nodes, return_inverse=True)
    group_of, node = np.divmod(keys, total)
    parent = decoder.trie.parent[node].astype(np.int64)
    # The model is run on the nodes that are followed by a choice; the root was run with the prompt.
    runs = ~decoder.is_leaf[node] & decoder.costs[node]
    made = []
    for part in _parts(np.bincount(group_of[runs], minlength=len(users)), len(decoder.trie.vocabulary), decoder):
        here = slice(*np.searchsorted(group_of, (part.start, part.stop)))
        made.append(
            _score_part(
                decoder,
                prompts,
                users[part],
                group_of[here] - part.start,
                node[here],
                parent[here],
                runs[here],
            )
        )
    gains = torch.cat(made).cpu().numpy()  # the device is waited for only now
    if decoder.forced_tokens == "free":
        gains[np.diff(decoder.trie.child_start)[parent] == 1] = 0.0
    elif decoder.normalisation == "children":
        gains[~decoder.costs[parent]] = 0.0
    weights = gains.astype(np.float64)[of_key.reshape(-1)]
    sums = np.bincount(items, weights=weights, minlength=len(owner)).astype(np.float32)
    return np.split(sums, np.cumsum(counts)[:-1])


def _groups(
    decoder: Decoder, nodes: NDArray[np.int64], items: NDArray[np.int64], owner: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut each user's items into groups of about `GROUP_TOKENS`, items that begin alike beside each other.

    Args:
        decoder: its trie is used.
        nodes: the nodes on the way to the items.
        items: for each of them, the place of its item.
        owner: for each item, its user.

    Returns:
        Each item's group, numbered from 0 user by user, and each group's user.
    """
    first = np.zeros(len(owner), np.int64)
    tops = decoder.trie.parent[nodes] == 0
    first[items[tops]] = nodes[tops]
    order = np.lexsort((first, owner))
    sizes = np.bincount(items, minlength=len(owner))[order]
    before = np.cumsum(sizes) - sizes  # tokens of the items before, of this user's alone in the next line
    user = owner[order]
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    before -= np.repeat(before[starts], np.diff(np.append(starts, len(user))))
    new = np.diff(before // GROUP_TOKENS, prepend=-1) != 0
    new[starts] = True
    group = np.empty(len(owner), np.int64)
    group[order] = np.cumsum(new) - 1
    return group, user[new]


def _score_part(
    decoder: Decoder,
    prompts: Prompts,
    owners: NDArray[np.int64],
    user: NDArray[np.int64],
    node: NDArray[np.int64],
    parent: NDArray[np.int64],
    runs: NDArray[np.bool_],
) -> Tensor:
    """Return the amount that each node of some groups' trees adds to the score of the items below it.

    Args:
        decoder: its model and trie are used.
        prompts: the prompts that have been read.
        owners: each group's user. From here on a group is spoken of as a user, since its tree is its own.
        user: for each node, its group.
        node: the nodes.
        parent: of each.
        runs: whether the model is run on it.
    """
    users = len(owners)
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
        return _upload(decoder, table)

    whose = _upload(decoder, owners)
    values = prompts.log_probabilities[whose, None]
    if width:
        depth = decoder.continuations.depth[node[asked]] - 1
        logits = _run_tree(
            decoder, prompts, whose, grid(decoder.tokens[node[asked]], 0), grid(depth, 0), grid(place[asked], width)
        )
        values = torch.cat((logits, values), 1)
    where = [_upload(decoder, array) for array in (user, place, decoder.places[node])]
    gains = values[where[0], where[1], where[2]]
    if decoder.normalisation == "children":
        gains = gains - _over_all_children(decoder, values, user, place, parent)
    return gains


def _upload(decoder: Decoder, array: NDArray[np.int64]) -> Tensor:
    """Return whole numbers on the model's device; nothing waits for what the device still has to do."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(decoder.device, non_blocking=True) if decoder.device.type == "cuda" else tensor


def _over_all_children(
    decoder: Decoder, values: Tensor, user: NDArray[np.int64], place: NDArray[np.int64], parent: NDArray[np.int64]
) -> Tensor:
    """Return, for each node, log(sum(exp(logits))) over all children of its parent."""
    start = decoder.trie.child_start.astype(np.int64)
    counts = start[parent + 1] - start[parent]
    group = np.repeat(np.arange(len(parent)), counts)
    child = start[parent][group] + np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    where = [_upload(decoder, array) for array in (user[group], place[group], decoder.places[child], group)]
    return log_sum_exp(values[where[0], where[1], where[2]], where[3], len(parent))


def _parts(sizes: NDArray[np.int64], vocabulary: int, decoder: Decoder) -> Iterator[slice]:
    """Yield slices of groups whose trees, padded to the largest of them, fit in one run."""
    if decoder.normalisation == "vocabulary":
        vocabulary = int(decoder.model.config.get_text_config().vocab_size)
    most = max(1, min(SCORED_TOKENS, SCORED_LOGITS // vocabulary))
    start = 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or int(sizes[start : end + 1].max()) * (end + 1 - start) > most:
            yield slice(start, end)
            start = end


def _run_tree(
    decoder: Decoder, prompts: Prompts, whose: Tensor, tokens: Tensor, depth: Tensor, parent_place: Tensor
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
    lengths = prompts.lengths[whose]
    positions = lengths[:, None] + depth
    tree = TokenTree(
        keys=[torch.nn.functional.pad(layer[whose], (0, 0, 0, width)) for layer in shared.keys],
        values=[torch.nn.functional.pad(layer[whose], (0, 0, 0, width)) for layer in shared.values],
        start=size,
        end=size + width,
        seen=torch.cat((prompt_seen(lengths, size, width), seen[:, :, :width]), 2),
        positions=torch.cat((torch.arange(size, device=device).expand(users, -1), positions), 1),
        new_positions=positions,
    )
    return decoder.normalise(forward(decoder, tokens, positions, tree))
