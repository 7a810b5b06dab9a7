"""Beam search in fixed shapes, for devices that idle while Python launches many small calls.

The search of `genrec.language.decoder` runs only the beams that can still win, so each step has its own shapes and must
wait for the device to return them. A GPU idles meanwhile. Here each user has the same number of beams in every step.
Finished and lost beams are masked, and only every few steps the device is asked whether any beam is left. A beam's
tokens are written once behind its prompt's, in the order in which they were made. A mask marks the tokens that the beam
continues, so nothing is moved when beams change places. `genrec.language.fixed_scores` scores given items.

Finished beams are masked, not removed: their scores are always minus infinity, so that they take part in no sum and no
maximum. When the device is asked, what no live beam needs any more is given up: places for beams, the tokens of lost
beams, and, once they are many, the users who have all their items. Long titles are few, so most of a search would
otherwise be spent on what is masked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import ModelError
from genrec.language.attention import TokenTree, running
from genrec.language.prompt_reading import Prompts

if TYPE_CHECKING:
    from genrec.language.decoder import Decoder

ASKED_EVERY = 4
"""Steps between two reads of the number of live beams from the device."""

GIVEN_UP = 0.75
"""Users, or the tokens of beams, are given up when at most this share of them is needed: giving up copies the rest."""

_EIGHT = 8
"""The number of places is a multiple of this: fused attention needs aligned rows in its mask."""


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
        self,
        nodes: Tensor,
        running: Tensor,
        values: Tensor,
        depth: int,
        most: int,
        keys: Tensor,
        allow: bool,
        owners: Tensor | None = None,
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
            owners: int64 [users]; the users' numbers in the keys; None: 0, 1, ...
        """
        decoder = self._decoder
        users, width = nodes.shape
        first = decoder._child_start[nodes][..., None]
        count = decoder._child_start[nodes + 1][..., None] - first
        offsets = torch.arange(self.most[depth], device=nodes.device)
        real = offsets < count
        child = (first + offsets).where(real, 0)
        gains = values.gather(2, decoder._place[child].clamp_(min=0).view(users, width, -1)).float()
        special = _is_special(keys, child, decoder.trie.nodes, owners)
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
    owners = torch.arange(users, device=device)  # the users who are still searched for
    all_done, all_leaves = done.clone(), leaves.clone()
    grower: _Grower | None = None
    depths = len(decoder.continuations.most) - 1
    for depth in range(depths):
        scores, children, origins = decoder.continuations.best(
            nodes, running, values, depth, 2 * beams, keys, False, owners
        )
        ends = decoder._is_leaf[children]
        finished = scores.where(ends & (torch.arange(scores.shape[1], device=device) < beams), -torch.inf)
        done, order = torch.cat((done, finished), 1).sort(dim=1, descending=True, stable=True)
        leaves = torch.cat((leaves, children), 1).gather(1, order)[:, :keep]
        done = done[:, :keep]
        if depth == depths - 1:
            break
        # A score can only fall: a beam that is not above the last finished item to be kept has lost.
        going = scores.where(~ends & (scores > done[:, -1:]), -torch.inf)
        running, order = going.topk(min(beams, going.shape[1]), dim=1)
        origins = origins.gather(1, order)
        if grower is None:
            grower = _Grower(decoder, prompts)
        if depth % ASKED_EVERY == 0:
            live = running > -torch.inf
            needed = grower.needed(origins, live)
            asked = torch.stack((live.sum(1).max(), live.any(1).sum(), needed.sum(1).max()))
            most_beams, most_users, most_places = asked.tolist()  # the one time that the device is waited for
            if most_beams == 0:
                break
            width = min(running.shape[1], up(most_beams))
            running, order, origins = running[:, :width], order[:, :width], origins[:, :width]
            grower.give_up_places(needed, up(most_places))
            if up(most_users) <= GIVEN_UP * len(owners):
                all_done[owners], all_leaves[owners] = done, leaves
                first = live.any(1).byte().argsort(descending=True, stable=True)[: up(most_users)]
                owners, done, leaves, children = owners[first], done[first], leaves[first], children[first]
                running, order, origins = running[first], order[first], origins[first]
                grower.give_up_users(first)
        nodes = children.gather(1, order).where(running > -torch.inf, 0)
        values = grower.step(decoder._token[nodes], origins)
    all_done[owners], all_leaves[owners] = done, leaves
    all_leaves = all_leaves.where(all_done > -torch.inf, -1)
    return all_done.cpu().numpy(), all_leaves.cpu().numpy()


def up(count: int) -> int:
    """Return the next multiple of eight."""
    return -(-count // _EIGHT) * _EIGHT


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
        room = up(width)
        if self._used + room > self._keys[0].shape[2]:
            self._grow(2 * ASKED_EVERY * room)
        itself = torch.eye(width, room, dtype=torch.bool, device=tokens.device).expand(users, -1, -1)
        self._own = torch.cat((self._seen(origins), itself), 2)
        positions = (self._lengths + self._steps)[:, None].expand(-1, width)
        self._positions = torch.cat((self._positions, positions[:, :1].expand(-1, room)), 1)
        tree = TokenTree(
            keys=self._keys,
            values=self._values,
            start=self._used,
            end=self._used + room,
            seen=torch.cat((prompt_seen(self._lengths, self._size, width), self._own), 2),
            positions=self._positions,
            new_positions=positions,
        )
        logits = forward(self._decoder, tokens, positions, tree)
        self._used += room
        self._steps += 1
        return self._decoder.normalise(logits)

    def needed(self, origins: Tensor, live: Tensor) -> Tensor:
        """Return which of the places for beams' tokens some live beam of the user sees, bool [users, places].

        Args:
            origins: int64 [users, beams]; the beam of the previous step that each one continues.
            live: bool [users, beams].
        """
        return (self._seen(origins) & live[..., None]).any(1)

    def give_up_places(self, needed: Tensor, count: int) -> None:
        """Keep this many places for beams' tokens, among them the needed ones, if they are few enough."""
        if not needed.shape[1] or count > GIVEN_UP * needed.shape[1]:
            return
        kept = needed.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
        self._own = self._own.gather(2, kept[:, None].expand(-1, self._own.shape[1], -1))
        places = self._size + kept
        # What is kept stands behind the prompt again, in the same order; nobody sees what lies behind it.
        self._positions = torch.cat((self._positions[:, : self._size], self._positions.gather(1, places)), 1)
        for states in (self._keys, self._values):
            for layer in states:
                own = places[:, None, :, None].expand(-1, layer.shape[1], -1, layer.shape[3])
                layer[:, :, self._size : self._size + count] = layer.gather(2, own)
        self._used = self._size + count

    def give_up_users(self, kept: Tensor) -> None:
        """Keep only these users, int64 [users]."""
        self._lengths, self._positions, self._own = self._lengths[kept], self._positions[kept], self._own[kept]
        for states in (self._keys, self._values):
            for layer, old in enumerate(states):
                states[layer] = old[kept]

    def _seen(self, origins: Tensor) -> Tensor:
        return self._own.gather(1, origins[..., None].expand(-1, -1, self._own.shape[2]))

    def _grow(self, places: int) -> None:
        for states in (self._keys, self._values):
            for layer, old in enumerate(states):
                states[layer] = torch.nn.functional.pad(old, (0, 0, 0, places))


def forward(decoder: Decoder, tokens: Tensor, positions: Tensor, tree: TokenTree) -> Tensor:
    """Run the model for new tokens of a tree; returns logits [users, new tokens, tokens of the head].

    Raises:
        ModelError: the model does not pass its attention the tree.
    """
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


def prompt_seen(lengths: Tensor, size: int, width: int) -> Tensor:
    """Return which of the prompts' places new tokens see, bool [users, width, size]: all but the padding."""
    seen = torch.arange(size, device=lengths.device) < lengths[:, None]
    return seen[:, None].expand(-1, width, -1)


def _is_special(keys: Tensor, child: Tensor, nodes: int, owners: Tensor | None) -> Tensor:
    """Return which of the nodes [users, beams, children] are among the sorted keys."""
    if not len(keys):
        return torch.zeros_like(child, dtype=torch.bool)
    owners = torch.arange(len(child), device=child.device) if owners is None else owners
    queries = child + owners[:, None, None] * nodes
    place = torch.searchsorted(keys, queries).clamp_(max=len(keys) - 1)
    return keys[place] == queries
