"""Which items of a history moved a recommendation, measured on the model.

The measure is leave-one-out: a history item is removed from the prompt, and its influence is the fall of the
recommended item's log-likelihood. Attention would be cheaper, as it needs one reading of the prompt. But on the models
measured it was no better than random items, so it is not offered (benchmarks/RESULTS.md).

In a causal model, the tokens before the removed item do not change. So the prompt is read once, and only the tokens
after each gap are run again. All gaps run together in one packed sequence, whose mask keeps them apart. The
log-likelihoods are the same as if each shortened prompt were read by itself.

Only items that are in the prompt are left out, and no older item takes the free place, because then the prompt would
differ in two items.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from genrec.data.catalog import Catalog, Item
from genrec.language.decoder import Decoder, batches_by_length
from genrec.language.prompt_reading import Prompts
from prompts.encoding import PromptEncoder, PromptParts

NEWEST = 20
"""How many of the newest history items are left out in turn."""

PACKED_TOKENS = 1024
"""Tokens in one packed sequence: enough to keep the processor busy, few enough for small masks."""


@dataclass(frozen=True, slots=True)
class Influence:
    """How much one item of a history moved a recommendation.

    Attributes:
        place: the item's place in the history, from 0.
        item: the item.
        weight: the fall of the recommended item's log-likelihood without it, in nats; below 0 if it counted against
            the recommendation.
    """

    place: int
    item: Item
    weight: float


def influences(
    catalog: Catalog,
    encoder: PromptEncoder,
    decoder: Decoder,
    history: Sequence[str],
    recommended: Sequence[str],
    newest: int = NEWEST,
) -> list[list[Influence]]:
    """Return how much the newest items of a history moved each recommendation.

    Args:
        catalog: the items.
        encoder: turns histories into tokens.
        decoder: the language model under the catalogue's constraint.
        history: item ids, oldest first; may be empty.
        recommended: item ids.
        newest: how many of the newest items that fit in the prompt are left out in turn.

    Returns:
        For each recommendation, the items that were left out; the item that moved it most is first.
    """
    if not history or not recommended:
        return [[] for _ in recommended]
    items = [catalog[item] for item in history]
    parts = encoder.parts([item.label for item in items])
    rows = np.array(catalog.rows(recommended), np.int64)
    weights = leave_one_out(decoder, parts, rows, newest)
    older = len(items) - len(parts.items)
    places = range(max(0, len(parts.items) - newest), len(parts.items))
    return [
        sorted(
            (Influence(older + place, items[older + place], float(row[place])) for place in places),
            key=lambda influence: (-influence.weight, -influence.place),
        )
        for row in weights
    ]


def log_likelihoods(
    decoder: Decoder, parts: PromptParts, rows: NDArray[np.int64], left_out: Sequence[Collection[int]]
) -> NDArray[np.float32]:
    """Return the exact log-likelihoods of items after a prompt with some of its items left out.

    Args:
        decoder: the language model under the catalogue's constraint.
        parts: the whole prompt.
        rows: int64 [items]; the catalogue rows of the items.
        left_out: for each variant, the prompt's items to leave out.

    Returns:
        float32 [variants, items], in nats.
    """
    answers = [decoder.trie.sequence(int(row)) for row in rows]
    counts_all = decoder.normalisation != "children" and decoder.forced_tokens == "count"
    if not decoder.seq2seq and counts_all and not _leaves_window(decoder, parts, answers):
        return _packed(decoder, parts, answers, left_out)
    prompts = [parts.without(places) for places in left_out]
    result = np.empty((len(prompts), len(rows)), np.float32)
    for batch in batches_by_length([len(prompt) for prompt in prompts], len(prompts)):
        read = decoder.read([prompts[place] for place in batch])
        result[batch] = decoder.score(read, [rows] * len(batch))
    return result


def leave_one_out(
    decoder: Decoder, parts: PromptParts, rows: NDArray[np.int64], newest: int = NEWEST
) -> NDArray[np.float32]:
    """Return how far each item's log-likelihood falls when a prompt's item is left out.

    Args:
        decoder: the language model under the catalogue's constraint.
        parts: the whole prompt.
        rows: int64 [items]; the catalogue rows of the items.
        newest: how many of the prompt's newest items are left out in turn.

    Returns:
        float32 [items, prompt items], in nats; 0 for older prompt items, which are not left out.
    """
    first = max(0, len(parts.items) - newest)
    variants = [(), *((place,) for place in range(first, len(parts.items)))]
    scores = log_likelihoods(decoder, parts, rows, variants)
    drops = np.zeros((len(rows), len(parts.items)), np.float32)
    drops[:, first:] = (scores[0] - scores[1:]).T
    return drops


@dataclass(frozen=True, slots=True)
class _Segment:
    """The tokens that are run again for one variant: those after its gap.

    Attributes:
        seen: how many of the whole prompt's first tokens come before the gap.
        tokens: the rest of the shortened prompt; never empty.
    """

    seen: int
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, parts: PromptParts, places: Collection[int]) -> _Segment:
        """Return the segment of a variant."""
        gap = min(places, default=len(parts.items))
        seen = len(parts.opening) + sum(map(len, parts.items[:gap]))
        shortened = parts.without(places)
        # The logits of an answer's first token come from the last token of the segment, so there must be one.
        seen = min(seen, len(shortened) - 1)
        return cls(seen, shortened[seen:])


def _leaves_window(decoder: Decoder, parts: PromptParts, answers: Sequence[Sequence[int]]) -> bool:
    """Return whether a sliding window would hide the prompt's beginning; the packed mask cannot express that."""
    window = getattr(decoder.model.config, "sliding_window", None)
    return window is not None and len(parts.without(())) + max(map(len, answers)) > window


@torch.inference_mode()
def _packed(
    decoder: Decoder, parts: PromptParts, answers: Sequence[Sequence[int]], left_out: Sequence[Collection[int]]
) -> NDArray[np.float32]:
    """Run the tokens after each gap, with as many gaps in one sequence as make a good size."""
    prompts = decoder.read([parts.without(())])
    beside = sum(len(answer) - 1 for answer in answers)
    segments = [_Segment.of(parts, places) for places in left_out]
    result: list[NDArray[np.float32]] = []
    pack: list[_Segment] = []
    for segment in segments:
        pack.append(segment)
        if sum(len(one.tokens) + beside for one in pack) >= PACKED_TOKENS:
            result.append(_force_packed(decoder, prompts, pack, answers))
            pack = []
    if pack:
        result.append(_force_packed(decoder, prompts, pack, answers))
    return np.concatenate(result)


def _force_packed(
    decoder: Decoder,
    prompts: Prompts,
    segments: Sequence[_Segment],
    answers: Sequence[Sequence[int]],
) -> NDArray[np.float32]:
    """Run all segments in one sequence, each followed by all answers.

    Returns:
        Each answer's log-likelihood after each segment, float32 [segments, answers].
    """
    ids: list[int] = []
    variant: list[int] = []
    branch: list[int] = []  # 0 for the segment, which its answers see; 1, 2, ... for the answers
    position: list[int] = []
    read_off: list[list[int]] = []
    for number, segment in enumerate(segments):
        end = len(ids) + len(segment.tokens)
        tokens = [segment.tokens, *(answer[:-1] for answer in answers)]
        for place, part in enumerate(tokens):
            first = segment.seen if place == 0 else segment.seen + len(segment.tokens)
            if place:
                read_off.append([end - 1, *range(len(ids), len(ids) + len(part))])
            ids += part
            variant += [number] * len(part)
            branch += [place] * len(part)
            position += range(first, first + len(part))
    device = decoder.device
    group, side = torch.tensor(variant, device=device), torch.tensor(branch, device=device)
    order = torch.arange(len(ids), device=device)
    own = (group[:, None] == group) & ((side == 0) | (side[:, None] == side)) & (order <= order[:, None])
    size = max(segment.seen for segment in segments)
    visible = torch.tensor([segment.seen for segment in segments], device=device)[group]
    mask: Tensor | None = torch.cat((torch.arange(size, device=device) < visible[:, None], own), dim=1)[None, None]
    if len(segments) == len(answers) == 1:
        mask = None  # an ordinary text, where the model's own mask handles its sliding windows
    cache = DynamicCache()
    (shared,) = prompts.shared  # one prompt was read
    for layer, (key, value) in enumerate(zip(shared.keys, shared.values, strict=True)):
        cache.update(key[:1, :, :size], value[:1, :, :size], layer)
    wanted = torch.tensor([place for places in read_off for place in places], device=device)
    output = decoder.model(
        torch.tensor([ids], device=device),
        attention_mask=mask,
        position_ids=torch.tensor([position], device=device),
        **{decoder.cache_name: cache},
        use_cache=True,
        logits_to_keep=wanted,
    )
    chosen = _chosen_log_probabilities(decoder, output.logits[0], list(answers) * len(segments))
    lengths = [len(places) for places in read_off]
    sums = [float(part.sum()) for part in chosen.split(lengths)]  # type: ignore[no-untyped-call]
    return np.array(sums, np.float32).reshape(len(segments), len(answers))


def _chosen_log_probabilities(decoder: Decoder, logits: Tensor, answers: Sequence[Sequence[int]]) -> Tensor:
    """Return the log-probability of each token of the answers, from the logits that predict it."""
    tokens = np.array([token for answer in answers for token in answer], np.int64)
    if decoder.normalisation != "vocabulary":
        tokens = np.searchsorted(decoder.trie.vocabulary, tokens)
    chosen = logits.float().log_softmax(dim=-1)
    return chosen.gather(1, torch.from_numpy(tokens).to(chosen.device)[:, None])[:, 0]
