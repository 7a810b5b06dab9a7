"""`genrec recommend`: a run folder and users become recommendations, as JSON Lines or as Parquet."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genrec.cli.common import (
    BaseOption,
    DataOption,
    DeviceOption,
    KeepSeenOption,
    OneEncodingOption,
    OneSeparatorOption,
    RunOption,
    ServedPrecisionOption,
)

FILTERS, BEYOND = "Which items", "Beyond the scores"

if TYPE_CHECKING:
    from genrec.batch.job import Summary
    from genrec.batch.users import Users
    from genrec.data.dialects import Dialect
    from genrec.recommender import Recommender
    from genrec.settings import Settings
    from training.computing import Computing


def recommend(
    run: RunOption,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.jsonl|FOLDER.parquet",
            help="Where to write: a line for each user, or a folder of Parquet shards.",
        ),
    ],
    users: Annotated[
        str,
        typer.Option(
            metavar="all|FILE",
            help='all; a text file of user ids; or histories, newer ones too: .jsonl of {"user": ..., "items": [...]}, '
            'or of {"user": ..., "taste": "a sentence"} for new users; or .parquet with the columns user and items.',
        ),
    ] = "all",
    k: Annotated[int, typer.Option("--k", help="Items for each user.", min=1)] = 10,
    beams: Annotated[int, typer.Option(help="Beams that the language model holds.", min=1)] = 20,
    mode: Annotated[
        Literal["constrained", "free"], typer.Option(help="Search the catalogue, or write any text and ground it.")
    ] = "constrained",
    keep_seen: KeepSeenOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Write the reason beside each recommendation.")] = False,
    explain_with: Annotated[
        Literal["sentence", "measured", "words"] | None,
        typer.Option(
            help="sentence: what stands near the item. measured: what moved the language model (slower). "
            "words: that in the model's own words, checked (slowest).",
            show_default="sentence, with --explain",
        ),
    ] = None,
    waterfall: Annotated[
        bool, typer.Option("--waterfall", help="Write what each score is made of, and what an item lacks to be first.")
    ] = False,
    language: Annotated[Literal["en", "zh"], typer.Option(help="Language of explanations.")] = "en",
    tone: Annotated[Literal["plain", "warm"], typer.Option(help="Tone of explanations.")] = "plain",
    length: Annotated[Literal["short", "long"], typer.Option(help="Length of explanations.")] = "short",
    writer: Annotated[
        str,
        typer.Option(
            metavar="starter|HUB_ID|FOLDER|URL",
            help="Who words the reasons: an instruction model, or an OpenAI-compatible endpoint, which is sent titles.",
        ),
    ] = "",
    style: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Your own words for the reasons; see the how-to on explanations."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished job; the output is the same.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Only the I-th of N stretches of the users; N outputs make the whole."),
    ] = "1/1",
    workers: Annotated[
        int, typer.Option(help="Ray workers to share the users among (genrec\\[ray]); 0 is this process.", min=0)
    ] = 0,
    encrypt: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Encrypt the output (genrec\\[privacy]); a missing key file is made."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only items that have this, such as category=Comedy; repeatable.",
            rich_help_panel=FILTERS,
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="No item that has this; repeatable.", rich_help_panel=FILTERS),
    ] = None,
    price: Annotated[
        str, typer.Option(metavar="LOW-HIGH", help="Only items in this range of price.", rich_help_panel=FILTERS)
    ] = "",
    available_on: Annotated[
        str,
        typer.Option(
            metavar="DAY",
            help="Only items whose available_from and available_until allow this day.",
            rich_help_panel=FILTERS,
        ),
    ] = "",
    diversity: Annotated[
        float, typer.Option(help="0 to 1: how much a list's items should differ.", rich_help_panel=BEYOND)
    ] = 0.0,
    calibration: Annotated[
        float,
        typer.Option(help="0 to 1: how much a list should have the user's mix of categories.", rich_help_panel=BEYOND),
    ] = 0.0,
    max_per_category: Annotated[
        int | None,
        typer.Option(help="Items of one category in a list.", rich_help_panel=BEYOND, show_default="no limit"),
    ] = None,
    discount_popularity: Annotated[
        float, typer.Option(help="From 0: how much fame counts against an item.", rich_help_panel=BEYOND)
    ] = 0.0,
    separator: OneSeparatorOption = None,
    encoding: OneEncodingOption = None,
    data: DataOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: ServedPrecisionOption = "auto",
) -> None:
    """Recommend for all users, or for those of a file.

    [bold]Example:[/bold] genrec recommend --run runs/films --users all --k 10 --out films.jsonl --explain
    """
    from genrec.batch.job import begun_in
    from genrec.batch.ray import choose_for_workers
    from genrec.batch.users import open_users
    from genrec.cli.common import data_folder_of, read_or_announce_key
    from genrec.data.dialects import Dialect
    from genrec.errors import ConfigError
    from genrec.explain.evidence import Wording
    from genrec.explain.style import load_style
    from genrec.explain.writers import check_writer
    from genrec.ranking.filters import Filters, parse_condition, parse_price_range
    from genrec.ranking.reranking import Reranking
    from genrec.recommender import Recommender
    from genrec.settings import Settings
    from genrec.storage.folders import read_manifest
    from training.computing import choose_computing

    if (encrypt is not None) != (out.suffix == ".enc"):
        raise ConfigError([f"--out is {out}; the name of an encrypted output, and of no other, ends in .enc"])
    if waterfall and ".parquet" in out.name:
        raise ConfigError([f"--out is {out}; a waterfall needs a column for each part, so give a name in .jsonl"])
    if writer:
        check_writer(writer)
        if explain_with not in (None, "words"):
            raise ConfigError([f"--writer words reasons, and --explain-with is {explain_with}; leave that out"])
    lowest, highest = parse_price_range(price) if price else (None, None)
    settings = Settings(
        k=k,
        beams=beams,
        mode=mode,
        exclude_seen=None if keep_seen is None else not keep_seen,
        explain=explain_with or ("words" if writer else "sentence" if explain else "none"),
        wording=Wording(language, tone, length, load_style(style) if style else ""),
        filters=Filters(
            only=tuple(map(parse_condition, only or ())),
            without=tuple(map(parse_condition, without or ())),
            lowest_price=lowest,
            highest_price=highest,
            available_on=available_on,
        ),
        reranking=Reranking(diversity, max_per_category, discount_popularity, calibration),
        waterfall=waterfall,
        writer=writer,
    )
    if settings.filters.asked:
        tell_what_passes(run, settings)
    read_manifest(run, "run", verify=False)  # a folder that holds no run is told as such
    dialect = Dialect(separator, encoding)
    stream = open_users(users, lambda: data_folder_of(run, data), dialect)  # before the model is loaded
    job = job_of(run, data, users, settings, shard, dialect)
    begun = begun_in(out, job, resume)
    choose = choose_for_workers if workers else choose_computing
    computing = choose(device, precision, begun, f"the job of {out}")
    recommender = (
        None if workers else Recommender.from_pretrained(run, computing.device, computing.precision, base=base)
    )
    key = None if encrypt is None else read_or_announce_key(encrypt)
    summary = recommend_into(
        recommender or computing, run, data, stream, out, settings, resume, job=job, workers=workers, key=key, base=base
    )
    note = f", {summary.resumed} of them from the job before" if summary.resumed else ""
    told = f"computing in {computing}{', as it was begun' if begun else ''}"
    typer.echo(f"{summary.users} users{note}, {told}; written to {out}")
    if summary.problems:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.problems.items()))
        typer.echo(f"rules that users needed: {kinds}; see {out}.problems.jsonl")


def tell_what_passes(run: Path, settings: Settings) -> None:
    """Say how many items pass the filters, before the model is loaded.

    Raises:
        ConfigError: the filters name what no item has, or no item passes them.
    """
    from genrec.runs.folder import read_items
    from genrec.storage.folders import read_manifest

    read_manifest(run, "run", verify=False)
    mask = settings.filters.passing(read_items(run / "items.jsonl"))
    short = "" if mask.sum() >= settings.k else f": fewer than the {settings.k} asked for, and lists will be as short"
    typer.echo(f"{mask.sum():,} of {len(mask):,} items pass the filters{short}")


def job_of(
    run: Path, data: Path | None, users: str, settings: Settings, shard: str = "1/1", dialect: Dialect | None = None
) -> dict[str, Any]:
    """Return everything on which a job's output depends, except the device and the number format."""
    from dataclasses import asdict

    from genrec.batch.users import users_fingerprint
    from genrec.cli.common import data_folder_of, run_fingerprint
    from genrec.data.dialects import Dialect
    from genrec.storage.folders import MANIFEST, fingerprint

    own = users == "all"
    return {
        "settings": asdict(settings),
        **run_fingerprint(run),
        "histories": fingerprint(data_folder_of(run, data) / MANIFEST) if own else users_fingerprint(Path(users)),
        "shard": shard,
        **({"dialect": asdict(dialect)} if dialect is not None and dialect != Dialect() else {}),
    }


def recommend_into(
    recommender: Recommender | Computing,
    run: Path,
    data: Path | None,
    users: str | Users,
    out: Path,
    settings: Settings,
    resume: bool,
    *,
    job: Mapping[str, Any],
    workers: int = 0,
    key: bytes | None = None,
    base: str | None = None,
) -> Summary:
    """Run the batch job with a progress bar; given what to compute in, Ray workers load recommenders of their own."""
    from genrec.batch.job import recommend_all, run_job
    from genrec.batch.users import open_users, shard_span
    from genrec.batch.worker import block_users
    from genrec.cli.common import data_folder_of
    from genrec.progress import progress_bar
    from genrec.storage.folders import read_manifest
    from training.computing import Computing

    read_manifest(run, "run", verify=isinstance(recommender, Computing))
    stream = open_users(users, lambda: data_folder_of(run, data)) if isinstance(users, str) else users
    computing = recommender if isinstance(recommender, Computing) else recommender.computing
    size = block_users(computing.kind)
    first, last = shard_span(job["shard"], stream.count, size)
    items = settings.k if isinstance(recommender, Computing) else min(settings.k, len(recommender.catalog))
    _check_space(out, (last - first) * items)
    started = time.monotonic()

    with progress_bar("Recommending") as bar:

        def progress(done: int, resumed: int) -> None:
            rate = (done - resumed) / max(time.monotonic() - started, 1e-9)
            bar(done - resumed, last - first - resumed, f"{done:,} of {last - first:,} users, {rate:,.1f} a second")

        if isinstance(recommender, Computing):
            from genrec.batch.ray import ray_blocks

            blocks = ray_blocks(run, recommender, settings, stream, (first, last), workers, size, base)
            record = {**job, **recommender.to_json()}
            return run_job(blocks, out, record, block_users=size, resume=resume, key=key, progress=progress)
        return recommend_all(
            recommender,
            lambda done: stream.histories(first + done, last),
            out,
            settings,
            fingerprint=job,
            block_users=size,
            users=stream.count,
            resume=resume,
            key=key,
            progress=progress,
        )


BYTES_PER_RECOMMENDATION = 150
"""What one takes as JSON, at least; compressed in Parquet, a tenth of it."""


def _check_space(out: Path, recommendations: int) -> None:
    """Check that an output can fit, before the first user is asked for; what an unfinished job wrote is there already.

    Raises:
        ArtefactError: it cannot.
    """
    from genrec.batch.outputs import is_folder, part_of
    from genrec.storage.disk_space import check_file_size, check_space, folder_size

    part = part_of(out)
    if is_folder(out):
        done = folder_size(part) if part.is_dir() else 0
        check_space(out, recommendations * BYTES_PER_RECOMMENDATION // 10 - done, str(out))
        return
    done = part.stat().st_size if part.is_file() else 0
    size = recommendations * BYTES_PER_RECOMMENDATION
    check_space(out, size - done, str(out))
    check_file_size(size, str(out))
