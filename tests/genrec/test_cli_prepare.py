"""`genrec prepare`: flags reach the data, mistakes are one line and exit code 2, nothing half written."""

import subprocess
import sys
from pathlib import Path

import pytest

from genrec.cli.main import run
from genrec.data.prepared import load_prepared
from genrec.storage.folders import read_manifest

LOG = "wer,was,wann,wert\nu,1,3,5\nu,2,2,5\nu,1,9,5\nu,3,4,2\nv,1,1,5\nv,2,7,4\nv,4,8,4\n"
ITEMS = "nr,wie,art,farbe\n1,Eins,a|b,rot\n2,Zwei,,\n3,Drei,,\n4,Vier,,\n"
OWN = {"user": "wer", "item": "was", "time": "wann", "rating": "wert", "id": "nr", "title": "wie", "category": "art"}
COLUMNS = [part for role, column in OWN.items() for part in (f"--{role}-column", column)]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    return ["--interactions", str(tmp_path / "log.csv"), "--items", str(tmp_path / "items.csv")]


def genrec(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["genrec", *arguments])
    monkeypatch.delenv("GENREC_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        run()
    return int(ended.value.code or 0)


def test_every_flag_reaches_the_data(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert genrec(monkeypatch, "prepare", *files, *COLUMNS, "--out", out, "--min-rating", "3", "--drop-repeats") == 0
    data = load_prepared(tmp_path / "out")
    assert [(history.user, history.items) for history in data.histories] == [("u", ("2", "1")), ("v", ("1", "2", "4"))]
    assert data.catalog["1"].categories == ("a", "b")
    assert dict(data.catalog["1"].attributes) == {"farbe": "rot"}
    shown = capsys.readouterr().out
    assert data.report.to_text() in shown
    assert "user from 'wer'" in shown
    assert genrec(monkeypatch, "prepare", *files, *COLUMNS, "--out", out, "--k-core", "2") == 0
    data = load_prepared(tmp_path / "out")
    assert [history.items for history in data.histories] == [("2", "1", "1"), ("1", "2")]
    assert data.catalog.ids == ("1", "2")
    assert genrec(monkeypatch, "prepare", *files, *COLUMNS, "--out", out, "--split", "global-time") == 0
    assert read_manifest(tmp_path / "out", "data")["split"] == "global-time"


def test_a_named_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert genrec(monkeypatch, "prepare", "--dataset", "ml-100k", "--out", str(tmp_path / "out")) == 0
    assert "943" in capsys.readouterr().out
    assert read_manifest(tmp_path / "out", "data")["interactions"] == 100_000


def test_bad_rows_stop_the_command_or_are_skipped_and_reported(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text(LOG + "w,1,soon,5\nw,99,3,5\n")
    arguments = ["prepare", *files, *COLUMNS, "--out", str(tmp_path / "out")]
    assert genrec(monkeypatch, *arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith(
        "genrec: log.csv line 10: an item that is not in the catalogue (item '99'); log.csv line 9"
    )
    assert not (tmp_path / "out").exists()
    assert genrec(monkeypatch, *arguments, "--skip-bad-rows") == 0
    assert (
        "log.csv: 1 row left out: an item that is not in the catalogue (item '99'), line 10" in capsys.readouterr().out
    )


MISTAKES = [
    ([], "give both --interactions and --items"),
    (["--dataset", "ml-1m"], "no data set named 'ml-1m'"),
    (["--dataset", "amazon-beauty"], "amazon-beauty:PATH"),
    (["--dataset", "ml-100k", "--user-column", "x"], "not both"),
    (["--interactions", "nowhere.csv", "--items", "nowhere.csv"], "cannot read nowhere.csv"),
    (["--dataset", "ml-100k", "--k-core", "9999"], "no event of ml-100k.inter is left"),
    (["--dataset", "ml-100k", "--min-rating", "nan"], "min_rating is nan"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert genrec(monkeypatch, "prepare", *arguments, "--out", str(tmp_path / "out")) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_told_before_the_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert genrec(monkeypatch, "prepare", "--dataset", "no such set", "--out", str(out)) == 2
        assert "choose another --out" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; import genrec.cli.prepare; "
        "print([name for name in ('polars', 'torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
