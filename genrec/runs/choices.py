"""What `genrec pretrain` chooses from the data where the user has not said it; each choice is announced with a reason.

Each rule follows from what the value is for, not from a data set's figures: a window as long as histories are, so that
no step is spent on padding and nothing is cut that most histories have.
"""

from __future__ import annotations

import numpy as np

from genrec.data.prepared import PreparedData
from training.pretrain_recipe import PretrainRecipe

WINDOWS = (32, 64, 128)
"""Windows that are chosen from, in tokens; on longer histories, shorter windows of the same history learn better."""

SHARE = 0.95
"""Of the training histories, what should fit in a window whole."""

AROUND = 8
"""Tokens that a prompt has beside its titles, at most, where a title is one token."""

TOKENS_A_TITLE = 4
"""A vocabulary of so many tokens for each title has room for whole titles and for the pieces that they grow from."""

PIECES = 300
"""Tokens that a vocabulary has before any title."""


def chosen(recipe: PretrainRecipe, data: PreparedData) -> tuple[PretrainRecipe, list[str]]:
    """Return the recipe with what was not said chosen from the data, and the reasons in sentences.

    Args:
        recipe: as the user gave it; what was set is kept.
        data: what will be learnt from.
    """
    changes: dict[str, object] = {}
    reasons = []
    if "exclude_seen" not in recipe.model_fields_set:
        changes["exclude_seen"] = not data.keep_seen
        kept = "may come back" if data.keep_seen else "does not come back"
        reasons.append(f"exclude_seen={not data.keep_seen}: what was taken {kept} in these data")
    whole = recipe.vocabulary >= TOKENS_A_TITLE * len(data.catalog) + PIECES  # titles in pieces take longer windows
    if "max_tokens" not in recipe.model_fields_set and recipe.base is None and whole:
        lengths = np.array([len(history.items) for history in data.split().train])
        longest = int(np.quantile(lengths, SHARE)) if len(lengths) else 0
        window = next((size for size in WINDOWS if size >= longest + AROUND), WINDOWS[-1])
        changes["max_tokens"] = window
        reasons.append(f"max_tokens={window}: {SHARE:.0%} of the histories have at most {longest} items")
    return recipe.model_copy(update=changes), reasons
