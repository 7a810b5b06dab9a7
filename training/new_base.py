"""A base from nothing: a tokenizer made of titles, and a small model with random weights.

If title vectors are given, a token's embedding starts as the mean of the vectors of its titles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prompts.template import Template
from training.pretrain_recipe import PretrainRecipe

PAD, START, END = "<pad>", "<s>", "</s>"


LAYERS = 2
"""Blocks of a model from nothing where the recipe does not say."""


Labels = Sequence[str]


def train_tokenizer(histories: Sequence[Labels], catalogue: Labels, template: Template, size: int) -> Any:
    """Train a byte-level BPE tokenizer on titles as often as they are taken, and once each beyond that.

    Merges may cross spaces, so a whole title can be one token. Source: Gage, "A new algorithm for data compression",
    1994; Liu et al., "SuperBPE: Space travel for language models", 2025 (merges across spaces).

    Args:
        histories: labels that users took.
        catalogue: every label.
        template: its pieces and its way of writing an item.
        size: most tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        for piece in (template.opening, template.separator, template.cue):
            yield from [piece] * len(histories)
        for labels in (catalogue, *histories):
            yield from map(template.item_text, labels)

    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        model_input_names=["input_ids", "attention_mask"],
    )


def make_model(recipe: PretrainRecipe, tokenizer: Any, context: int) -> Any:
    """Return a model with random weights: GPT-2, or T5 with gated feed-forward layers.

    Args:
        recipe: its size.
        tokenizer: its tokens.
        context: the most tokens that a decoder-only model can read.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config

    pad, start, end = tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id
    if recipe.family == "seq2seq":
        return _with_small_start(
            T5Config(
                vocab_size=len(tokenizer), d_model=recipe.width, d_kv=recipe.width // recipe.heads,
                d_ff=4 * recipe.width, num_layers=recipe.layers or LAYERS, num_heads=recipe.heads,
                dropout_rate=recipe.dropout, feed_forward_proj="gated-gelu", pad_token_id=pad, eos_token_id=end,
                decoder_start_token_id=pad,
            )
        )  # fmt: skip
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=recipe.width, n_layer=recipe.layers or LAYERS, n_head=recipe.heads,
            # Dropping attention weights would need them all in memory; without it the fast kernel runs.
            n_positions=context, resid_pdrop=recipe.dropout, embd_pdrop=recipe.dropout, attn_pdrop=0.0,
            pad_token_id=pad, bos_token_id=start, eos_token_id=end,
        )
    )  # fmt: skip


def _with_small_start(config: Any) -> Any:
    """Return a T5 whose embeddings start small, as GPT-2's do, and whose blocks at first add little to them.

    T5's own start, embeddings of unit variance, is meant for Adafactor, whose steps are relative: AdamW's would take
    thousands of them to move a title's vector. The last norm makes up for the factor of width^-0.5 before a tied head.
    """
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight.normal_(std=0.05)
        model.decoder.final_layer_norm.weight.fill_(config.d_model**0.5)
        for name, parameter in model.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                parameter.mul_(0.2)
    return model


def start_from_vectors(embeddings: Tensor, answers: Sequence[Sequence[int]], vectors: NDArray[np.float32]) -> None:
    """Set token embeddings, in place, to the mean of the vectors of the titles that hold the token.

    Vectors are first turned to their principal directions and cut to the embeddings' width. Tokens of no title, or of
    all (the terminator), keep what they have. Source: Harte et al., "Leveraging large language models for sequential
    recommendation", RecSys 2023 (LLM2BERT4Rec), there for item numbers.

    Args:
        embeddings: shape (tokens, width).
        answers: each item's tokens.
        vectors: shape (items, any).
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    placed = torch.from_numpy(centred @ directions[:, ::-1][:, : embeddings.shape[1]])
    items = torch.repeat_interleave(torch.arange(len(answers)), torch.tensor([len(set(tokens)) for tokens in answers]))
    tokens = torch.tensor([token for answer in answers for token in sorted(set(answer))])
    counts = torch.bincount(tokens, minlength=len(embeddings))
    means = placed.new_zeros(len(embeddings), placed.shape[1]).index_add_(0, tokens, placed[items])
    means /= counts.clamp(min=1)[:, None]
    told = ((counts > 0) & (counts < len(answers))).nonzero()[:, 0]
    spread = means[told].std()
    if not len(told) or not float(spread) > 0:
        return
    with torch.no_grad():
        scaled = means[told] * (embeddings.std() / spread)
        embeddings[told, : placed.shape[1]] = scaled.to(embeddings.dtype)
