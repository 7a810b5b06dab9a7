"""`genrec tune`: the weights of a finished run, fitted again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import BaseOption, DataOption, DeviceOption, KeepSeenOption, ServedPrecisionOption


def tune(
    run: Annotated[Path, typer.Option(help="A finished run folder; its weights are replaced when the fit is done.")],
    cases: Annotated[
        int | None,
        typer.Option(help="Most validation cases that the language model is asked.", show_default="all", min=1),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="How long it may be asked.", show_default="5", min=0.0)] = None,
    keep_seen: KeepSeenOption = None,
    k: Annotated[int, typer.Option(help="The length of the lists that the parts are compared by.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Which cases are drawn.")] = 0,
    data: DataOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: ServedPrecisionOption = "auto",
) -> None:
    """Fit the weights of a finished run again: with more cases, with seen items kept, or for another list length.

    What is used, why, and how sure that is, is printed. A fit that fails leaves the run as it is.

    [bold]Example:[/bold] genrec tune --run runs/films --k 20
    """
    from genrec.cli.common import load_data_of
    from genrec.progress import progress_bar
    from genrec.recommender import Recommender
    from genrec.runs.folder import apply_fusion
    from genrec.runs.tuning import MINUTES, tune_fusion
    from genrec.settings import Settings
    from genrec.signals.registry import with_again
    from genrec.storage.locks import locked

    split = load_data_of(run, data).split()
    recommender = Recommender.from_pretrained(run, device, precision, base=base)
    settings = Settings(k=k, exclude_seen=None if keep_seen is None else not keep_seen)
    if not recommender.excludes_seen(settings):
        recommender.signals = with_again(recommender.signals, recommender.catalog, split.train)
    with progress_bar("Fitting the weights of signals") as bar:
        fusion = tune_fusion(
            recommender,
            split.valid,
            cases,
            seed,
            settings,
            bar,
            MINUTES if minutes is None else minutes,
        )
    with locked(run):
        apply_fusion(run, fusion, recommender.signals)
    typer.echo(f"weights of the signals, fitted on {fusion.cases} validation cases: {fusion.describe()}")
    for sentence in fusion.to_words():
        typer.echo(f"  {sentence}")
