"""Training examples of a run: from histories, and from the catalogue's own texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from genrec.data.catalog import Catalog
from genrec.data.splits import NOTHING_TO_LEARN, History
from genrec.errors import DataError
from prompts.encoding import Example, PromptEncoder
from training.catalogue_texts import ItemText, catalogue_examples
from training.recipe import Recipe


def chosen_histories(histories: Sequence[History], recipe: Recipe) -> list[History]:
    """Return the histories that are learnt from: all, or those of a seeded sample of users where the recipe says so."""
    chosen = list(histories)
    if recipe.max_users is not None and recipe.max_users < len(chosen):
        chosen = random.Random(recipe.seed).sample(chosen, recipe.max_users)  # noqa: S311 - not cryptography
    return chosen


def make_examples(
    encoder: PromptEncoder, catalog: Catalog, histories: Sequence[History], recipe: Recipe
) -> list[Example]:
    """Return the training examples of histories; of a seeded sample of users where the recipe says so."""
    chosen = chosen_histories(histories, recipe)
    encoder.remember(catalog.labels)
    examples = [
        example for history in chosen for example in encoder.examples([catalog[item].label for item in history.items])
    ]
    if not examples:
        raise DataError(NOTHING_TO_LEARN)
    return examples


def catalogue_texts(encoder: PromptEncoder, catalog: Catalog, recipe: Recipe) -> list[Example]:
    """Return the catalogue's own texts, where the recipe wants them read: titles, categories and attributes."""
    if not recipe.catalogue_epochs:
        return []
    texts = []
    for item in catalog:
        known = {"categories": ", ".join(item.categories), **item.attributes}
        details = tuple(f"{name.capitalize()}: {value}" for name, value in known.items() if value)
        texts.append(ItemText(item.label, details))
    return catalogue_examples(encoder, texts, recipe.seed)
