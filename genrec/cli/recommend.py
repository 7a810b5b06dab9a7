"""`genrec recommend`: a run folder and users become lines of recommendations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genrec.cli.common import DataOption, DeviceOption, RunOption

if TYPE_CHECKING:
    from genrec.batch import Summary
    from genrec.recommender import Recommender, Settings


def recommend(
    run: RunOption,
    out: Annotated[Path, typer.Option(help="The JSON Lines file to write, one line for each user.")],
    users: Annotated[
        str,
        typer.Option(
            metavar="all|FILE",
            help='all, a text file of user ids, or a .jsonl file of newer histories, {"user": ..., "items": [...]}.',
        ),
    ] = "all",
    k: Annotated[int, typer.Option("--k", help="Items for each user.", min=1)] = 10,
    beams: Annotated[int, typer.Option(help="Beams that the language model holds.", min=1)] = 20,
    mode: Annotated[
        Literal["constrained", "free"], typer.Option(help="Search the catalogue, or write any text and ground it.")
    ] = "constrained",
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Also recommend what the user took before.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Write the reason beside each recommendation.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished job; the output is the same.")
    ] = False,
    data: DataOption = None,
    device: DeviceOption = None,
) -> None:
    """Recommend for all users, or for those of a file.

    [bold]Example:[/bold] genrec recommend --run runs/films --users all --k 10 --out films.jsonl --explain
    """
    from genrec.recommender import Recommender, Settings

    settings = Settings(k=k, beams=beams, mode=mode, exclude_seen=not keep_seen, explain=explain)
    recommender = Recommender.from_pretrained(run, device)
    summary = recommend_into(recommender, run, data, users, out, settings, resume)
    note = f", {summary.resumed} of them from the job before" if summary.resumed else ""
    typer.echo(f"{summary.users} users{note}; written to {out}")
    if summary.problems:
        typer.echo(f"{summary.problems} users needed a rule, see {out}.problems.jsonl")


def recommend_into(
    recommender: Recommender, run: Path, data: Path | None, users: str, out: Path, settings: Settings, resume: bool
) -> Summary:
    """Run the batch job with a progress bar."""
    from genrec.artefacts import MANIFEST, fingerprint, read_manifest
    from genrec.batch import read_histories, recommend_all
    from genrec.cli.common import data_folder_of, run_fingerprint
    from genrec.cli.progress import progress_bar
    from genrec.interactions import iter_histories

    names = run_fingerprint(run)
    total = 0
    if users == "all":
        folder = data_folder_of(run, data)
        histories = iter_histories(folder)
        names["users"] = fingerprint(folder / MANIFEST)
        total = int(read_manifest(folder, "data", verify=False).get("users", 0))
    else:
        file = Path(users)
        histories = read_histories(
            file, lambda wanted: (one for one in iter_histories(data_folder_of(run, data)) if one.user in wanted)
        )
        if file.is_file():
            names["users"] = fingerprint(file)
    with progress_bar("Recommending") as bar:
        return recommend_all(
            recommender,
            histories,
            out,
            settings,
            fingerprint=names,
            resume=resume,
            progress=lambda done: bar(done, max(total, done), f"{done} users"),
        )
