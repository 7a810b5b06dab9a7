"""`genrec fit`: the common case in one command, from two files to an evaluated run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import DeviceOption


def fit(
    out: Annotated[Path, typer.Option(help="The run folder to make; OUT-data and OUT-base stand beside it.")],
    interactions: Annotated[
        Path | None, typer.Option(help="The log: who took what when. CSV, TSV, Parquet or JSON Lines.")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="The catalogue: ids, titles and whatever else.")] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME[:PATH]", help="A named source instead, such as ml-100k.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of pretraining.", show_default="by the number of events", min=0.01)
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Of titles: starter, hashing, a sentence-transformers folder or hub id.")
    ] = "starter",
    device: DeviceOption = None,
) -> None:
    """Prepare, choose what to train, train, tune and evaluate; say what was chosen and why.

    A command that was broken off is run again as it stands: finished steps are not repeated.

    [bold]Example:[/bold] genrec fit --interactions log.csv --items films.csv --out runs/films
    """
    from genrec.cli.evaluate import print_table
    from genrec.evaluation.results import Report
    from genrec.runs.fit import fit as fit_run
    from genrec.storage.folders import read_json

    fit_run(
        interactions, items, out,
        dataset=dataset, minutes=minutes, encoder=encoder, device=device, progress=True, say=typer.echo,
    )  # fmt: skip
    judged = out / "evaluation" / "test"
    if (judged / "metrics.json").is_file():
        print_table(Report.from_json(read_json(judged / "metrics.json")))
        typer.echo(f"the report to look at: {judged / 'report.html'}")
    typer.echo(f"lists for everybody:   genrec recommend --run {out} --users all --out lists.jsonl --explain")
    typer.echo(f"one user closely:      genrec show --run {out} --user ID")
