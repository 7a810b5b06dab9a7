"""The recipe of a base: how `genrec pretrain` makes one."""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from training.reporting import LABEL, Reporter


class PretrainRecipe(BaseModel):
    """How a base is made: from nothing, or from a model that has been trained elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["causal", "seq2seq"] = Field("causal", description="Decoder only (GPT-2) or encoder-decoder (T5).")
    base: str | None = Field(
        None, description="A model to start from, its titles made tokens: a hub id, a local folder, or 'starter'."
    )
    vocabulary: int = Field(
        100_000, ge=300, description="Most tokens (of a base: most titles made tokens); enough make every title one."
    )
    width: int = Field(64, ge=8, multiple_of=8, description="Length of hidden states; a base has its own.")
    layers: int | None = Field(
        None, ge=1, description="Blocks; of encoder and decoder, each; 2, or of a base its first so many, or all."
    )
    heads: int = Field(2, ge=1, description="Attention heads; they divide the width; a base has its own.")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of hidden values dropped in training; a base has its own."
    )
    max_tokens: int = Field(
        128, ge=16, description="Longest prompt and longest window, in tokens; less where histories are short."
    )
    answers: int = Field(16, ge=1, description="Titles that an encoder's one reading is trained to be followed by.")
    epochs: int = Field(40, ge=1, description="Most passes over the histories.")
    patience: int = Field(8, ge=1, description="Passes without a better validation gain before training stops.")
    max_minutes: float | None = Field(
        None, gt=0, description="Stop learning and judging after this many minutes; making the tokenizer comes before."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate; it falls linearly to a tenth.")
    base_share: float = Field(
        0.3, gt=0, le=1, description="Share of it for what a base knows already: all but its tokens' embeddings."
    )
    warmup: int = Field(100, ge=1, description="Steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    batch_tokens: int = Field(1024, ge=16, description="Tokens per step, padding included.")
    others: float = Field(
        0.3, ge=0, le=1, description="Share of a target that what other users took after the same items makes up."
    )
    exclude_seen: bool = Field(
        True,
        description="Leave what a user took before out of the loss; as the data folder says, where left out.",
    )
    meaning: bool = Field(True, description="Make a title's vector a function of its item's text vector, plus its own.")
    meaning_hidden: int = Field(128, ge=0, description="Units of that function's hidden layer; 0: a projection alone.")
    residual_dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of the items whose own part is dropped in a step, so the function learns."
    )
    report_to: list[Reporter] = Field(default_factory=list, description=LABEL)
    seed: int = Field(0, ge=0, description="Seed of everything random.")

    def to_yaml(self) -> str:
        """Return the whole recipe, defaults included, as YAML text."""
        return str(yaml.safe_dump(self.model_dump(), sort_keys=False))
