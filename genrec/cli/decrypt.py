"""`genrec decrypt`: turns an encrypted output, or one with pseudonyms, into a plain one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decrypt(
    recommendations: Annotated[Path, typer.Option(help="A finished output of recommend.")],
    out: Annotated[Path, typer.Option(help="Where to write: the same kind, without .enc.")],
    key: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="The key of recommend --encrypt.", show_default=False)
    ] = None,
    user_key: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="The key of prepare --pseudonymise; turns pseudonyms back into user ids.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Decrypt an output, turn its pseudonyms back into user ids, or both.

    [bold]Example:[/bold] genrec decrypt --recommendations films.jsonl.enc --key films.key --out films.jsonl
    """
    from genrec.errors import ConfigError
    from genrec.privacy.keys import Pseudonyms, read_key
    from genrec.privacy.rewriting import decrypt_output

    if key is None and user_key is None:
        raise ConfigError(["neither --key nor --user-key was given; give the key of what is to be turned back"])
    names = None if user_key is None else Pseudonyms(read_key(user_key))
    decrypt_output(recommendations, out, str if names is None else names.user, None if key is None else read_key(key))
    typer.echo(f"written to {out}")
