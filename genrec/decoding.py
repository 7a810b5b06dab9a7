"""The decoder: beam search over the catalogue's trie, and exact log-likelihoods of given items.

Prompts are read once, many users at a time; beams share their user's prompt (`genrec.attention`). What beams may
say next is the trie's; what a user must not get is taken out of the search itself, so no beam is wasted and k
distinct items come back whenever the catalogue has them.

The search is the standard one (of `transformers` too): at each step the best 2 x beams continuations are kept, those
among the first `beams` that end an item are finished, and the best `beams` others go on. Scores are sums of
log-probabilities, so they only fall, and a beam that cannot reach the k-th finished item any more is dropped at
once: exact, not a heuristic. A beam that can become one item only has the rest of it scored in one go; it goes on
competing token by token, so the result is the same.

The easy mistake is to normalise over one set of tokens in training and another in decoding: see `Normalisation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from genrec.attention import SHARED_PROMPT, SharedPrompt
from genrec.errors import ModelError
from genrec.stepping import Prompts, Stepper
from retrieval.trie import TokenTrie
from training.backbone import restrict_head

Normalisation = Literal["catalogue", "vocabulary", "children"]
"""Over which tokens the next one's probability sums to one: all that any item uses (what the catalogue-restricted
training loss does), the model's whole vocabulary, or those allowed after the beam."""

ForcedTokens = Literal["count", "free"]
"""Whether the only possible continuation adds its log-probability, or nothing (the debiased rule of D3,
arXiv 2406.14900, section 4.1), which takes the length bias out of long titles."""


@dataclass(frozen=True, slots=True)
class Found:
    """The items found for one user, best first.

    Attributes:
        rows: int64 [n]; item rows.
        scores: float32 [n]; summed log-probabilities.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Decoder:
    """Decodes items of one catalogue with one model, causal or seq2seq.

    Args:
        model: a `transformers` model; its attention and output head are replaced by this decoder's, so give each
            decoder a model of its own.
        trie: the catalogue's token sequences; the terminator is part of each.
        normalisation: see `Normalisation`.
        forced_tokens: see `ForcedTokens`.

    Raises:
        ModelError: the model's attention cannot be replaced.
    """

    def __init__(
        self,
        model: Any,
        trie: TokenTrie,
        normalisation: Normalisation = "catalogue",
        forced_tokens: ForcedTokens = "count",
    ) -> None:
        self.model = model.eval()
        self.trie = trie
        self.normalisation = normalisation
        self.forced_tokens = forced_tokens
        self.device = next(model.parameters()).device
        self.seq2seq = bool(model.config.is_encoder_decoder)
        try:
            model.set_attn_implementation(SHARED_PROMPT)
        except ValueError as error:
            raise ModelError(f"{type(model).__name__} does not let its attention be replaced: {error}") from error
        vocabulary = trie.vocabulary
        if normalisation != "vocabulary":
            restrict_head(model, torch.from_numpy(vocabulary.astype(np.int64)))
        # From here on a token is its place in the head's output.
        place = np.searchsorted(vocabulary, trie.token) if normalisation != "vocabulary" else trie.token
        self._place = self._tensor(place)
        # A user with fewer live beams than the others pads with the root, which has no token: any token does.
        self._token = self._tensor(trie.token).clamp_(min=0)
        self._child_start = self._tensor(trie.child_start)
        self._forced = self._child_start[1:] - self._child_start[:-1] == 1
        self._is_leaf = self._child_start[1:] == self._child_start[:-1]
        self._parent = self._tensor(trie.parent)
        self._lone_leaf = self._tensor(trie.lone_leaves())

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self.device)

    @torch.inference_mode()
    def read(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Run the model over a batch of prompts, once."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.zeros((len(prompts), int(lengths.max())), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        shortest = int(lengths.min())
        read = self._read_seq2seq if self.seq2seq else self._read_causal
        return read(ids.to(self.device), lengths.to(self.device), shortest)

    def _read_causal(self, ids: Tensor, lengths: Tensor, shortest: int) -> Prompts:
        # Padding is on the right, where causal attention never looks: no mask, so the fastest kernel.
        cache = DynamicCache()
        wanted, place = torch.unique(lengths - 1, return_inverse=True)
        output = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=wanted)
        logits = output.logits[torch.arange(len(ids), device=self.device), place]
        shared = SharedPrompt(
            [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers], lengths, shortest
        )
        return Prompts(shared, self._normalise(logits), [], [], None)

    def _read_seq2seq(self, ids: Tensor, lengths: Tensor, shortest: int) -> Prompts:
        mask = (
            (torch.arange(ids.shape[1], device=self.device) < lengths[:, None]).long()
            if shortest < ids.shape[1]
            else None
        )
        states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = torch.full((len(ids), 1), self.model.config.decoder_start_token_id, device=self.device)
        output = self.model(
            decoder_input_ids=start,
            encoder_outputs=(states,),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        shared = SharedPrompt([], [], lengths, shortest)
        cross = [(layer.keys, layer.values) for layer in cache.cross_attention_cache.layers]
        own = [(layer.keys, layer.values) for layer in cache.self_attention_cache.layers]
        return Prompts(shared, self._normalise(output.logits[:, -1]), cross, own, states)

    def _normalise(self, logits: Tensor) -> Tensor:
        """Return log-probabilities; over a beam's children they are normalised later, when these are known."""
        logits = logits.float()
        return logits if self.normalisation == "children" else logits.log_softmax(dim=-1)

    @torch.inference_mode()
    def search(
        self, prompts: Prompts, keep: int, beams: int, excluded: Sequence[NDArray[np.int64]] | None = None
    ) -> list[Found]:
        """Find each user's most likely items by beam search.

        Args:
            prompts: what `read` returned.
            keep: how many items to return for each user.
            beams: how many beams to hold; at least `keep`. As many as the catalogue has items makes it exact.
            excluded: item rows that must not come back, for each user.

        Returns:
            For each user, the `keep` best items found; fewer only if the catalogue has no more.
        """
        gone = [np.zeros(0, np.int64)] * prompts.users if excluded is None else excluded
        pool = self._search(prompts, keep, max(beams, keep), self._dead_nodes(gone), None)
        return [
            self._items(scores, leaves, keep, set(rows.tolist()))
            for scores, leaves, rows in zip(*pool, gone, strict=True)
        ]

    @torch.inference_mode()
    def score(self, prompts: Prompts, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Return the exact log-likelihood of given items, prefixes that items share being run once.

        Args:
            prompts: what `read` returned.
            rows: the item rows to score, for each user.

        Returns:
            For each user, float32 scores in the order of the rows.
        """
        width = max((len(user_rows) for user_rows in rows), default=0)
        if width == 0:
            return [np.zeros(0, np.float32) for _ in rows]
        scores, leaves = self._search(prompts, width, width, *self._path_nodes(rows))
        result = []
        for user_scores, user_leaves, user_rows in zip(scores, leaves, rows, strict=True):
            by_leaf = dict(zip(user_leaves.tolist(), user_scores.tolist(), strict=True))
            result.append(np.array([by_leaf[leaf] for leaf in self.trie.leaf[user_rows].tolist()], np.float32))
        return result

    def _path_nodes(self, rows: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Return the sorted keys (user x nodes + node) of all nodes on the way to each user's items.

        With them, for each key the only leaf wanted at or below it, or -1 where there are several.
        """
        leaves = [np.unique(self.trie.leaf[user_rows]) for user_rows in rows]
        users = np.repeat(np.arange(len(rows)), [len(user_leaves) for user_leaves in leaves])
        flat = np.concatenate(leaves).astype(np.int64)
        nodes, places = self.trie.paths(self.trie.items[self.trie.item_start[flat]])
        keys, first, counts = np.unique(users[places] * self.trie.nodes + nodes, return_index=True, return_counts=True)
        return self._tensor(keys), self._tensor(np.where(counts == 1, flat[places[first]], -1))

    def _dead_nodes(self, excluded: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return the sorted keys of nodes below which every item is excluded for the user."""
        users = np.repeat(np.arange(len(excluded)), [len(rows) for rows in excluded])
        unique = np.unique(users * len(self.trie) + np.concatenate(excluded).astype(np.int64))
        nodes, places = self.trie.paths(unique % len(self.trie))
        keys, counts = np.unique((unique // len(self.trie))[places] * self.trie.nodes + nodes, return_counts=True)
        return self._tensor(keys[counts == self.trie.items_below[keys % self.trie.nodes]])

    def _items(self, scores: NDArray[np.float32], leaves: NDArray[np.int64], keep: int, excluded: set[int]) -> Found:
        """Turn leaves into items; those that share a leaf all come back, in catalogue order."""
        rows: list[int] = []
        values: list[float] = []
        for score, leaf in zip(scores.tolist(), leaves.tolist(), strict=True):
            if leaf < 0 or len(rows) >= keep:
                break
            here = self.trie.items[self.trie.item_start[leaf] : self.trie.item_start[leaf + 1]].tolist()
            kept = [row for row in here if row not in excluded][: keep - len(rows)]
            rows += kept
            values += [score] * len(kept)
        return Found(np.array(rows, np.int64), np.array(values, np.float32))

    def _search(
        self, prompts: Prompts, keep: int, beams: int, keys: Tensor, lone: Tensor | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search the trie with all users side by side.

        Args:
            prompts: what the search starts from.
            keep: how many finished leaves to hold for each user.
            beams: how many beams to hold.
            keys: sorted keys (user x nodes + node) of special nodes.
            lone: None if those are forbidden; if they are the only ones allowed, what `_path_nodes` says of them.

        Returns:
            scores float32 [users, keep] and leaves int64 [users, keep], best first; -1 where there are none.
        """
        users = prompts.users
        beam = _Beams.start(users, prompts.log_probabilities)
        done = torch.full((users, keep), -torch.inf, device=self.device)
        leaves = torch.full((users, keep), -1, device=self.device)
        stepper = Stepper(self.model, prompts)
        while True:
            scores, children, origins = self._continue(beam, 2 * beams, keys, lone is not None)
            ends = self._is_leaf[children]
            finished = scores.where(ends & (torch.arange(scores.shape[1], device=self.device) < beams), -torch.inf)
            done, order = torch.cat((done, finished), 1).sort(dim=1, descending=True, stable=True)
            leaves = torch.cat((leaves, children), 1).gather(1, order)[:, :keep]
            done = done[:, :keep]
            leaves = leaves.where(done > -torch.inf, -1)
            # A score can only fall: a beam that is not above the last finished item to be kept has lost.
            going = scores.where(~ends & (scores > done[:, -1:]), -torch.inf)
            running, order = going.sort(dim=1, descending=True, stable=True)
            width = min(int((running > -torch.inf).sum(1).max()), beams)
            if width == 0:
                return done.cpu().numpy(), leaves.cpu().numpy()
            order = order[:, :width]
            parents = origins.gather(1, order)
            beam = beam.continued(children.gather(1, order), running[:, :width].contiguous(), parents)
            self._foresee(beam, stepper, keys, lone)
            self._step(beam, stepper)

    def _foresee(self, beam: _Beams, stepper: Stepper, keys: Tensor, lone: Tensor | None) -> None:
        """Score the whole rest of beams that can become one item only; they never need the model again."""
        users = torch.arange(len(beam.nodes), device=self.device)[:, None]
        if lone is None:
            leaf = self._lone_leaf[beam.nodes]
        else:
            place = torch.searchsorted(keys, users * self.trie.nodes + beam.nodes).clamp_(max=len(keys) - 1)
            leaf = lone[place]
        fresh = (leaf >= 0) & beam.open
        if not fresh.any():
            return
        path, lengths = self._paths(beam.nodes, leaf, fresh)
        beam.make_room(path.shape[2])
        beam.foreseen |= fresh
        shortest = 0
        while self.normalisation != "children" and shortest < path.shape[2]:
            # In doubling classes of length, so that one long title does not pad all the others.
            longest = max(8, 2 * shortest)
            chosen = fresh & (lengths > shortest) & (lengths <= longest)
            if chosen.any():
                self._foresee_class(beam, stepper, path[:, :, :longest], chosen)
            shortest = longest

    def _foresee_class(self, beam: _Beams, stepper: Stepper, path: Tensor, chosen: Tensor) -> None:
        width = int(chosen.sum(1).max())
        columns = (~chosen).long().argsort(dim=1, stable=True)[:, :width]
        valid = chosen.gather(1, columns)
        nodes = path.gather(1, columns[..., None].expand(-1, -1, path.shape[2]))
        nodes = nodes.masked_fill(~valid[..., None], -1)
        most = int((nodes >= 0).sum(2).max())
        nodes = nodes[:, :, :most]
        before = torch.cat((beam.nodes.gather(1, columns)[..., None], nodes[:, :, :-1]), 2).clamp(min=0)
        targets = self._place[nodes.clamp(min=0)].masked_fill(nodes < 0, -1)
        forced = self._forced[before] if self.forced_tokens == "free" else None
        gains = stepper.look_ahead(self._token[before], targets, beam.slots.gather(1, columns), forced)
        rows, places = valid.nonzero(as_tuple=True)
        beam.ahead[rows, columns[rows, places], :most] = gains[rows, places]

    def _paths(self, nodes: Tensor, leaf: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nodes below each fresh beam's on the way to its leaf [users, beams, most], -1 after the end."""
        at, stop = leaf.where(fresh, nodes), nodes
        steps: list[Tensor] = []
        while (going := at != stop).any():
            steps.append(at.where(going, -1))
            at = self._parent[at].where(going, at)
        upward = torch.stack(steps, dim=2)
        lengths = (upward >= 0).sum(2)
        places = (lengths[..., None] - 1 - torch.arange(len(steps), device=self.device)).clamp(min=-1)
        return upward.gather(2, places.clamp(min=0)).where(places >= 0, -1), lengths

    def _step(self, beam: _Beams, stepper: Stepper) -> None:
        """Run the model for the beams that need it."""
        needing = beam.open
        width = int(needing.sum(1).max())
        if width:
            columns = (~needing).long().argsort(dim=1, stable=True)[:, :width]
            tokens, origins = self._token[beam.nodes.gather(1, columns)], beam.slots.gather(1, columns)
            beam.values = self._normalise(stepper.step(tokens, origins))
            beam.slots = (needing.cumsum(1) - 1).clamp_(min=0)
            beam.width = width

    def _continue(self, beam: _Beams, most: int, keys: Tensor, allow: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return each user's best continuations: scores, nodes and the beams they come from, [users, up to most]."""
        users, width = beam.nodes.shape
        flat, running = beam.nodes.flatten(), beam.running.flatten()
        counts = (self._child_start[flat + 1] - self._child_start[flat]) * (running > -torch.inf)
        origin = torch.repeat_interleave(torch.arange(users * width, device=self.device), counts)
        first = counts.cumsum(0) - counts
        child = self._child_start[flat][origin] + torch.arange(len(origin), device=self.device) - first[origin]
        user = origin // width
        special = _contains(keys, user * self.trie.nodes + child)
        allowed = special if allow else ~special
        origin, child, user = origin[allowed], child[allowed], user[allowed]
        gains = beam.values[user * beam.width + beam.slots.flatten()[origin], self._place[child]]
        if self.normalisation == "children":
            gains = gains - _log_sum_exp(gains, origin, users * width)[origin]
        if self.forced_tokens == "free":
            gains = gains.masked_fill(self._forced[flat][origin], 0.0)
        foreseen = beam.foreseen.flatten()[origin]
        gains = torch.where(foreseen, beam.ahead[:, :, 0].flatten()[origin], gains)
        return _best_of_each(running[origin] + gains, child, origin % width, user, users, most)


@dataclass(slots=True)
class _Beams:
    """The beams of a search; all tensors are [users, beams] unless said otherwise.

    Attributes:
        nodes: where in the trie each beam is.
        running: its score; -inf where a user has fewer beams than the others.
        foreseen: whether the rest of its only item has been scored.
        ahead: float32 [users, beams, tokens]; that rest, token by token.
        slots: its column in the grid of beams that the model last ran for.
        values: [users * width, tokens of the head]; what the model said then.
        width: columns of that grid.
    """

    nodes: Tensor
    running: Tensor
    foreseen: Tensor
    ahead: Tensor
    slots: Tensor
    values: Tensor
    width: int

    @classmethod
    def start(cls, users: int, values: Tensor) -> _Beams:
        """One beam for each user, at the root."""
        zeros = torch.zeros((users, 1), dtype=torch.long, device=values.device)
        ahead = torch.zeros((users, 1, 1), device=values.device)
        return cls(zeros, ahead[:, :, 0], zeros.bool(), ahead, zeros, values, 1)

    @property
    def open(self) -> Tensor:
        """The beams that need the model."""
        return (self.running > -torch.inf) & ~self.foreseen

    def continued(self, nodes: Tensor, running: Tensor, parents: Tensor) -> _Beams:
        """Return the beams one token further; what was foreseen moves up by one."""
        moved = self.ahead.gather(1, parents[..., None].expand(-1, -1, self.ahead.shape[2]))
        moved = torch.nn.functional.pad(moved[:, :, 1:], (0, 1))
        foreseen, slots = self.foreseen.gather(1, parents), self.slots.gather(1, parents)
        return _Beams(nodes, running, foreseen, moved, slots, self.values, self.width)

    def make_room(self, tokens: int) -> None:
        """Make `ahead` hold at least this many tokens."""
        self.ahead = torch.nn.functional.pad(self.ahead, (0, max(0, tokens - self.ahead.shape[2])))


def _contains(keys: Tensor, queries: Tensor) -> Tensor:
    """Return which queries are among the sorted keys."""
    if not len(keys):
        return torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    place = torch.searchsorted(keys, queries).clamp_(max=len(keys) - 1)
    return keys[place] == queries


def _log_sum_exp(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return log(sum(exp(values))) within each group."""
    top = torch.full((groups,), -torch.inf, device=values.device).scatter_reduce(0, group, values, "amax")
    total = torch.zeros(groups, device=values.device).index_add(0, group, (values - top[group]).exp())
    return top + total.log()


def _best_of_each(
    scores: Tensor, child: Tensor, beam: Tensor, user: Tensor, users: int, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best `most` entries of each user as rows; ties keep the order of beams, then of tokens."""
    order = scores.argsort(descending=True, stable=True)
    order = order[user[order].argsort(stable=True)]
    counts = torch.bincount(user, minlength=users)
    rank = torch.arange(len(order), device=scores.device) - (counts.cumsum(0) - counts)[user[order]]
    kept = rank < most
    order, rank = order[kept], rank[kept]
    shape = (users, max(1, min(most, int(counts.max()))))
    best = torch.full(shape, -torch.inf, device=scores.device).index_put((user[order], rank), scores[order])
    nodes = torch.zeros(shape, dtype=torch.long, device=scores.device).index_put((user[order], rank), child[order])
    beams = torch.zeros(shape, dtype=torch.long, device=scores.device).index_put((user[order], rank), beam[order])
    return best, nodes, beams


def batches_by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the places of prompts in batches of similar length, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    for start in range(0, len(order), size):
        yield order[start : start + size]
