"""Recipes: everything that decides how a model is trained, typed, in one YAML file.

Every problem of a recipe is reported at once. What a recipe leaves out has the default given here; what is derived
(precision from the processor, say) is derived in `training.backbone` and logged with its reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.errors import RecipeError
from training.reporting import LABEL, Reporter

Settings = TypeVar("Settings", bound=BaseModel)


Precision = Literal["auto", "bf16", "fp32"]
"""A number format to compute in; `training.computing` says what auto is."""

ServedPrecision = Literal["auto", "bf16", "fp32", "4bit"]
"""The same for a finished run; in 4bit the base stays in NF4, as QLoRA trained on it, and the adapter beside it."""


class Recipe(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field("starter", description="The base model: a hub id, a local folder, or 'starter'.")
    template: str = Field("next-item", description="The prompt: a built-in template's name or a .toml file.")
    max_tokens: int = Field(512, ge=16, description="Longest prompt and longest training window, in tokens.")
    max_users: int | None = Field(None, ge=1, description="Train on this many users only, drawn by the seed.")
    epochs: float = Field(1.0, gt=0, description="Passes over the training examples.")
    max_minutes: float | None = Field(None, gt=0, description="Stop fine-tuning after this many minutes.")
    catalogue_epochs: float = Field(
        0.0, ge=0, description="Passes over the catalogue's own texts before fine-tuning (decoder-only bases)."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate; it falls linearly to zero.")
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    batch_tokens: int = Field(2048, ge=16, description="Tokens per optimiser step and device, padding included.")
    accumulate: int = Field(1, ge=1, description="Steps whose gradients are summed before the weights move.")
    loss: Literal["catalogue", "vocabulary"] = Field(
        "catalogue", description="Normalise over the catalogue's tokens, or over the whole vocabulary (free text)."
    )
    explain: Literal["none", "en", "zh"] = Field(
        "none", description="Also learn to write explanations, in English or Chinese; needs loss=vocabulary."
    )
    reasons: str | None = Field(
        None, description='Users\' own reasons to learn from: a .jsonl file of {"user", "item", "reason"}.'
    )
    lora_rank: int = Field(16, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: int | None = Field(None, ge=1, description="LoRA's scale; twice the rank where left out.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the LoRA matrices.")
    layers: int | None = Field(None, ge=1, description="Use only the first layers of the base (an experiment).")
    train_layers: int | None = Field(
        None, ge=1, description="Put LoRA on this many top layers only; no backward below."
    )
    precision: Precision = Field("auto", description="auto: bf16 where the device has it.")
    quantisation: Literal["none", "4bit"] = Field("none", description="4bit: QLoRA, NF4 with double quantisation.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations in backward, to save memory.")
    judged_cases: int = Field(
        200, ge=0, description="Validation cases asked after each of several passes; the best is kept. 0: the last is."
    )
    patience: int = Field(3, ge=1, description="Passes without a better validation figure before training stops.")
    tuning_cases: int | None = Field(
        None, ge=0, description="Most validation cases that the language model is asked to be weighed; 0: no fitting."
    )
    tuning_minutes: float = Field(5.0, gt=0, description="How long it may be asked for that, at most.")
    save_minutes: float = Field(5.0, gt=0, description="Minutes between checkpoints that --resume can start from.")
    report_to: list[Reporter] = Field(default_factory=list, description=LABEL)
    seed: int = Field(0, ge=0, description="Seed of everything random in training.")

    @model_validator(mode="before")
    @classmethod
    def _as_older_recipes_say(cls, values: Any) -> Any:
        """Read `tensorboard`, which runs of before `report_to` hold."""
        if isinstance(values, dict) and "tensorboard" in values:
            values = dict(values)
            if values.pop("tensorboard") is True:
                values.setdefault("report_to", ["tensorboard"])
        return values

    @property
    def alpha(self) -> int:
        """LoRA's scale."""
        return self.lora_alpha or 2 * self.lora_rank

    def to_yaml(self) -> str:
        """Return the whole recipe, defaults included, as YAML text."""
        return str(yaml.safe_dump(self.model_dump(), sort_keys=False))


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes.

    Args:
        name: a built-in recipe's name, or a `.yaml` file.
        changes: `key=value` texts, as the command line's `--set` takes them.

    Raises:
        RecipeError: the recipe or a change is wrong; all problems at once.
    """
    values = _parse(_recipe_text(name), name)
    changed, problems = read_changes(changes)
    return make_recipe({**values, **changed}, problems)


def read_changes(changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read `key=value` texts; return the values by key, and what is wrong with the texts."""
    values: dict[str, Any] = {}
    problems = []
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            problems.append(f"--set {change}: expected key=value")
            continue
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problems.append(f"--set {change}: the value is not valid YAML ({' '.join(str(error).split())})")
    return values, problems


def make_recipe(values: Mapping[str, Any], problems: Sequence[str] = ()) -> Recipe:
    """Build a recipe from plain values.

    Raises:
        RecipeError: values are unknown, wrong or contradictory, or problems were found before.
    """
    known = {key: value for key, value in values.items() if key in Recipe.model_fields}
    return validated(Recipe, values, problems, _contradictions(known))


def validated(
    kind: type[Settings], values: Mapping[str, Any], problems: Sequence[str] = (), contradictions: Sequence[str] = ()
) -> Settings:
    """Build typed settings from plain values.

    Raises:
        RecipeError: values are unknown or wrong, or there are problems or contradictions; all at once.
    """
    found = list(problems)
    settings = None
    try:
        settings = kind.model_validate(dict(values))
    except ValidationError as error:
        found += [_explain(item, kind) for item in error.errors()]
    found += contradictions
    if found or settings is None:
        raise RecipeError(found)
    return settings


def builtin_recipes() -> list[str]:
    """Return the names of the recipes that ship with genrec."""
    folder = resources.files("training.recipes")
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if values.get("quantisation") == "4bit" and values.get("precision") == "fp32":
        problems.append("quantisation=4bit computes in bf16, precision=fp32 contradicts it; leave precision out")
    if values.get("explain", "none") != "none" and values.get("loss", "catalogue") == "catalogue":
        problems.append(
            f"explain={values['explain']} writes sentences, loss=catalogue knows titles; set loss=vocabulary"
        )
    if values.get("reasons") is not None and values.get("explain", "none") == "none":
        problems.append("reasons are learnt from only where explain is en or zh; set it, or leave reasons out")
    layers, train_layers = values.get("layers"), values.get("train_layers")
    if isinstance(layers, int) and isinstance(train_layers, int) and train_layers > layers:
        problems.append(f"train_layers={train_layers} is more than layers={layers}; lower train_layers")
    most, batch = values.get("max_tokens", 512), values.get("batch_tokens", 2048)
    if isinstance(most, int) and isinstance(batch, int) and batch < most:
        problems.append(f"batch_tokens={batch} is less than max_tokens={most}; one window must fit in a step")
    return problems


def _explain(error: Any, kind: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, kind.model_fields, 1)
        return f"unknown key {key!r}" + (f", did you mean {close[0]!r}?" if close else "")
    return f"{key} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _recipe_text(name: str) -> str:
    if name.endswith((".yaml", ".yml")):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError([f"cannot read the recipe {name}: {error}"]) from error
    if name not in builtin_recipes():
        raise RecipeError([f"there is no recipe {name!r}; give a .yaml file or one of: {', '.join(builtin_recipes())}"])
    return (resources.files("training.recipes") / f"{name}.yaml").read_text(encoding="utf-8")


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError([f"{name} is not valid YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(values, dict):
        raise RecipeError([f"{name} holds {type(values).__name__}, expected lines of 'key: value'"])
    return {str(key): value for key, value in values.items()}
