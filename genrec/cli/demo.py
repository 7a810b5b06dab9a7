"""`genrec demo`: the whole pipeline on MovieLens 100k with the starter model, in minutes on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import DeviceOption, PrecisionOption

BEAMS = 20
SHOWN_USERS = 5
LAYERS = 2
"""Of the model's 30: in a few minutes, more passes over the histories are worth more than more layers."""


def demo(
    out: Annotated[Path, typer.Option(help="The run folder to make.")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option(help="Minutes of training.", min=0.1)] = 4.0,
    layers: Annotated[int, typer.Option(help="Use the model's first layers only, so many.", min=1)] = LAYERS,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Prepare ml-100k, make its titles tokens of the starter model, train, recommend for all 943 users, evaluate.

    Takes six minutes on two quiet cores. A run that was broken off is continued, a finished one is used.
    """
    import shutil

    from genrec.batch.job import begun_in
    from genrec.cli.evaluate import print_table
    from genrec.cli.pretrain import pretrain_into
    from genrec.cli.recommend import job_of, recommend_into
    from genrec.cli.train import train_into
    from genrec.data.prepared import load_prepared, prepare, save_prepared
    from genrec.recommender import Recommender
    from genrec.runs.evaluate import QUICK_BASELINES, evaluate_with
    from genrec.settings import Settings
    from genrec.storage.folders import MANIFEST
    from training.computing import choose_computing
    from training.pretrain_recipe import PretrainRecipe
    from training.recipe import load_recipe

    data, base = out.with_name(f"{out.name}-data"), out.with_name(f"{out.name}-base")
    if not (data / MANIFEST).is_file():
        prepared = prepare(dataset="ml-100k")
        save_prepared(prepared, data)
        typer.echo(prepared.report.to_text())
    prepared = load_prepared(data)
    if (out / MANIFEST).is_file():
        typer.echo(f"{out} is finished, using it; delete it to train again")
    else:
        recipe = load_recipe("pretrained", [f"base={base}", f"precision={precision}"])
        if not base.is_dir():
            begun = out.with_name(f"{out.name}-base.unfinished")
            shutil.rmtree(begun, ignore_errors=True)
            made = PretrainRecipe(
                base="starter", layers=layers, max_minutes=minutes, max_tokens=recipe.max_tokens, learning_rate=1e-3
            )
            pretrain_into(data, made, begun)
            begun.rename(base)
        train_into(data, recipe, out, resume=out.exists(), device=device)
    target = out / "recommendations.jsonl"
    settings = Settings(k=10, beams=BEAMS, explain="sentence")
    job = job_of(out, data, "all", settings)
    computing = choose_computing(device, precision, begun_in(target, job, resume=True), f"the job of {target}")
    recommender = Recommender.from_pretrained(out, computing.device, computing.precision)
    summary = recommend_into(recommender, out, data, "all", target, settings, resume=True, job=job)
    typer.echo(f"{summary.users} users in {target}\n")
    _show_users(recommender, target, {history.user: history.items for history in prepared.histories})
    report = evaluate_with(
        recommender,
        prepared,
        out,
        out / "evaluation" / "test",
        "test",
        Settings(k=20, beams=BEAMS),
        QUICK_BASELINES,
        [],
        progress=True,
    )
    print_table(report)
    typer.echo(f"the report to look at: {out / 'evaluation' / 'test' / 'report.html'}")
    typer.echo(f"one user closely:       genrec show --run {out} --user 42")


def _show_users(recommender: object, target: Path, histories: dict[str, tuple[str, ...]]) -> None:
    """Print a few users' histories beside their recommendations."""
    import json
    from itertools import islice

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from genrec.recommender import Recommender

    assert isinstance(recommender, Recommender)  # noqa: S101 - narrowed here so that this module stays light to import
    with target.open(encoding="utf-8") as lines:
        for line in islice(lines, SHOWN_USERS):
            row = json.loads(line)
            why = row["recommendations"][0]["explanation"]
            table = Table(
                title=escape(f"user {row['user']}"), title_justify="left", caption=escape(why), caption_justify="left"
            )
            table.add_column("watched last, newest first", no_wrap=True)
            table.add_column("recommended", no_wrap=True)
            table.add_column("by", no_wrap=True)
            recent = histories[row["user"]][: -len(row["recommendations"]) - 1 : -1]
            for place, entry in enumerate(row["recommendations"]):
                watched = escape(recommender.catalog[recent[place]].title) if place < len(recent) else ""
                table.add_row(watched, escape(entry["title"]), "model" if entry["generated"] else "co-occurrence")
            Console().print(table)
