"""`genrec serve`: a run answers over HTTP, for one user now, with what they did a second ago."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrec.cli.common import BaseOption, DataOption, DeviceOption, PrecisionOption, RunOption

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from genrec.data.splits import History
    from genrec.recommender import Recommender
    from genrec.serve.store import HistoryStore

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
ACCESS, LIMITS = "Who may ask", "How much is taken on"


def serve(
    run: RunOption,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Where events and items live: a SQLite file, or postgresql://USER@HOST/DATABASE (genrec\\[postgres]).",
            show_default="RUN.store.db, beside the run",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; another than this machine's needs --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8000,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys, of which hashes are kept.", rich_help_panel=ACCESS),
    ] = None,
    new_key: Annotated[
        str,
        typer.Option(
            metavar="NAME=RIGHTS",
            help="Add a key to --keys, print it once, and end; rights: read, write, manage.",
            rich_help_panel=ACCESS,
        ),
    ] = "",
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="An origin whose pages may ask; repeatable.", rich_help_panel=ACCESS),
    ] = None,
    pseudonymise: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="Keep pseudonyms for user ids, as prepare does (genrec\\[privacy]). A missing one is made.",
            show_default=False,
            rich_help_panel=ACCESS,
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option(help="Requests that may wait; more get a 429.", min=1, rich_help_panel=LIMITS)
    ] = 256,
    seconds: Annotated[
        float, typer.Option(help="How long a request may take; longer is a 503.", min=0.1, rich_help_panel=LIMITS)
    ] = 10.0,
    data: DataOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "auto",
) -> None:
    """Answer over HTTP: lists, live events, new items; a page to try it at the root.

    An empty store is filled with the run's items and histories. SIGHUP, or POST /admin/reload, loads the run folder
    again beside the one that answers, and lets it take its place if it is well.

    [bold]Example:[/bold] genrec serve --run runs/films

    [bold]Example:[/bold] genrec serve --run runs/films --keys keys.txt --new-key shop=read,write

    [bold]Example:[/bold] genrec serve --run runs/films --store postgresql://genrec@db/genrec --host 0.0.0.0
    --keys keys.txt
    """
    from genrec.errors import ConfigError, MissingExtra
    from genrec.manifest import RunManifest

    try:
        from genrec.serve.access import ApiKeys, make_key
        from genrec.serve.app import Options, create_app
        from genrec.serve.batching import Limits
        from genrec.serve.sql_store import open_store
    except ModuleNotFoundError:
        raise MissingExtra("serve", "genrec serve") from None
    if new_key:
        if keys is None:
            raise ConfigError(["--new-key adds a key to a key file; give the file with --keys"])
        typer.echo(make_key(keys, new_key))
        return
    if keys is None and host not in LOOPBACK:
        raise ConfigError([f"--host {host} lets other machines ask; give --keys, or listen on 127.0.0.1"])
    known = ApiKeys() if keys is None else ApiKeys.read(keys)
    RunManifest.read(run, verify=False)  # before the work, not after it
    listening = _listen(host, port)

    def load() -> Recommender:
        from genrec.recommender import Recommender

        found = Recommender.from_pretrained(run, device, precision, base=base)
        _ = found.taste_reader  # its encoder takes seconds to load, which no request should wait for
        return found

    place = store or f"{str(run).rstrip('/')}.store.db"
    opened: HistoryStore = open_store(place)
    recommender = load()
    opened = _filled(opened, recommender, run, data, pseudonymise)
    options = Options(Limits(queue=queue, seconds=seconds), known, tuple(cors or ()), load=load)
    app = create_app(recommender, opened, options)
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"serving {run} on http://{shown}:{listening.getsockname()[1]}, computing in {recommender.computing}")
    _serve(app, listening)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; the model is not loaded for a port that is taken.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken.
    """
    import socket

    from genrec.errors import ConfigError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise ConfigError([f"cannot listen on {host}:{port}: {error.strerror or error}; choose another"]) from None
    return listening


def _filled(
    store: HistoryStore, recommender: Recommender, run: Path, data: Path | None, pseudonymise: Path | None
) -> HistoryStore:
    """Return the store, filled with the run's items and histories if it is a new one; under pseudonyms if asked."""
    from contextlib import suppress
    from dataclasses import replace

    from genrec.cli.common import load_data_of, read_or_announce_key
    from genrec.errors import ArtefactError
    from genrec.privacy.keys import Pseudonyms
    from genrec.serve.store import PseudonymousStore

    hidden = None if pseudonymise is None else Pseudonyms(read_or_announce_key(pseudonymise))

    def histories() -> Iterator[History]:
        prepared = load_data_of(run, data)
        for history in prepared.histories:
            if hidden is not None:
                with suppress(ArtefactError):  # data that prepare pseudonymised with this key hold pseudonyms already
                    history = replace(history, user=hidden.user(history.user))
            yield history

    used: HistoryStore = store if hidden is None else PseudonymousStore(store, hidden.of)
    if used.fill(recommender.catalog.items, histories()):
        typer.echo(f"the store is new: filled with the run's {len(recommender.catalog):,} items and its histories")
    return used


def _serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer until the process is told to stop; requests that have begun are finished first."""
    import asyncio
    import logging
    import signal

    import uvicorn

    logger = logging.getLogger("genrec.serve.requests")
    logger.setLevel(logging.INFO)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=15, lifespan="on"
    )
    tasks: set[asyncio.Task[None]] = set()

    async def take_over() -> None:
        try:
            await app.state.engine.take_over(app.state.load)
            logger.info('{"run": "taken over"}')
        except Exception as error:
            logger.error('{"run": "not taken over", "why": "%s"}', type(error).__name__)
            logger.debug("the run was not taken over", exc_info=error)

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(take_over())
        tasks.add(task)  # or it might be collected before it has ended
        task.add_done_callback(tasks.discard)

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)
        await uvicorn.Server(config).serve(sockets=[listening])

    asyncio.run(main())
