"""`genrec demo`: the whole pipeline on MovieLens 100k with the starter model, in minutes on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BEAMS = 20
SHOWN_USERS = 5
FEW_LAYERS = 4
"""Of the model's 30 layers, where the processor has no bf16 units: all of them would take an hour and more."""


def demo(
    out: Annotated[Path, typer.Option(help="The run folder to make.")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option(help="Minutes of training.", min=0.1)] = 4.0,
    layers: Annotated[
        int | None, typer.Option(help="Use the model's first layers only, so many.", min=1, show_default="as fits")
    ] = None,
) -> None:
    """Prepare ml-100k, fine-tune the starter model, recommend for all 943 users, evaluate.

    Takes about a quarter of an hour on two cores. A run that was broken off is continued, a finished one is used.
    """
    import torch

    from genrec.artefacts import MANIFEST
    from genrec.cli.evaluate import evaluate_into, print_table
    from genrec.cli.recommend import recommend_into
    from genrec.cli.train import train_into
    from genrec.interactions import load_prepared, prepare, save_prepared
    from genrec.recommender import Recommender, Settings
    from genrec.run_evaluation import QUICK_BASELINES
    from training.backbone import choose_device, choose_precision
    from training.recipe import load_recipe

    data = out.with_name(f"{out.name}-data")
    if not (data / MANIFEST).is_file():
        prepared = prepare(dataset="ml-100k")
        save_prepared(prepared, data)
        typer.echo(prepared.report.to_text())
    prepared = load_prepared(data)
    if (out / MANIFEST).is_file():
        typer.echo(f"{out} is finished, using it; delete it to train again")
    else:
        where = choose_device(None)
        if layers is None and where == "cpu" and choose_precision("auto", where) == torch.float32:
            layers = FEW_LAYERS
            typer.echo(
                f"this processor has no bf16 units, so the demo uses the model's first {layers} layers; "
                "--layers 30 for all of them"
            )
        changes = [f"max_minutes={minutes}", *([f"layers={layers}"] if layers else [])]
        train_into(data, load_recipe("demo", changes), out, resume=out.exists())
    recommender = Recommender.from_pretrained(out)
    target = out / "recommendations.jsonl"
    settings = Settings(k=10, beams=BEAMS, explain="sentence")
    summary = recommend_into(recommender, out, data, "all", target, settings, resume=True)
    typer.echo(f"{summary.users} users in {target}\n")
    _show_users(recommender, target, {history.user: history.items for history in prepared.histories})
    report = evaluate_into(
        recommender,
        prepared,
        out,
        out / "evaluation" / "test",
        "test",
        Settings(k=20, beams=BEAMS),
        QUICK_BASELINES,
        [],
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
            table = Table(title=f"user {row['user']}", title_justify="left", caption=why, caption_justify="left")
            table.add_column("watched last, newest first", no_wrap=True)
            table.add_column("recommended", no_wrap=True)
            table.add_column("by", no_wrap=True)
            recent = histories[row["user"]][: -len(row["recommendations"]) - 1 : -1]
            for place, entry in enumerate(row["recommendations"]):
                watched = escape(recommender.catalog[recent[place]].title) if place < len(recent) else ""
                table.add_row(watched, escape(entry["title"]), "model" if entry["generated"] else "co-occurrence")
            Console().print(table)
