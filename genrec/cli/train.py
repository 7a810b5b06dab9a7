"""`genrec train`: a data folder and a recipe become a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrec.cli.common import DeviceOption, PrecisionOption, ReportOption

if TYPE_CHECKING:
    from training.recipe import Recipe


def train(
    data: Annotated[Path, typer.Option(help="A data folder, made by genrec prepare.")],
    out: Annotated[Path, typer.Option(help="The run folder to make.")],
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="pretrained, cpu, gpu-lora, gpu-qlora, or a .yaml file.")
    ] = "cpu",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="The item index's encoder: starter, hashing, a sentence-transformers folder or hub id.")
    ] = "starter",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run from its checkpoint.")] = False,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
    report_to: ReportOption = None,
) -> None:
    """Fine-tune a language model on histories, with LoRA.

    [bold]Example:[/bold] genrec train --data data/films --recipe cpu --out runs/films --set epochs=2

    On several GPUs: accelerate launch --num_processes 2 -m genrec.cli.main train --data ... (the same options)
    """
    from training.recipe import load_recipe

    asked = [] if precision == "auto" else [f"precision={precision}"]
    asked += [f"report_to=[{', '.join(report_to)}]"] if report_to else []
    chosen = load_recipe(recipe, [*asked, *(change or ())])
    train_into(data, chosen, out, encoder=encoder, resume=resume, device=device)


def train_into(
    data: Path, recipe: Recipe, out: Path, *, encoder: str = "starter", resume: bool = False, device: str | None = None
) -> None:
    """Train with a progress bar and say what came of it."""
    from genrec.ranking.fusion import Fusion
    from genrec.runs.train import train_with
    from genrec.storage.folders import read_json
    from training import processes

    say = typer.echo if processes.is_first() else _nothing
    say(f"recipe: {', '.join(f'{key}={value}' for key, value in recipe.model_dump().items() if value is not None)}")
    manifest = train_with(data, recipe, out, encoder=encoder, resume=resume, device=device, progress=True)
    if manifest is None:  # another process writes the run
        return
    done = manifest.training
    typer.echo(
        f"trained {done.steps} steps on {done.supervised_tokens:,} supervised tokens in {done.seconds:.0f} s "
        f"({done.precision} on {done.device}), loss {done.final_loss}; written to {out}"
    )
    if (weights := out / "fusion.json").exists():
        fusion = Fusion.from_json(read_json(weights))
        typer.echo(f"weights of the signals, fitted on {fusion.cases} validation cases: {fusion.describe()}")
        for sentence in fusion.to_words():
            typer.echo(f"  {sentence}")
    else:
        typer.echo(f"no weights of the signals were fitted, so ranks are fused: {manifest.no_weights}")


def _nothing(_: str) -> None:
    """Say nothing: the first of several processes speaks for all."""
