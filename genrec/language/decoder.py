"""The decoder: beam search over the catalogue's trie, and exact log-likelihoods of given items.

Prompts are read once, many users at a time; beams share their user's prompt (`genrec.language.attention`). The trie
gives the tokens that may follow a beam. Excluded items are removed inside the search, so no beam is wasted on them, and
k distinct items come back whenever the catalogue has them.

The search is the standard one (the same as in `transformers`): at each step the best 2 x beams continuations are kept.
Those among the first `beams` that end an item are finished, and the best `beams` others go on. Scores are sums of
log-probabilities, so they only fall. A beam that can no longer reach the k-th finished item is dropped at once, which
is exact, not a heuristic.

Decoding must normalise over the same set of tokens as training did: see `Normalisation`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import ModelError
from genrec.language import fixed_scores
from genrec.language import fixed_shapes as fixed
from genrec.language.attention import SHARED_PROMPT
from genrec.language.beam_steps import Stepper
from genrec.language.grouped import best_of_each, contains, log_sum_exp
from genrec.language.prompt_reading import Prompts, read_packed, read_padded, read_seq2seq
from retrieval.trie import TokenTrie
from training.backbone import restrict_head

logger = logging.getLogger(__name__)

Normalisation = Literal["catalogue", "vocabulary", "children"]
"""The tokens over which the next token's probabilities sum to one: all tokens that any item uses (as in the
catalogue-restricted training loss), the model's whole vocabulary, or the tokens allowed after the beam."""

ForcedTokens = Literal["count", "free"]
"""Whether the only possible continuation adds its log-probability, or nothing (the debiased rule of D3,
arXiv 2406.14900, section 4.1), which removes the bias against long titles."""


BATCH_TOKENS = 4096
"""Prompt tokens that are decoded side by side: enough to keep the processor busy, few enough to stay small."""

USERS_TIMES = 32
"""With fixed shapes, a batch has this many times the users of a batch on a processor, if memory allows: the calls that
Python makes in a step cost the same for few users and for many."""

FIXED_TOKENS = 1024
"""The average number of prompt tokens per user for which a batch of fixed shape has room."""

MEMORY_SHARE = 0.2
"""The share of a GPU's free memory for the keys and values of the prompts and of the beams. They are held twice while
room is made, and the rest is for the masks and logits of a step."""

USUAL_PLACES = 512
"""The number of tokens of a user's beams whose keys and values are held side by side, as seen on long titles."""

LOGITS_SHARE = 0.1
"""The share of a GPU's free memory for the logits of a step with `USUAL_BEAMS`; they are held up to three times."""

USUAL_BEAMS = 32


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
        fixed_shapes: whether the shapes of batches do not depend on the model's output (see
            `genrec.language.fixed_shapes`): the same results, faster on a GPU, slower on a processor. None: on a GPU.
            The seq2seq family does not support it.

    Raises:
        ModelError: the model's attention cannot be replaced.
    """

    def __init__(
        self,
        model: Any,
        trie: TokenTrie,
        normalisation: Normalisation = "catalogue",
        forced_tokens: ForcedTokens = "count",
        fixed_shapes: bool | None = None,
    ) -> None:
        self.model = model.eval()
        self.trie = trie
        self.normalisation = normalisation
        self.forced_tokens = forced_tokens
        self.device = next(model.parameters()).device
        self.seq2seq = bool(model.config.is_encoder_decoder)
        self.fixed_shapes = not self.seq2seq and (self.device.type == "cuda" if fixed_shapes is None else fixed_shapes)
        # transformers renamed it during version 5 and no longer accepts the old name.
        self.cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        try:
            model.set_attn_implementation(SHARED_PROMPT)
        except ValueError as error:
            raise ModelError(f"{type(model).__name__} does not let its attention be replaced: {error}") from error
        vocabulary = trie.vocabulary
        if normalisation != "vocabulary":
            restrict_head(model, torch.from_numpy(vocabulary.astype(np.int64)))
        # From here on a token is its index in the head's output.
        place = np.searchsorted(vocabulary, trie.token) if normalisation != "vocabulary" else trie.token
        self.places = place.astype(np.int64)
        self._place = self.tensor(self.places)
        # A user with fewer live beams than the others is padded with the root, which has no token; any token will do.
        self.tokens = trie.token.clip(min=0).astype(np.int64)
        self._token = self.tensor(self.tokens)
        self._child_start = self.tensor(trie.child_start)
        self._forced = self._child_start[1:] - self._child_start[:-1] == 1
        self.is_leaf = trie.child_start[1:] == trie.child_start[:-1]
        self._is_leaf = self.tensor(self.is_leaf) > 0
        # If the only possible continuation adds nothing, a beam with one item left needs no further model call.
        free = normalisation == "children" or forced_tokens == "free"
        self.costs = ~(trie.chains() if free else np.zeros(trie.nodes, np.bool_))
        self._costs = self.tensor(self.costs) > 0
        self.continuations = fixed.Continuations(self)
        self.fused = False

    def fuse(self, backend: Any = "inductor") -> None:
        """Compile the model's layers, for long jobs on a GPU: what stands between matrix products becomes few calls.

        This takes seconds. All layers share one graph: sizes are variables, attention is one opaque operation. Prompts
        are still read uncompiled. If the layers cannot be compiled, that is said, and they run as before.

        Args:
            backend: of `torch.compile`; another one than its default where there is no compiler.
        """
        if not self.fixed_shapes or self.fused:
            return
        lists = [module for module in self.model.modules() if isinstance(module, torch.nn.ModuleList)]
        layers = list(max(lists, key=len, default=[]))
        for layer in layers:
            layer.compile(dynamic=True, backend=backend)
        self.fused = True
        try:
            self.search(self.read([[0, 0], [0, 0]]), 2, 9)
        except Exception as error:  # the compiler's own kinds, the C compiler's, the driver's
            for layer in layers:
                layer._compiled_call_impl = None
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            logger.warning("the model's layers cannot be compiled and run as they are, more slowly: %s", reason)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """Return an array of whole numbers on the model's device."""
        return torch.from_numpy(array.astype(np.int64)).to(self.device)

    @torch.inference_mode()
    def read(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Run the model over a batch of prompts, once."""
        if self.seq2seq:
            return read_seq2seq(self, prompts)
        if not self.fused:
            return (read_padded if self.fixed_shapes else read_packed)(self, prompts)
        with torch.compiler.set_stance("force_eager"):
            return read_padded(self, prompts)

    def batches(self, prompts: Sequence[Sequence[int]], users: int) -> Iterator[list[int]]:
        """Yield the places of prompts to decode side by side: of similar length, within the device's limits.

        Args:
            prompts: token ids.
            users: the most users in a batch on a processor.
        """
        beams = USUAL_PLACES if self.fixed_shapes else 0
        yield from batches_by_length([len(prompt) + beams for prompt in prompts], *self.limits(users))

    def limits(self, users: int) -> tuple[int, int]:
        """Return the most users, and the most tokens of prompts and beams, to decode side by side.

        Args:
            users: the number of users for a processor.
        """
        if not self.fixed_shapes:
            return users, BATCH_TOKENS
        users *= USERS_TIMES
        tokens = users * (FIXED_TOKENS + USUAL_PLACES)
        if self.device.type == "cuda":
            config = self.model.config.get_text_config()
            heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
            size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            a_token = 2 * config.num_hidden_layers * heads * size * self.model.dtype.itemsize
            free, _ = torch.cuda.mem_get_info(self.device)
            free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            room = int(free * MEMORY_SHARE / a_token)
            tokens = min(tokens, max(1, room))
            head = len(self.trie.vocabulary) if self.normalisation != "vocabulary" else config.vocab_size
            users = min(users, max(1, int(free * LOGITS_SHARE / (4 * head * USUAL_BEAMS))))
        logger.info("decoding at most %d users and %d tokens side by side", users, tokens)
        return users, tokens

    def normalise(self, logits: Tensor) -> Tensor:
        """Return log-probabilities; those over a beam's children are normalised later, when the children are known."""
        logits = logits.float()
        return logits if self.normalisation == "children" else logits.log_softmax(dim=-1)

    @torch.inference_mode()
    def search(
        self, prompts: Prompts, keep: int, beams: int, excluded: Sequence[NDArray[np.int64]] | None = None
    ) -> list[Found]:
        """Find each user's most likely items by beam search.

        Args:
            prompts: what `read` returned.
            keep: the number of items to return for each user.
            beams: the number of beams; at least `keep`. The search is exact with as many beams as items.
            excluded: item rows that must not come back, for each user.

        Returns:
            For each user, the `keep` best items found; fewer only if the catalogue has no more.
        """
        gone = [np.zeros(0, np.int64)] * prompts.users if excluded is None else excluded
        dead = self._dead_nodes(gone)
        if self.fixed_shapes:
            pool = fixed.search(self, prompts, keep, max(beams, keep), dead)
        else:
            pool = self._search(prompts, keep, max(beams, keep), dead, allow=False)
        return [
            self._items(scores, leaves, keep, set(rows.tolist()))
            for scores, leaves, rows in zip(*pool, gone, strict=True)
        ]

    @torch.inference_mode()
    def score(self, prompts: Prompts, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Return the exact log-likelihood of given items; prefixes that items share are computed once.

        Args:
            prompts: what `read` returned.
            rows: the item rows to score, for each user.

        Returns:
            For each user, float32 scores in the order of the rows.
        """
        width = max((len(user_rows) for user_rows in rows), default=0)
        if width == 0:
            return [np.zeros(0, np.float32) for _ in rows]
        if self.fixed_shapes:
            return fixed_scores.score(self, prompts, rows)
        scores, leaves = self._search(prompts, width, width, self._path_nodes(rows), allow=True)
        result = []
        for user_scores, user_leaves, user_rows in zip(scores, leaves, rows, strict=True):
            by_leaf = dict(zip(user_leaves.tolist(), user_scores.tolist(), strict=True))
            result.append(np.array([by_leaf[leaf] for leaf in self.trie.leaf[user_rows].tolist()], np.float32))
        return result

    def best_of(self, prompts: Prompts, rows: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
        """Return each user's most likely items among some; only items of one token are considered.

        Args:
            prompts: what `read` returned.
            rows: item rows.
            most: the most items for each user.
        """
        rows = rows[self.trie.parent[self.trie.leaf[rows]] == 0]
        if not len(rows):
            return [rows] * prompts.users
        places = self.tensor(self.places[self.trie.leaf[rows]])
        best = prompts.log_probabilities[:, places].topk(min(most, len(rows)), dim=1).indices
        return list(rows[best.cpu().numpy()])

    def _path_nodes(self, rows: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return the sorted keys (user x nodes + node) of all nodes on the way to each user's items."""
        users = np.repeat(np.arange(len(rows)), [len(user_rows) for user_rows in rows])
        nodes, places = self.trie.paths(np.concatenate(rows).astype(np.int64))
        return self.tensor(np.unique(users[places] * self.trie.nodes + nodes))

    def _dead_nodes(self, excluded: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return the sorted keys of nodes below which every item is excluded for the user."""
        users = np.repeat(np.arange(len(excluded)), [len(rows) for rows in excluded])
        unique = np.unique(users * len(self.trie) + np.concatenate(excluded).astype(np.int64))
        nodes, places = self.trie.paths(unique % len(self.trie))
        keys, counts = np.unique((unique // len(self.trie))[places] * self.trie.nodes + nodes, return_counts=True)
        return self.tensor(keys[counts == self.trie.items_below[keys % self.trie.nodes]])

    def _items(self, scores: NDArray[np.float32], leaves: NDArray[np.int64], keep: int, excluded: set[int]) -> Found:
        """Turn leaves into items; items that share a leaf all come back, in catalogue order."""
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
        self, prompts: Prompts, keep: int, beams: int, keys: Tensor, allow: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search the trie with all users side by side.

        Args:
            prompts: what the search starts from.
            keep: how many finished leaves to hold for each user.
            beams: how many beams to hold.
            keys: sorted keys (user x nodes + node) of special nodes.
            allow: whether those are the only nodes allowed, or the only ones forbidden.

        Returns:
            scores float32 [users, keep] and leaves int64 [users, keep], best first; -1 where there are none.
        """
        users = prompts.users
        nodes = torch.zeros((users, 1), dtype=torch.long, device=self.device)
        running = torch.zeros((users, 1), device=self.device)
        done = torch.full((users, keep), -torch.inf, device=self.device)
        leaves = torch.full((users, keep), -1, device=self.device)
        stepper = Stepper(self, prompts)
        values, places = prompts.log_probabilities, torch.arange(users, device=self.device)[:, None]
        # The root has the most children by far, all users have it, and where titles are one token it is all there is.
        scores, children, origins = self.continuations.best(nodes, running, values[:, None], 0, 2 * beams, keys, allow)
        while True:
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
            running, order = running[:, :width].contiguous(), order[:, :width]
            nodes = children.gather(1, order)
            needed = (running > -torch.inf) & self._costs[nodes]
            values, places = stepper.step(self._token[nodes], origins.gather(1, order), needed, values)
            scores, children, origins = self._continue(nodes, running, values, places, 2 * beams, keys, allow)

    def _continue(
        self, nodes: Tensor, running: Tensor, values: Tensor, places: Tensor, most: int, keys: Tensor, allow: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return each user's best continuations: scores, nodes and the beams they come from, [users, up to most].

        `values[places[user, beam]]` are a beam's log-probabilities, where its next token costs anything.
        """
        users, width = nodes.shape
        flat = nodes.flatten()
        counts = (self._child_start[flat + 1] - self._child_start[flat]) * (running.flatten() > -torch.inf)
        beam = torch.repeat_interleave(torch.arange(users * width, device=self.device), counts)
        first = counts.cumsum(0) - counts
        child = self._child_start[flat][beam] + torch.arange(len(beam), device=self.device) - first[beam]
        user = beam // width
        special = contains(keys, user * self.trie.nodes + child)
        allowed = special if allow else ~special
        gains = values[places.flatten()[beam], self._place[child]]
        if self.normalisation == "children":
            # Items excluded from a search get no share of the probability; items that are only not asked for do.
            sharing = gains if allow else gains.masked_fill(special, -torch.inf)
            gains = gains - log_sum_exp(sharing, beam, users * width)[beam]
        if self.forced_tokens == "free":
            gains = gains.masked_fill(self._forced[flat][beam], 0.0)
        gains = (running.flatten()[beam] + gains)[allowed]
        beam, child, user = beam[allowed], child[allowed], user[allowed]
        return best_of_each(gains, child, beam % width, user, users, most)


def batches_by_length(lengths: Sequence[int], size: int, tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield the places of prompts in batches of similar length, so that little is padded and memory is bounded.

    Args:
        lengths: tokens of each prompt.
        size: most prompts in a batch.
        tokens: most tokens in a batch; a longer prompt gets a batch of its own.
    """
    batch: list[int] = []
    total = 0
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) == size or total + lengths[place] > tokens):
            yield batch
            batch, total = [], 0
        batch.append(place)
        total += lengths[place]
    if batch:
        yield batch
