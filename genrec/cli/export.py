"""`genrec export`: a run's language model as an ordinary `transformers` folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import BaseOption, RunOption


def export(
    run: RunOption,
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="Merge the adapter into the base, in the base's own number format.")
    ] = False,
    base: BaseOption = None,
) -> None:
    """Write a run's language model as a transformers folder, which vLLM or llama.cpp's converter can read.

    The catalogue's constraint and the other signals are not in it: such a program writes any text.

    [bold]Example:[/bold] genrec export --run runs/films --out models/films --merged
    """
    from genrec.errors import ConfigError
    from genrec.runs.export import export_merged

    if not merged:
        raise ConfigError([f"only the merged model can be exported; add --merged (the adapter alone is {run}/adapter)"])
    done = export_merged(run, out, base)
    typer.echo(f"{done.architecture}, {done.parameters:,} weights in {done.precision}; written to {out}")
