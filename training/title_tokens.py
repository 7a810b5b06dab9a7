"""Whole titles as tokens of a trained model: histories become at least five times shorter.

A title of six tokens takes six positions to read, six steps to write, and six losses, of which five only teach the
spelling of the title. With one token for each title, the model learns only the choice of the item. A new token starts
as the mean of its pieces, so that the model knows something about the title from the first step on.

Easy to overlook: the token includes the template's ending after the title. The tokenizer uses it only in a text that
writes both as the template does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from prompts.encoding import Family
from prompts.template import Template
from training.backbone import load_base, load_tokenizer
from training.errors import BackboneError


def load_with_title_tokens(
    base: str,
    histories: Sequence[Sequence[str]],
    catalogue: Sequence[str],
    template: Template,
    most: int,
    layers: int | None = None,
) -> tuple[Any, Any, Family]:
    """Load a base model in fp32 and give its tokenizer a token for each title, the titles taken most often first.

    Source of the start from pieces: Hewitt, "Initializing new word embeddings for pretrained language models", 2021,
    with a title's own pieces in place of all words.

    Args:
        base: a local folder or a hub id.
        histories: labels that each training user took.
        catalogue: every item's label.
        template: its way of writing an item is what a token holds.
        most: most titles that get a token; the others are spelt in pieces, and those that are one already stay it.
        layers: keep only this many first layers.

    Returns:
        The model, its tokenizer and its family.

    Raises:
        BackboneError: the base is not there, or adds a bias to its logits (BART), which new tokens would not have.
    """
    tokenizer = load_tokenizer(base)
    model, family = load_base(base, "cpu", torch.float32, layers=layers)
    if getattr(model, "final_logits_bias", None) is not None:
        raise BackboneError(f"{type(model).__name__} adds a bias to its logits; titles cannot be its tokens")
    counts = Counter(chain.from_iterable(histories))
    texts = list(dict.fromkeys(map(template.item_text, sorted(dict.fromkeys(catalogue), key=lambda one: -counts[one]))))
    pieces = dict(zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
    chosen = [text for text in texts if len(pieces[text]) > 1][:most]
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in chosen])
    model.resize_token_embeddings(max(len(tokenizer), model.get_input_embeddings().num_embeddings), mean_resizing=False)
    with torch.no_grad():
        for weight in {id(one): one for one in _embeddings(model)}.values():
            for text, place in zip(chosen, tokenizer.convert_tokens_to_ids(chosen), strict=True):
                weight[place] = weight[pieces[text]].mean(dim=0)
    return model, tokenizer, family


def _embeddings(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
