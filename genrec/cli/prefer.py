"""`genrec prefer`: trains a finished run to prefer the items that users took to its own wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import BaseOption, DeviceOption, PrecisionOption, ReportOption


def prefer(
    run: Annotated[Path, typer.Option(help="A finished run; it is left as it is.")],
    out: Annotated[Path, typer.Option(help="The new run folder to make.")],
    data: Annotated[
        Path | None, typer.Option(help="The data folder it was trained on; where it stood then, if left out.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="cases, negatives, beta, ...; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after a training that was finished, where a later step failed.")
    ] = False,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
    report_to: ReportOption = None,
) -> None:
    """Train a run on preferences (DPO): what was taken, against the model's own wrong answers.

    [bold]Example:[/bold] genrec prefer --run runs/films --out runs/films-preferred --set negatives=3
    """
    from genrec.cli.common import load_data_of
    from genrec.progress import progress_bar
    from genrec.runs.judging import K
    from genrec.runs.prefer import prefer_run
    from training.preference import PreferenceRecipe
    from training.recipe import read_changes, validated

    changes, problems = read_changes(change or ())
    asked = {"precision": precision, **({"report_to": report_to} if report_to else {})}
    recipe = validated(PreferenceRecipe, {**asked, **changes}, problems)
    prepared = load_data_of(run, data)
    with progress_bar("Learning preferences") as bar, progress_bar("Fitting the weights of signals") as weighing:
        manifest = prefer_run(
            run,
            prepared,
            recipe,
            out,
            device=device,
            resume=resume,
            base_now=base,
            progress=lambda share, loss, left: bar(share, 1.0, f"loss {loss:.3f}"),
            tuning_progress=weighing,
        )
    done = manifest.preference
    assert done is not None  # noqa: S101 - the preference stage says what it did
    valid = done["validation"]
    typer.echo(
        f"{done['pairs']} pairs in {done['steps']} steps and {done['seconds']:.0f} s, loss {done['first_loss']:.3f} to "
        f"{done['final_loss']:.3f}; written to {out}"
    )
    if not valid["cases"]:
        typer.echo("no user has a validation case, so nothing tells whether the model became better")
        return
    typer.echo(
        f"the model alone on {valid['cases']} validation cases: NDCG@{K} {valid[f'ndcg@{K} before']:.4f} before, "
        f"{valid[f'ndcg@{K} after']:.4f} after (standard error of the difference {valid['standard error']:.4f})"
    )
    if valid["gain"] < 0:
        typer.echo(f"the run in {run} did better on validation; keep that one, or lower learning_rate or raise beta")
