"""`genrec forget`: users leave the data, the outputs and the counts of runs; what a model may still hold is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from genrec.privacy.forgetting import Forgotten


def forget(
    user: Annotated[list[str], typer.Option("--user", help="A user id, as the log has it; repeatable.")],
    data: Annotated[Path, typer.Option(help="The data folder.")],
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", help="An output of recommend to take them from; repeatable.", show_default=False),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="A run trained on the data, to count again; repeatable.", show_default=False),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="FILE|URL", help="The store of genrec serve to take them from.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="The key of encrypted outputs.", show_default=False)
    ] = None,
    user_key: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="The key of prepare --pseudonymise.", show_default=False),
    ] = None,
) -> None:
    """Remove users from prepared data and outputs; say what trained models may still hold.

    [bold]Example:[/bold] genrec forget --user 42 --data data/films --out films.jsonl --run runs/films
    """
    from genrec.privacy.forgetting import forget as forget_users
    from genrec.privacy.keys import Pseudonyms, read_key

    users = user if user_key is None else list(map(Pseudonyms(read_key(user_key)).of, user))
    result = forget_users(users, data, out or (), run or (), None if key is None else read_key(key))
    typer.echo(_told(result, data, run or []))
    if store is not None:
        from genrec.cli.common import open_known_store

        opened = open_known_store(store)
        typer.echo(f"{store}: {sum(map(opened.forget, users))} events removed")
        opened.close()


def _told(result: Forgotten, data: Path, runs: list[Path]) -> str:
    lines = ["finished what an earlier start had begun"] if result.finished else []
    lines.append(f"{data}: {result.users} users and their {result.events} events removed")
    lines += [f"{output}: {rows} rows removed" for output, rows in result.rows.items()]
    lines += [f"{run}: counted again without them" for run in runs]
    lines += [
        f"{report}: deleted, as it may show them; make it again with genrec evaluate" for report in result.reports
    ]
    if not result.users:
        return "\n".join(lines)
    lines.append(
        "still there: the log that the data was made from, copies and backups; and the adapter of every run trained "
        "on this data before now. A language model can repeat what it was trained on, and no subtraction takes it out."
    )
    if result.rare_items:
        lines.append(
            f"train again now: {result.rare_items} of their items were taken by fewer than 5 others, so what an "
            "adapter learnt of these may come from them alone"
        )
    else:
        lines.append(
            "train again with the next training at the latest: each of their items was taken by 5 others or more, but "
            "only a model trained without them has surely forgotten"
        )
    return "\n".join(lines)
