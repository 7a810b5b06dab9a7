"""`genrec pretrain`: a data folder becomes a base model, from nothing or from one trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genrec.cli.common import ReportOption

if TYPE_CHECKING:
    from genrec.runs.bases import Pretrained
    from training.pretrain_recipe import PretrainRecipe


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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.", show_default="$GENREC_DEVICE, else cpu")
    ] = None,
    report_to: ReportOption = None,
) -> None:
    """Make a base model: a tokenizer of the catalogue, and weights that know the histories.

    From nothing, or from a trained model with --base: each title then becomes one of its tokens, and all of its
    weights learn.

    [bold]Examples:[/bold] genrec pretrain --data data/films --family seq2seq --out bases/films
    and then the genrec train line that it prints

    genrec pretrain --data data/films --base starter --set layers=6 --set learning_rate=0.001 --out bases/films
    """
    from training.pretrain_recipe import PretrainRecipe
    from training.recipe import read_changes, validated

    changes, problems = read_changes(change or ())
    values = {
        "family": family,
        "base": base,
        "max_minutes": minutes,
        **({"report_to": report_to} if report_to else {}),
        **changes,
    }
    recipe = validated(PretrainRecipe, values, problems)
    made = pretrain_into(data, recipe, out, encoder, device)
    typer.echo(
        f"next: genrec train --data {data} --recipe pretrained --set base={out} --set template={made.template} "
        f"--set max_tokens={made.max_tokens} --out RUN"
    )


def pretrain_into(
    data: Path, recipe: PretrainRecipe, out: Path, encoder: str = "starter", device: str | None = None
) -> Pretrained:
    """Make a base with a progress bar and say what came of it."""
    from genrec.data.prepared import load_prepared
    from genrec.runs.bases import pretrain_with

    made = pretrain_with(
        load_prepared(data), recipe, out, encoder=encoder, device=device, progress=True, say=typer.echo
    )
    best = made.best
    typer.echo(
        f"kept pass {best.number} of {len(made.passes)}: validation gain {best.gain:.4f}, loss {best.valid:.3f} nats "
        f"an answer, {best.seconds:.0f} s"
    )
    return made
