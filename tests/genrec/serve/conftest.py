"""What tests of the service share: a PostgreSQL server of their own, and stores of both kinds."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def _binaries():
    """Return the folder of PostgreSQL's server programs, or None."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def postgres():
    """Start a PostgreSQL server that listens on a socket in a folder only; return its URL."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here; install the package postgresql")
    pytest.importorskip("psycopg")
    # Not below pytest's own folder, which every other pytest shuts again for other accounts.
    folder = Path(tempfile.mkdtemp(prefix="genrec-pg-"))
    account = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        if subprocess.run(["id", "nobody"], capture_output=True, check=False).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no other account")
        shutil.chown(folder, "nobody")
        account = {"user": "nobody"}

    def call(program, *words):
        subprocess.run([binaries / program, *words], check=True, stdout=subprocess.DEVNULL, cwd=folder, **account)

    call("initdb", "-D", folder / "data", "-U", "genrec", "--auth=trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=40"
    call("pg_ctl", "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start")
    yield f"postgresql://genrec@/postgres?host={folder}"
    call("pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """An empty store's file or URL, of both kinds in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url = request.getfixturevalue("postgres")
    import sqlalchemy as sql

    from genrec.serve.sql_store import SCHEMA, _url

    engine = sql.create_engine(_url(url))
    SCHEMA.drop_all(engine)
    engine.dispose()
    return url
