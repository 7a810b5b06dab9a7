"""The reference decoder: `transformers`' own beam search under a prefix constraint, with an ordinary dictionary trie.

Law 6 is held against it, and the decoding benchmark measures against it: it is how peers decode.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PrefixConstrainedLogitsProcessor


class DictionaryTrie:
    """Token sequences as nested dictionaries."""

    def __init__(self, sequences: Sequence[Sequence[int]], excluded: Collection[int] = ()) -> None:
        self.root: dict[int, Any] = {}
        for row, sequence in enumerate(sequences):
            if row in excluded:
                continue
            node = self.root
            for token in sequence:
                node = node.setdefault(token, {})

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        node = self.root
        for token in prefix:
            node = node.get(token, {})
        return list(node)


class OverTokens(LogitsProcessor):
    """Normalises over the catalogue's tokens, before the constraint hides the others."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = torch.tensor(tokens)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        result = torch.full_like(scores, -torch.inf)
        tokens = self.tokens.to(scores.device)
        result[:, tokens] = scores[:, tokens].log_softmax(dim=-1)
        return result


def reference_search(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sequences: Sequence[Sequence[int]],
    excluded: Sequence[Collection[int]],
    *,
    keep: int,
    beams: int,
    catalogue_tokens: Sequence[int] | None = None,
    over_children: bool = False,
) -> list[list[tuple[tuple[int, ...], float]]]:
    """Return each prompt's best (token sequence, score); every sequence ends with the same terminator token.

    Args:
        model: causal or seq2seq.
        prompts: token ids.
        sequences: the items' tokens.
        excluded: rows of `sequences` that must not come back, for each prompt.
        keep: how many come back.
        beams: how many are held.
        catalogue_tokens: what to normalise over; None: the whole vocabulary.
        over_children: normalise over the allowed tokens instead.
    """
    seq2seq = model.config.is_encoder_decoder
    terminator = sequences[0][-1]
    width = max(map(len, prompts))
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if seq2seq else slice(width - len(prompt), width)
        ids[row, place] = torch.tensor(prompt)
        mask[row, place] = 1
    tries = [DictionaryTrie(sequences, gone) for gone in excluded]
    start = 1 if seq2seq else width

    def allowed(batch: int, tokens: torch.Tensor) -> list[int]:
        return tries[batch].allowed(tokens[start:].tolist()) or [terminator]

    # `generate` puts processors of our own after its constraint, where normalising would see the allowed tokens only.
    constraint: dict[str, Any] = {"prefix_allowed_tokens_fn": allowed}
    if catalogue_tokens is not None:
        steps = [OverTokens(catalogue_tokens), PrefixConstrainedLogitsProcessor(allowed, beams)]
        constraint = {"logits_processor": LogitsProcessorList(steps)}
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        num_beams=beams,
        num_return_sequences=keep,
        max_new_tokens=max(map(len, sequences)),
        eos_token_id=terminator,
        pad_token_id=0,
        do_sample=False,
        length_penalty=0.0,
        early_stopping="never",
        renormalize_logits=over_children,
        **constraint,
        output_scores=True,
        return_dict_in_generate=True,
    )
    results: list[list[tuple[tuple[int, ...], float]]] = [[] for _ in prompts]
    for place, (tokens, score) in enumerate(
        zip(output.sequences[:, start:].tolist(), output.sequences_scores.tolist(), strict=True)
    ):
        if terminator in tokens and score > -1e8:
            results[place // keep].append((tuple(tokens[: tokens.index(terminator) + 1]), score))
    return results
