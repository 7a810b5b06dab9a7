"""Named sources: the counts that everybody quotes, and the titles that people say."""

import importlib.util
import os
import time
from pathlib import Path

import pytest

from genrec.data.prepared import PreparedData, prepare
from genrec.data.sources import GENRES, SOURCES, natural_title, read_source
from genrec.errors import DataError


@pytest.fixture(scope="module")
def films() -> PreparedData:
    return prepare(dataset="ml-100k")


def test_ml_100k_has_the_counts_that_everybody_quotes(films: PreparedData) -> None:
    report = films.report
    assert (report.users, report.items, report.interactions) == (943, 1682, 100_000)
    assert report.tie_share == pytest.approx(50_561 / 99_057)  # counted apart, in plain Python
    assert (report.repeated_events, report.items_never_taken, report.dropped) == (0, 0, ())
    assert report.duplicate_titles == 45
    assert [history.user for history in films.histories] == [str(user) for user in range(1, 944)]


def test_ml_100k_items(films: PreparedData) -> None:
    godfather = films.catalog["127"]
    assert (godfather.title, godfather.label, godfather.categories) == (
        "The Godfather",
        "The Godfather",
        ("Action", "Crime", "Drama"),
    )
    assert dict(godfather.attributes) == {"year": "1972"}
    assert films.catalog["218"].label == "Cape Fear (1991)"
    unknown, direct_to_video = films.catalog["267"], films.catalog["1412"]
    assert (unknown.title, unknown.categories, dict(unknown.attributes)) == ("unknown", (), {})
    assert (direct_to_video.title, dict(direct_to_video.attributes)) == (
        "Land Before Time III: The Time of the Great Giving",
        {"year": "1995"},
    )


def test_all_histories_are_the_stable_sort_of_the_file(films: PreparedData) -> None:
    spec = importlib.util.find_spec("recbole")
    assert spec is not None
    assert spec.origin is not None
    rows = (Path(spec.origin).parent / "dataset_example/ml-100k/ml-100k.inter").read_text().splitlines()[1:]
    events: dict[str, list[tuple[int, str]]] = {}
    for user, item, _, moment in (row.split("\t") for row in rows):
        events.setdefault(user, []).append((int(moment), item))
    for history in films.histories:
        expected = sorted(events[history.user], key=lambda event: event[0])
        assert list(zip(history.times, history.items, strict=True)) == expected


def test_ml_100k_is_prepared_quickly() -> None:
    start = time.process_time()
    prepare(dataset="ml-100k")
    assert time.process_time() - start < 2


def test_the_original_archive_gives_the_same_items(films: PreparedData, tmp_path: Path) -> None:
    def row(number: int, title: str, year: str, genres: str, suffix: str = "") -> str:
        flags = "|".join("1" if genre in genres.split() else "0" for genre in GENRES)
        return f"{number}|{title} ({year}){suffix}|01-Jan-{year}||http://example.org/{title}|{flags}"

    rows = [
        row(127, "Godfather, The", "1972", "Action Crime Drama"),
        row(543, "Misérables, Les", "1995", "Drama Musical"),
        row(1412, "Land Before Time III: The Time of the Great Giving", "1995", "Animation Children's", " (V)"),
        "267|unknown||||" + "|".join("1" if genre == "unknown" else "0" for genre in GENRES),
    ]
    (tmp_path / "u.item").write_bytes("\n".join(rows).encode("latin-1"))
    (tmp_path / "u.data").write_text("9\t127\t5\t881250949\n9\t543\t3\t881250900\n")
    data = prepare(dataset=f"ml-100k:{tmp_path}")
    for item in data.catalog:
        assert item == films.catalog[item.id]
    assert len(data.catalog) == len(rows)
    assert data.histories[0].items == ("543", "127")


def test_a_broken_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*ml-100k\.inter"):
        read_source(f"ml-100k:{tmp_path}")
    (tmp_path / "u.item").write_text("1|Toy Story (1995)\n")
    (tmp_path / "u.data").write_text("9\t1\t5\t881250949\n")
    with pytest.raises(DataError, match=r"u\.item line 1: 2 cells where 24 are expected"):
        read_source(f"ml-100k:{tmp_path}")
    (tmp_path / "u.item").unlink()
    (tmp_path / "ml-100k.inter").write_text("user_id:token\titem_id:token\n1\t1\n")
    with pytest.raises(DataError, match="has no column rating:float, timestamp:float"):
        read_source(f"ml-100k:{tmp_path}")


@pytest.mark.parametrize(
    ("filed", "said"),
    [
        ("Godfather, The", "The Godfather"),
        ("Godfather: Part II, The", "The Godfather: Part II"),
        ("Fish Called Wanda, A", "A Fish Called Wanda"),
        ("Enfer, L'", "L'Enfer"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Fille seule, La (A Single Girl)", "La Fille seule (A Single Girl)"),
        ("Die xue shuang xiong (Killer, The)", "Die xue shuang xiong (The Killer)"),
        ("Mrs. Brown (Her Majesty, Mrs. Brown)", "Mrs. Brown (Her Majesty, Mrs. Brown)"),
        ("Paris, Texas", "Paris, Texas"),
        ("I, Worst of All (Yo, la peor de todas)", "I, Worst of All (Yo, la peor de todas)"),
        ("Sex, Lies, and Videotape", "Sex, Lies, and Videotape"),
        ("", ""),
    ],
)
def test_titles_are_as_people_say_them(filed: str, said: str) -> None:
    assert natural_title(filed) == said


def beauty(folder: Path, sequences: str, items: str) -> str:
    (folder / "sequences.txt").write_text(sequences, encoding="utf-8")
    (folder / "items.jsonl").write_text(items, encoding="utf-8")
    return f"amazon-beauty:{folder}"


ITEM = (
    '{"id": 0, "title": "Soap &amp; Oil", "categories": [["Beauty", "Bath"], ["Beauty", "Oil"]], "source_id": "B00"}\n'
)


def test_amazon_beauty_on_a_small_folder(tmp_path: Path) -> None:
    spec = beauty(tmp_path, "10 1 0 1\n9 0\n", ITEM + ITEM.replace('"id": 0', '"id": 1').replace("Soap", "Rope"))
    data = prepare(dataset=spec)
    first = data.catalog["0"]
    assert (first.title, first.categories, dict(first.attributes)) == (
        "Soap & Oil",
        ("Beauty", "Bath", "Oil"),
        {"asin": "B00"},
    )
    assert [(history.user, history.items, history.times) for history in data.histories] == [
        ("9", ("0",), ()),
        ("10", ("1", "0", "1"), ()),
    ]
    assert (data.report.tie_share, data.report.repeated_events) == (None, 1)


@pytest.mark.parametrize(
    ("sequences", "items", "message"),
    [
        ("1 0 7\n", ITEM, r"sequences\.txt line 1: an item that is not in the catalogue .item '7'."),
        ("", ITEM, r"sequences\.txt holds no sequences"),
        ("1 0\n", ITEM + ITEM, r"items\.jsonl line 2: an item id given before"),
        ("1 0\n", '{"id": 0, "name": "x"}\n', r"items\.jsonl has no categories, title; expected"),
        ("1 0\n", "", r"items\.jsonl holds no rows"),
    ],
)
def test_a_broken_beauty_folder_is_told(tmp_path: Path, sequences: str, items: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(dataset=beauty(tmp_path, sequences, items))


def test_sources_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set named 'ml-1m'; expected one of amazon-beauty, ml-100k"):
        read_source("ml-1m")
    with pytest.raises(DataError, match="give amazon-beauty:PATH"):
        read_source("amazon-beauty")
    with pytest.raises(DataError, match=r"cannot read .*items\.jsonl"):
        read_source(f"amazon-beauty:{tmp_path / 'nowhere'}")


def test_a_source_is_one_function_in_the_registry(monkeypatch: pytest.MonkeyPatch, films: PreparedData) -> None:
    monkeypatch.setitem(SOURCES, "mine", lambda path: SOURCES["ml-100k"](path))
    assert prepare(dataset="mine").histories == films.histories


@pytest.mark.skipif("GENREC_BEAUTY" not in os.environ, reason="GENREC_BEAUTY does not name the folder of the data")
def test_amazon_beauty_has_the_counts_that_everybody_quotes() -> None:
    start = time.process_time()
    data = prepare(dataset=f"amazon-beauty:{os.environ['GENREC_BEAUTY']}")
    assert time.process_time() - start < 5
    report = data.report
    assert (report.users, report.items, report.interactions) == (22_363, 12_101, 198_502)
    assert (report.history_lengths[0], report.repeated_events, report.tie_share) == (5, 0, None)
    assert not any("&amp;" in item.title or "&#39;" in item.title for item in data.catalog)
    assert len(set(data.catalog.labels)) == 12_101
