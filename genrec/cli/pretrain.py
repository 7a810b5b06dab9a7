"""`genrec pretrain`: a data folder becomes a base model, from nothing or from one trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genrec.cli.common import DeviceOption

if TYPE_CHECKING:
    from training.pretrain import PretrainRecipe


def pretrain(
    data: Annotated[Path, typer.Option(help="A data folder, made by genrec prepare.")],
    out: Annotated[Path, typer.Option(help="The base model's folder to make.")],
    family: Annotated[
        Literal["causal", "seq2seq"], typer.Option(help="Decoder only (GPT-2), or encoder and decoder (T5).")
    ] = "causal",
    base: Annotated[
        str | None, typer.Option(help="Start from this model: a local folder, a hub id, or 'starter'.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop learning and judging after this many minutes; making the tokenizer comes before."),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="width, layers, epochs, ...; repeatable.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Whose title vectors tokens start from: as for genrec train, or none.")
    ] = "starter",
    device: DeviceOption = None,
) -> None:
    """Make a base model: a tokenizer of the catalogue, and weights that know the histories.

    From nothing, or from a trained model with --base: each title then becomes one of its tokens, and all of its
    weights learn.

    [bold]Examples:[/bold] genrec pretrain --data data/films --family seq2seq --out bases/films
    and then the genrec train line that it prints

    genrec pretrain --data data/films --base starter --set layers=6 --set learning_rate=0.001 --out bases/films
    """
    from training.pretrain import PretrainRecipe
    from training.recipe import read_changes, validated

    changes, problems = read_changes(change or ())
    values = {"family": family, "base": base, "max_minutes": minutes, **changes}
    recipe = validated(PretrainRecipe, values, problems)
    template = pretrain_into(data, recipe, out, encoder, device)
    typer.echo(
        f"next: genrec train --data {data} --recipe pretrained --set base={out} --set template={template} "
        f"--set max_tokens={recipe.max_tokens} --out RUN"
    )


def pretrain_into(data: Path, recipe: object, out: Path, encoder: str = "starter", device: str | None = None) -> str:
    """Make a base with a progress bar and say what came of it; return the name of the template that it is for."""
    from genrec.storage.locks import locked

    with locked(out):
        return _pretrain_into(data, recipe, out, encoder, device)


def _pretrain_into(data: Path, recipe: object, out: Path, encoder: str, device: str | None) -> str:
    from genrec.cli.progress import progress_bar
    from genrec.data.prepared import load_prepared
    from genrec.data.splits import NOTHING_TO_LEARN
    from genrec.errors import ArtefactError, DataError
    from genrec.language.bases import MADE, resolve_base
    from genrec.language.identity import source_of
    from genrec.storage.disk_space import check_space
    from genrec.storage.folders import check_writable, write_text
    from prompts.template import load_template
    from retrieval.encoders import load_encoder
    from training.pretrain import Pass, PretrainRecipe, best_pass, choose_where, make_base

    assert isinstance(recipe, PretrainRecipe)  # noqa: S101 - narrowed here so that this module stays light to import
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtefactError(f"{out} is not empty; choose another --out or delete it")
    check_writable(out)
    computing = choose_where(device)
    prepared = load_prepared(data)
    split, catalog = prepared.split(), prepared.catalog
    if all(len(history.items) < 2 for history in split.train):
        raise DataError(NOTHING_TO_LEARN)
    if "exclude_seen" not in recipe.model_fields_set:
        recipe = recipe.model_copy(update={"exclude_seen": not prepared.keep_seen})
    name = "next-item-joined" if recipe.family == "causal" else "seq2seq-joined"
    start = resolve_base(recipe.base) if recipe.base else None
    vectors = None
    if encoder != "none" and start is None:
        vectors = load_encoder(source_of("encoder", encoder).folder).encode([item.title for item in catalog], True)
    check_space(out, 2 * _weights_bytes(recipe, start, len(catalog)), "the base, in two copies while one is replaced,")
    shape = {"width", "heads"} if start else set()  # a trained model has its own
    values = recipe.model_dump(exclude=shape, exclude_none=True)
    typer.echo(f"making a base ({computing}): {', '.join(f'{key}={value}' for key, value in values.items())}")
    with progress_bar("Pretraining") as bar:

        def progress(share: float, newest: Pass | None) -> None:
            bar(share, 1.0, f"pass {newest.number}: validation gain {newest.gain:.4f}" if newest else "")

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
            progress,
            vectors,
            start,
            computing,
        )
    where = "".join(f"{key}: {value}\n" for key, value in computing.to_json().items())
    write_text(out / MADE, f"template: {name}\n{where}{recipe.to_yaml()}")
    best = best_pass(passes)
    typer.echo(
        f"kept pass {best.number} of {len(passes)}: validation gain {best.gain:.4f}, loss {best.valid:.3f} nats an "
        f"answer, {best.seconds:.0f} s"
    )
    return name


def _weights_bytes(recipe: PretrainRecipe, start: str | None, items: int) -> int:
    """Return about how many bytes a base's weights take, at least."""
    if start is not None:
        return 0 if recipe.layers else sum(path.stat().st_size for path in Path(start).glob("*.safetensors"))
    return 4 * recipe.width * (min(items, recipe.vocabulary) + 12 * recipe.width * (recipe.layers or 1))
