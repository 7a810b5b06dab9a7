"""Making a base model from a data folder: the step before training a run, if no trained model is used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genrec.data.prepared import PreparedData, given_data
from genrec.data.splits import NOTHING_TO_LEARN
from genrec.errors import ArtefactError, DataError, translated
from genrec.language.bases import PRETRAIN_FILE, resolve_base
from genrec.language.identity import identity_of, source_of
from genrec.language.item_tokens import encoder_mark, item_text
from genrec.progress import Bar, progress_bar
from genrec.runs.choices import chosen
from genrec.storage.disk_space import check_space
from genrec.storage.folders import check_writable, write_text
from genrec.storage.locks import locked
from prompts.template import load_template
from retrieval.encoders import load_encoder
from training.computing import Computing
from training.meaning import TEXT_WIDTH
from training.passes import Pass, best_pass
from training.pretrain import choose_where, make_base
from training.pretrain_recipe import PretrainRecipe
from training.recipe import validated
from training.reporting import check_reporters, reported_passes

TEMPLATES = {"causal": "next-item-joined", "seq2seq": "seq2seq-joined"}
"""The template whose items a base of each family learns as single tokens."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A base model that was made from histories.

    Attributes:
        folder: its folder.
        template: the name of the template that it was made for.
        max_tokens: the longest prompt that it can read, in tokens.
        passes: the figures of each pass of training.
        computing: the device and the number format.
    """

    folder: Path
    template: str
    max_tokens: int
    passes: tuple[Pass, ...]
    computing: Computing

    @property
    def best(self) -> Pass:
        """The pass whose weights were kept."""
        return best_pass(self.passes)


@translated()
def pretrain(
    data: PreparedData | str | Path,
    out: str | Path,
    *,
    family: str = "causal",
    base: str | None = None,
    minutes: float | None = None,
    encoder: str = "starter",
    device: str | None = None,
    progress: bool = False,
    **changes: Any,
) -> Pretrained:
    """Make a base model from histories: from nothing, or from a trained model whose titles become single tokens.

    Args:
        data: prepared data, or the folder that holds it.
        out: the base model's folder to make.
        family: "causal" (GPT-2) or "seq2seq" (T5).
        base: a model to start from: a local folder, a hub id, or "starter". None: random weights.
        minutes: stop after this many minutes.
        encoder: whose title vectors the tokens start from: "starter", "hashing", a sentence-transformers folder or hub
            id, or "none". A trained `base` needs none.
        device: where to train; see `training.computing.choose_device`.
        progress: whether a progress bar is shown on stderr.
        changes: fields of `training.pretrain_recipe.PretrainRecipe`, such as `width=128`.

    Returns:
        The base, as `genrec.train` takes it.

    Raises:
        ArtefactError: `out` is not empty or cannot be written, or the data folder is missing or damaged.
        ConfigError: a field is unknown or its value is wrong; all problems at once.
        DataError: no history has two items.

    Example:
        >>> import genrec
        >>> base = genrec.pretrain("data/films", "bases/films", minutes=5)
        >>> base.template, base.best.gain > 0.5
        ('next-item-joined', True)
    """
    values = {"family": family, "base": base, "max_minutes": minutes, **changes}
    recipe = validated(PretrainRecipe, values, [])
    prepared, _ = given_data(data)
    return pretrain_with(prepared, recipe, Path(out), encoder=encoder, device=device, progress=progress)


def pretrain_with(
    prepared: PreparedData,
    recipe: PretrainRecipe,
    out: Path,
    *,
    encoder: str = "starter",
    device: str | None = None,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> Pretrained:
    """Make a base model with a whole recipe; `pretrain` is its short form, with the same errors.

    Args:
        prepared: the data.
        recipe: the recipe.
        out: the base model's folder to make.
        encoder: as for `pretrain`.
        device: likewise.
        progress: likewise.
        say: told with which values, once they are known.
    """
    check_reporters(recipe.report_to)
    with locked(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtefactError(f"{out} is not empty; choose another --out or delete it")
        check_writable(out)
        return _pretrain(prepared, recipe, out, encoder, choose_where(device), progress, say)


def _pretrain(
    prepared: PreparedData,
    recipe: PretrainRecipe,
    out: Path,
    encoder: str,
    computing: Computing,
    progress: bool,
    say: Callable[[str], None] | None,
) -> Pretrained:
    """Implement `pretrain_with` in a folder that this process has locked."""
    split, catalog = prepared.split(), prepared.catalog
    if all(len(history.items) < 2 for history in split.train):
        raise DataError(NOTHING_TO_LEARN)
    recipe, reasons = chosen(recipe, prepared)
    name = TEMPLATES[recipe.family]
    start = resolve_base(recipe.base) if recipe.base else None
    vectors, told = None, {}
    if encoder != "none" and (recipe.meaning or start is None):
        source = source_of("encoder", encoder)
        texts = [item_text(item) if recipe.meaning else item.title for item in catalog]
        vectors = load_encoder(source.folder).encode(texts, progress and sys.stderr.isatty())
        told = {
            "encoder": encoder_mark(identity_of("encoder", encoder, source, out)),
            TEXT_WIDTH: str(vectors.shape[1]),
        }
    if prepared.vectors is not None and recipe.meaning:
        own = prepared.vectors.together()
        vectors = own if vectors is None else np.concatenate([vectors, own], axis=1)
    check_space(out, 2 * _weights_bytes(recipe, start, len(catalog)), "the base, in two copies while one is replaced,")
    shape = {"width", "heads"} if start else set()  # a trained model has its own
    values = recipe.model_dump(exclude=shape, exclude_none=True)
    if say is not None:
        for reason in reasons:
            say(f"chosen from the data: {reason}")
        say(f"making a base ({computing}): {', '.join(f'{key}={value}' for key, value in values.items())}")
    with (
        progress_bar("Pretraining", progress) as bar,
        reported_passes(recipe.report_to, out, recipe.model_dump()) as report,
    ):
        passes = make_base(
            [[catalog[item].label for item in history.items] for history in split.train],
            catalog.labels,
            [
                ([catalog[item].label for item in case.history.items], catalog[case.target].label)
                for case in split.valid
                if case.history.items
            ],
            load_template(name),
            recipe,
            out,
            _teller(bar, report),
            vectors,
            start,
            computing,
            told,
        )
        report(passes[-1])
    where = "".join(f"{key}: {value}\n" for key, value in computing.to_json().items())
    write_text(out / PRETRAIN_FILE, f"template: {name}\n{where}{recipe.to_yaml()}")
    return Pretrained(out, name, recipe.max_tokens, passes, computing)


def _teller(bar: Bar, report: Callable[[Pass | None], None]) -> Callable[[float, Pass | None], None]:
    """Return what tells a progress bar, and whatever else is reported to, of passes."""

    def tell(share: float, newest: Pass | None) -> None:
        report(newest)
        bar(share, 1.0, f"pass {newest.number}: validation gain {newest.gain:.4f}" if newest else "")

    return tell


def _weights_bytes(recipe: PretrainRecipe, start: str | None, items: int) -> int:
    """Return a lower estimate of the size of a base's weights in bytes."""
    if start is not None:
        return 0 if recipe.layers else sum(path.stat().st_size for path in Path(start).glob("*.safetensors"))
    return 4 * recipe.width * (min(items, recipe.vocabulary) + 12 * recipe.width * (recipe.layers or 1))
