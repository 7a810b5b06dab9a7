"""Options and helpers that several commands share, such as finding a run's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from genrec.data.prepared import PreparedData
    from genrec.manifest import RunManifest
    from genrec.serve.store import HistoryStore

RunOption = Annotated[Path, typer.Option(help="A finished run folder, made by genrec train.")]
DataOption = Annotated[
    Path | None, typer.Option(help="The data folder, if it is not where training found it.", show_default="the run's")
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        help="Where the run's base model is now, if it moved; it must hold what it held.", show_default="the run's"
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cuda, cuda:1, mps or cpu.", show_default="$GENREC_DEVICE, else the best there is")
]

FILES = "How text files are written"
SeparatorOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[FILE=]SIGN",
        help="Between cells: one character, or tab; for one file only: items=tab.",
        show_default="recognised",
        rich_help_panel=FILES,
    ),
]
EncodingOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[FILE=]NAME",
        help="Such as utf-8, cp1252 or gb18030; for one file only: items=gb18030.",
        show_default="recognised",
        rich_help_panel=FILES,
    ),
]
OneSeparatorOption = Annotated[
    str | None,
    typer.Option(
        "--separator",
        metavar="SIGN",
        help="Between the cells of a text table: one character, or tab.",
        show_default=False,
        rich_help_panel=FILES,
    ),
]
OneEncodingOption = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="Of a text file, such as utf-8, cp1252 or gb18030.",
        show_default="recognised",
        rich_help_panel=FILES,
    ),
]
QuotesOption = Annotated[
    bool | None,
    typer.Option(
        "--quotes/--no-quotes",
        help="Whether quote marks quote, or are part of the text.",
        show_default="recognised",
        rich_help_panel=FILES,
    ),
]
ListsOption = Annotated[
    str | None,
    typer.Option(
        metavar="json|python|none|SIGN",
        help="How texts that hold several categories are written; a sign is one of | ; , >",
        show_default="recognised",
        rich_help_panel="Columns",
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "bf16", "fp32"],
    typer.Option(help="Number format; auto: $GENREC_PRECISION, else bf16 where the device multiplies in it."),
]
ServedPrecisionOption = Annotated[
    Literal["auto", "bf16", "fp32", "4bit"],
    typer.Option(
        help="Number format; auto: $GENREC_PRECISION, else bf16 where the device multiplies in it; 4bit: the base "
        "stays in 4 bits, for what QLoRA trained."
    ),
]
ReportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--report-to",
        metavar="tensorboard|mlflow|wandb",
        help="Where losses are also written; repeatable.",
        show_default="nowhere else",
    ),
]
KeepSeenOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-seen/--exclude-seen",
        help="Whether to recommend what the user took before.",
        show_default="as the run was trained for",
    ),
]


def data_folder_of(run: Path, data: Path | None) -> Path:
    """Return the data folder of a run, after checking that it is the one that the run was trained on.

    Raises:
        ArtefactError: a folder is missing, or holds other data.
    """
    from genrec.errors import ArtefactError
    from genrec.manifest import RunManifest
    from genrec.storage.folders import MANIFEST, fingerprint, read_manifest

    manifest = RunManifest.read(run, verify=False)
    folder = data or _data_of(manifest, run)
    # Data from which users were forgotten since is still the run's.
    formerly = read_manifest(folder, "data", verify=False).get("formerly", [])
    if manifest.data not in (fingerprint(folder / MANIFEST), *formerly):
        raise ArtefactError(
            f"{folder} is not the data that {run} was trained on; give that with --data, or train again on this one"
        )
    return folder


def _data_of(manifest: RunManifest, run: Path) -> Path:
    """Return the folder of a run's data.

    Raises:
        ArtefactError: it is not where it was.
    """
    from genrec.errors import ArtefactError
    from genrec.storage.places import candidates

    if not manifest.data_folder:
        raise ArtefactError(f"{run} does not say where its data is; give the folder with --data")
    places = candidates(manifest.data_way, manifest.data_folder, run)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise ArtefactError(
            f"the data of {run} is not where it was: there is no folder {' nor '.join(map(str, places))}; say with "
            "--data where it is now"
        )
    return found


def load_data_of(run: Path, data: Path | None) -> PreparedData:
    """Load the data that a run was trained on."""
    from genrec.data.prepared import load_prepared

    return load_prepared(data_folder_of(run, data))


def run_fingerprint(run: Path) -> dict[str, Any]:
    """Return the fingerprint of a run's contents, for a job that must not mix two runs."""
    from genrec.storage.folders import MANIFEST, fingerprint

    return {"run": fingerprint(run / MANIFEST), **models_fingerprint(run)}


def models_fingerprint(run: Path) -> dict[str, Any]:
    """Return the fingerprint of a run's models; None for a run that does not record them."""
    from genrec.manifest import RunManifest

    known = RunManifest.read(run, verify=False).models
    return {role: known[role].contents if role in known else None for role in ("base", "encoder")}


def read_or_announce_key(path: Path) -> bytes:
    """Return a key file's key; a missing file is created, with a message.

    Raises:
        ArtefactError: the file is not a key file, or cannot be made.
    """
    from genrec.privacy.keys import read_or_make_key

    key, made = read_or_make_key(path)
    if made:
        typer.echo(
            f"a new key was written to {path}; keep it apart from the data and keep a copy: "
            "without it nothing can be read or recognised again"
        )
    return key


def open_known_store(place: str) -> HistoryStore:
    """Open a store that `genrec serve` made; a file that is not there is a slip of the pen, and is not made.

    Raises:
        ArtefactError: it is not there, or cannot be opened.
        MissingExtra: the libraries that serving needs are not installed.
    """
    from genrec.errors import ArtefactError, MissingExtra

    try:
        from genrec.serve.sql_store import open_store
    except ModuleNotFoundError:
        raise MissingExtra("serve", "a store") from None
    if "://" not in place and not Path(place).exists():
        raise ArtefactError(f"there is no store {place}; give the file or the URL that genrec serve was given")
    return open_store(place)
