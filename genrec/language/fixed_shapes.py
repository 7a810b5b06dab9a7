"""Beam search and scoring in fixed shapes, for devices that idle while Python launches many small calls.

The search of `genrec.language.decoder` runs only the beams that can still win, so each step has its own shapes and must
wait for the device to return them. A GPU idles meanwhile. Here each user has the same number of beams in every step.
Finished and lost beams are masked, and only every few steps the device is asked whether any beam is left. A beam's
tokens are written once behind its prompt's, in the order in which they were made. A mask marks the tokens that the beam
continues, so nothing is moved when beams change places. Candidates are scored in one run of the model over the tree of
their tokens.

Finished beams are masked, not removed: their scores are always minus infinity, so that they take part in no sum and no
maximum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import ModelError
from genrec.language.attention import TokenTree, running
from genrec.language.grouped import log_sum_exp
from genrec.language.prompt_reading import Prompts

if TYPE_CHECKING:
    from genrec.language.decoder import Decoder

ASKED_EVERY = 4
"""Steps between two reads of the number of live beams from the device."""

_EIGHT = 8
"""The number of places is a multiple of this: fused attention needs aligned rows in its mask."""

SCORED_TOKENS = 32_768
"""The most tokens that are scored in one run of the model."""

SCORED_LOGITS = 1 << 28
"""The most logits that one run of the model may return; 1 GiB in fp32."""


class Continuations:
    """The children of a trie's nodes, level by level in fixed shapes; knows tries, not models.

    All beams are at the same depth, so the width of a table is the most children that any node of that depth has.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        trie = decoder.trie
        counts = np.diff(trie.child_start)
        depth = np.zeros(trie.nodes, np.int64)
        edges = [0, 1]
        while edges[-1] < trie.nodes:  # nodes are numbered level by level
            start, end = edges[-2], edges[-1]
            edges.append(int(trie.child_start[end]))
            depth[end : edges[-1]] = depth[start] + 1
        self.depth = depth
        self.most = [int(counts[start:end].max()) for start, end in pairwise(edges)]
        """For each depth, the most children that a node has."""

    def best(
        self, nodes: Tensor, running: Tensor, values: Tensor, depth: int, most: int, keys: Tensor, allow: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return each user's best continuations: scores, nodes and the beams they come from, [users, up to most].

        Args:
            nodes: int64 [users, beams], all of one depth.
            running: float32 [users, beams]; minus infinity for a beam that is finished or lost.
            values: [users, beams, tokens of the head]: the log-probabilities of what comes next; logits where they
                are normalised over the children.
            depth: of the nodes.
            most: the most continuations to return.
            keys: sorted keys (user x nodes + node) of special nodes.
            allow: whether those are the only nodes allowed, or the only ones forbidden.
        """
        decoder = self._decoder
        users, width = nodes.shape
        first = decoder._child_start[nodes][..., None]
        count = decoder._child_start[nodes + 1][..., None] - first
        offsets = torch.arange(self.most[depth], device=nodes.device)
        real = offsets < count
        child = (first + offsets).where(real, 0)
        gains = values.gather(2, decoder._place[child].clamp_(min=0).view(users, width, -1)).float()
        special = _is_special(keys, child, decoder.trie.nodes)
        allowed = real & (special if allow else ~special)
        if decoder.normalisation == "children":
            # Items excluded from a search get no share of the probability; items that are only not asked for do.
            gains = gains - gains.masked_fill(~(real if allow else allowed), -torch.inf).logsumexp(2, keepdim=True)
        if decoder.forced_tokens == "free":
            gains = gains.masked_fill(count == 1, 0.0)
        scores = (running[..., None] + gains).masked_fill(~allowed, -torch.inf)
        scores = scores.masked_fill(running[..., None] == -torch.inf, -torch.inf).flatten(1)
        best, place = scores.topk(min(most, scores.shape[1]), dim=1)
        return best, child.flatten(1).gather(1, place), place // len(offsets)


def search(
    decoder: Decoder, prompts: Prompts, keep: int, beams: int, keys: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search the trie with all users side by side; see `Decoder.search`.

    Args:
        decoder: its model and trie are used.
        prompts: the prompts that have been read.
        keep: the number of finished leaves for each user.
        beams: the number of beams.
        keys: sorted keys (user x nodes + node) of the nodes that are forbidden.

    Returns:
        scores float32 [users, keep] and leaves int64 [users, keep], best first; -1 where there are none.
    """
    device, users = decoder.device, prompts.users
    nodes = torch.zeros((users, 1), dtype=torch.long, device=device)
    running = torch.zeros((users, 1), device=device)
    done = torch.full((users, keep), -torch.inf, device=device)
    leaves = torch.full((users, keep), -1, device=device)
    values = prompts.log_probabilities[:, None]
    grower: _Grower | None = None
    depths = len(decoder.continuations.most) - 1
    for depth in range(depths):
        scores, children, origins = decoder.continuations.best(nodes, running, values, depth, 2 * beams, keys, False)
        ends = decoder._is_leaf[children]
        finished = scores.where(ends & (torch.arange(scores.shape[1], device=device) < beams), -torch.inf)
        done, order = torch.cat((done, finished), 1).sort(dim=1, descending=True, stable=True)
        leaves = torch.cat((leaves, children), 1).gather(1, order)[:, :keep]
        done = done[:, :keep]
        if depth == depths - 1:
            break
        # A score can only fall: a beam that is not above the last finished item to be kept has lost.
        going = scores.where(~ends & (scores > done[:, -1:]), -torch.inf)
        width = min(beams, going.shape[1])
        running, order = going.topk(width, dim=1)
        if depth % ASKED_EVERY == 0:
            live = int((running > -torch.inf).sum(1).max())
            if live == 0:
                break
            width = min(width, -(-live // _EIGHT) * _EIGHT)
            running, order = running[:, :width], order[:, :width]
        nodes = children.gather(1, order).where(running > -torch.inf, 0)
        if grower is None:
            grower = _Grower(decoder, prompts)
        values = grower.step(decoder._token[nodes], origins.gather(1, order))
    leaves = leaves.where(done > -torch.inf, -1)
    return done.cpu().numpy(), leaves.cpu().numpy()


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
    width = -(-int(sizes.max()) // _EIGHT) * _EIGHT if len(asked) else 0
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
        seen=torch.cat((_prompt_seen(lengths, size, width), seen[:, :, :width]), 2),
        positions=torch.cat((torch.arange(size, device=device).expand(users, -1), positions), 1),
        new_positions=positions,
    )
    return decoder.normalise(_forward(decoder, tokens, positions, tree))


class _Grower:
    """Runs the model for one more token of all beams of all users; knows caches, not tries."""

    def __init__(self, decoder: Decoder, prompts: Prompts) -> None:
        self._decoder = decoder
        self._lengths = prompts.lengths
        (shared,) = prompts.shared
        self._size = shared.keys[0].shape[2]
        self._used = self._size
        self._keys, self._values = list(shared.keys), list(shared.values)
        users = prompts.users
        self._positions = torch.arange(self._size, device=decoder.device).expand(users, -1)
        self._own = torch.zeros((users, 1, 0), dtype=torch.bool, device=decoder.device)  # which own places each sees
        self._steps = 0

    def step(self, tokens: Tensor, origins: Tensor) -> Tensor:
        """Feed each beam its new token.

        Args:
            tokens: int64 [users, beams].
            origins: int64 [users, beams]; the beam of the previous step that each one continues.

        Returns:
            float32 [users, beams, tokens of the head].
        """
        users, width = tokens.shape
        room = -(-width // _EIGHT) * _EIGHT
        if self._used + room > self._keys[0].shape[2]:
            self._grow(ASKED_EVERY * room)
        own = self._own.gather(1, origins[..., None].expand(-1, -1, self._own.shape[2]))
        itself = torch.eye(width, room, dtype=torch.bool, device=tokens.device).expand(users, -1, -1)
        self._own = torch.cat((own, itself), 2)
        positions = (self._lengths + self._steps)[:, None].expand(-1, width)
        self._positions = torch.cat((self._positions, positions[:, :1].expand(-1, room)), 1)
        tree = TokenTree(
            keys=self._keys,
            values=self._values,
            start=self._used,
            end=self._used + room,
            seen=torch.cat((_prompt_seen(self._lengths, self._size, width), self._own), 2),
            positions=self._positions,
            new_positions=positions,
        )
        logits = _forward(self._decoder, tokens, positions, tree)
        self._used += room
        self._steps += 1
        return self._decoder.normalise(logits)

    def _grow(self, places: int) -> None:
        for states in (self._keys, self._values):
            for layer, old in enumerate(states):
                states[layer] = torch.nn.functional.pad(old, (0, 0, 0, places))


def _forward(decoder: Decoder, tokens: Tensor, positions: Tensor, tree: TokenTree) -> Tensor:
    # The model uses a four-dimensional mask unchanged instead of building its own; the real mask is in the tree.
    mask = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=tokens.device)
    with running(tree):
        output = decoder.model(
            tokens, attention_mask=mask, position_ids=positions.contiguous(), use_cache=False, token_tree=tree
        )
    if tree.layers_seen < len(tree.keys):
        kind = type(decoder.model).__name__
        raise ModelError(f"{kind} does not pass its attention the shared prompt; use another base")
    logits: Tensor = output.logits
    return logits


def _prompt_seen(lengths: Tensor, size: int, width: int) -> Tensor:
    seen = torch.arange(size, device=lengths.device) < lengths[:, None]
    return seen[:, None].expand(-1, width, -1)


def _is_special(keys: Tensor, child: Tensor, nodes: int) -> Tensor:
    """Return which of the nodes [users, beams, children] are among the sorted keys."""
    if not len(keys):
        return torch.zeros_like(child, dtype=torch.bool)
    queries = child + torch.arange(len(child), device=child.device)[:, None, None] * nodes
    place = torch.searchsorted(keys, queries).clamp_(max=len(keys) - 1)
    return keys[place] == queries
