"""`genrec evaluate`: a run folder, judged beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genrec.cli.common import BaseOption, DataOption, DeviceOption, KeepSeenOption, PrecisionOption

if TYPE_CHECKING:
    from genrec.data.prepared import PreparedData
    from genrec.evaluation.results import Report
    from genrec.recommender import Recommender
    from genrec.settings import Settings


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
    seeds: Annotated[int, typer.Option(help="Repeat with this many seeds and report the spread.", min=1)] = 1,
    data: DataOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Evaluate a run: full ranking, 95 % intervals, baselines in the same table, and a report to look at.

    [bold]Example:[/bold] genrec evaluate --run runs/films --split test --other mine=my_lists.jsonl
    """
    from genrec.cli.common import load_data_of
    from genrec.data.prepared import load_prepared
    from genrec.errors import ConfigError, DataError
    from genrec.recommender import Recommender
    from genrec.settings import Settings
    from genrec.storage.folders import check_writable

    if run is not None:
        prepared = load_data_of(run, data)
        target = out or run / "evaluation" / split
    elif data is not None and out is not None:
        prepared, target = load_prepared(data), out
    else:
        raise ConfigError(["without --run, give --data and --out"])
    names = baseline_names(baselines)
    if not prepared.split().cases(split):  # before the model is loaded and asked
        raise DataError(
            f"the data has no {'validation' if split == 'valid' else split} cases, so nothing can be evaluated; a user "
            "needs at least three events to be one"
        )
    check_writable(target / "metrics.json")  # before the work, not after it
    settings = Settings(k=20, beams=beams, mode=mode, exclude_seen=None if keep_seen is None else not keep_seen)
    recommender = None if run is None else Recommender.from_pretrained(run, device, precision, base=base)
    report = evaluate_into(
        recommender,
        prepared,
        run,
        target,
        split,
        settings,
        names,
        other or [],
        sample,
        range(seed, seed + seeds),
        explanations,
    )
    print_table(report)
    typer.echo(f"written to {target / 'metrics.json'} and {target / 'report.html'}")


def evaluate_into(
    recommender: Recommender | None,
    data: PreparedData,
    run: Path | None,
    out: Path,
    split: Literal["valid", "test"],
    settings: Settings,
    baselines: tuple[str, ...],
    others: list[str],
    sample: int | None = None,
    seeds: Sequence[int] = (0,),
    explanations: int = 0,
) -> Report:
    """Evaluate with a progress bar, once for each seed, and write the results."""
    from dataclasses import replace

    from genrec.cli.progress import progress_bar
    from genrec.evaluation.list_files import lists_for_cases, read_recommendations
    from genrec.evaluation.results import across_seeds
    from genrec.runs.evaluate import evaluate_run, sampled, write_evaluation

    found = {name: read_recommendations(file) for name, file in map(_named_file, others)}
    cases = sampled(data.split().cases(split), sample, seeds[0])
    foreign = {name: lists_for_cases(cases, lists, name) for name, lists in found.items()}
    evaluations = []
    for seed in seeds:
        with progress_bar("Evaluating") as bar:
            evaluations.append(
                evaluate_run(
                    recommender,
                    data,
                    split,
                    cases,
                    settings,
                    baselines=baselines,
                    others=foreign,
                    explanations=explanations if seed == seeds[0] else 0,
                    seed=seed,
                    progress=bar,
                )
            )
    last = evaluations[-1]
    if len(evaluations) > 1:
        last = replace(last, report=across_seeds([evaluation.report for evaluation in evaluations]))
    write_evaluation(last, data, cases, run, out)
    return last.report


def _named_file(entry: str) -> tuple[str, Path]:
    """Split NAME=FILE."""
    from genrec.errors import ConfigError

    name, equals, file = entry.partition("=")
    if not equals or not name:
        raise ConfigError([f"--other {entry}: expected NAME=FILE"])
    return name, Path(file)


def baseline_names(choice: str) -> tuple[str, ...]:
    """Return the baselines that an option's value names.

    Raises:
        ConfigError: a name is not a baseline's.
    """
    from genrec.baselines.search import BASELINES
    from genrec.errors import ConfigError
    from genrec.runs.evaluate import QUICK_BASELINES

    named = {"quick": QUICK_BASELINES, "all": tuple(BASELINES), "none": ()}
    names = named.get(choice) or tuple(name.strip() for name in choice.split(",") if choice != "none")
    if wrong := [name for name in names if name not in BASELINES]:
        raise ConfigError([f"there is no baseline {name!r}; expected {', '.join(BASELINES)}" for name in wrong])
    return names


def print_table(report: Report) -> None:
    """Print the table of results."""
    from rich.console import Console

    from genrec.report.tables import report_table

    Console().print(report_table(report))
