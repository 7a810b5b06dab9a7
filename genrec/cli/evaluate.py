"""`genrec evaluate`: a run folder, judged beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genrec.cli.common import (
    BaseOption,
    DataOption,
    DeviceOption,
    KeepSeenOption,
    OneEncodingOption,
    OneSeparatorOption,
    QuotesOption,
    ServedPrecisionOption,
)

if TYPE_CHECKING:
    from genrec.evaluation.results import Report


def evaluate(
    run: Annotated[
        Path | None,
        typer.Option(help="A finished run folder.", show_default="none: judge baselines and --other on --data"),
    ] = None,
    split: Annotated[
        Literal["valid", "test"], typer.Option(help="Which cases; tune on valid, read test once.")
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and report.html.", show_default="in RUN")
    ] = None,
    beams: Annotated[int, typer.Option(help="Beams that the language model holds.", min=1)] = 20,
    mode: Annotated[
        Literal["constrained", "free"], typer.Option(help="Search the catalogue, or write any text and ground it.")
    ] = "constrained",
    keep_seen: KeepSeenOption = None,
    baselines: Annotated[
        str, typer.Option(metavar="quick|all|none|NAMES", help="Baselines for the table; names are joined by commas.")
    ] = "quick",
    other: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Another system's recommendations, judged beside; repeatable."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Judge a seeded sample of this many users.", show_default="all")
    ] = None,
    explanations: Annotated[
        int, typer.Option(help="Measure explanations on this many seeded users, three items each; slow.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of sample, intervals and baselines.")] = 0,
    separator: OneSeparatorOption = None,
    encoding: OneEncodingOption = None,
    quotes: QuotesOption = None,
    data: DataOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: ServedPrecisionOption = "auto",
) -> None:
    """Evaluate a run: full ranking, 95 % intervals, baselines in the same table, and a report to look at.

    [bold]Example:[/bold] genrec evaluate --run runs/films --split test --other mine=my_lists.jsonl
    """
    from genrec.cli.common import load_data_of
    from genrec.data.dialects import Dialect
    from genrec.data.prepared import load_prepared
    from genrec.errors import ConfigError, DataError
    from genrec.recommender import Recommender
    from genrec.runs.evaluate import baseline_names, evaluate_with
    from genrec.settings import Settings
    from genrec.storage.folders import check_writable

    if run is not None:
        prepared = load_data_of(run, data)
        target = out or run / "evaluation" / split
    elif data is not None and out is not None:
        prepared, target = load_prepared(data), out
    else:
        raise ConfigError(["without --run, give --data and --out"])
    names, dialect = baseline_names(baselines), Dialect(separator, encoding, quotes)
    if not prepared.split().cases(split):  # before the model is loaded and asked
        raise DataError(
            f"the data has no {'validation' if split == 'valid' else split} cases, so nothing can be evaluated; a user "
            "needs at least three events to be one"
        )
    check_writable(target / "metrics.json")  # before the work, not after it
    settings = Settings(k=20, beams=beams, mode=mode, exclude_seen=None if keep_seen is None else not keep_seen)
    recommender = None if run is None else Recommender.from_pretrained(run, device, precision, base=base)
    report = evaluate_with(
        recommender,
        prepared,
        run,
        target,
        split,
        settings,
        names,
        other or [],
        sample,
        seed,
        explanations,
        progress=True,
        dialect=dialect,
    )
    print_table(report)
    typer.echo(f"written to {target / 'metrics.json'} and {target / 'report.html'}")


def print_table(report: Report) -> None:
    """Print the table of results."""
    from rich.console import Console

    from genrec.report.tables import report_table

    Console().print(report_table(report))
