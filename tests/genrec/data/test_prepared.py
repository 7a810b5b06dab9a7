"""Files to prepared data, and prepared data to a folder and back."""

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrec.data.cleaning import Cleaning
from genrec.data.prepared import PreparedData, iter_histories, load_prepared, prepare, save_prepared
from genrec.data.raw import Columns
from genrec.data.report import DataReport
from genrec.errors import ArtefactError, DataError

LOG = (
    "userId,movieId,rating,timestamp\n1,10,5,100\n1,20,3,200\n1,10,4,300\n2,20,5,50\n2,30,1,50\n2,10,2,60\n3,30,4,70\n"
)
ITEMS = (
    "movieId,title,genres,year\n10,Tom &amp; Jerry,Comedy|Animation,1940\n20,  The\tSting ,Crime,1973\n"
    "30,The Sting,,\n40,Never Taken,Drama,2000\n"
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "log.csv", LOG), write(tmp_path / "items.csv", ITEMS)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_column_names_are_guessed_and_the_guess_is_told(files: tuple[Path, Path]) -> None:
    data = prepare(interactions=files[0], items=files[1])
    assert [(history.user, history.items) for history in data.histories] == [
        ("1", ("10", "20", "10")),
        ("2", ("20", "30", "10")),
        ("3", ("30",)),
    ]
    assert data.report.notes[:2] == (
        "log.csv: user from 'userId', item from 'movieId', time from 'timestamp'",
        "items.csv: id from 'movieId', title from 'title', category from 'genres'",
    )


def test_a_catalogue_is_keyed_by_the_logs_own_name_for_the_item(files: tuple[Path, Path], tmp_path: Path) -> None:
    items = write(tmp_path / "both.csv", "id,movieId,title\n1,10,x\n2,20,y\n3,30,z\n")
    assert prepare(interactions=files[0], items=items).catalog.ids == ("10", "20", "30")
    with pytest.raises(DataError, match="not in the catalogue"):
        prepare(interactions=files[0], items=items, columns=Columns(id="id"))


def test_items_are_cleaned_and_keep_what_else_is_known(files: tuple[Path, Path]) -> None:
    first, second, third, _ = prepare(interactions=files[0], items=files[1]).catalog
    assert (first.title, first.categories, dict(first.attributes)) == (
        "Tom & Jerry",
        ("Comedy", "Animation"),
        {"year": "1940"},
    )
    assert (second.title, second.label, third.title, third.label) == (
        "The Sting",
        "The Sting (1973)",
        "The Sting",
        "The Sting",
    )
    assert (third.categories, dict(third.attributes)) == ((), {})


def test_the_report_by_hand(files: tuple[Path, Path]) -> None:
    report = prepare(interactions=files[0], items=files[1]).report
    assert (report.users, report.items, report.interactions) == (3, 4, 7)
    assert report.density == 7 / 12
    assert report.tie_share == 1 / 4  # of the four neighbouring pairs, only user 2's first two events share a second
    assert (report.repeated_events, report.items_never_taken, report.one_item_histories) == (1, 1, 1)
    assert (report.duplicate_titles, report.duplicate_title_examples) == (2, ("The Sting",))
    assert report.history_lengths == (1, 1, 1, 3, 3, 3, 3)
    assert (report.first_time, report.last_time) == (50, 300)
    assert (report.train_histories, report.valid_cases, report.test_cases) == (3, 2, 2)
    text = report.to_text()
    for part in ("7 (density 58.333%)", "25.0% of neighbouring", "1970-01-01 to 1970-01-01", "1 (in training only)"):
        assert part in text


def test_one_item_histories_are_in_training_only(files: tuple[Path, Path]) -> None:
    split = prepare(interactions=files[0], items=files[1]).split()
    assert [history.user for history in split.train] == ["1", "2", "3"]
    assert [case.history.user for case in split.test] == ["1", "2"]


def test_own_column_names_by_flags_and_every_format(tmp_path: Path) -> None:
    log = pl.DataFrame({"wer": ["a", "a", "b"], "was": [1, 2, 1], "wann": ["2024-01-02", "2024-01-01", "2024-01-01"]})
    items = pl.DataFrame({"nr": [1, 2], "wie": ["Eins", "Zwei"], "art": [["x", "y"], ["x"]], "farbe": ["rot", None]})
    log.write_parquet(tmp_path / "log.parquet")
    log.with_columns(pl.col("wann").str.to_date()).write_parquet(tmp_path / "dates.parquet")
    log.write_csv(tmp_path / "log.tsv", separator="\t")
    log.write_ndjson(tmp_path / "log.jsonl")
    items.write_parquet(tmp_path / "items.parquet")
    items.write_ndjson(tmp_path / "items.jsonl")
    items.with_columns(pl.col("art").list.join("|")).write_csv(tmp_path / "items.csv")
    columns = Columns(user="wer", item="was", time="wann", id="nr", title="wie", category="art")
    made = [
        prepare(interactions=tmp_path / one, items=tmp_path / two, columns=columns)
        for one in ("log.parquet", "dates.parquet", "log.tsv", "log.jsonl")
        for two in ("items.parquet", "items.jsonl", "items.csv")
    ]
    assert len(made) == 12
    assert {data.histories for data in made} == {made[0].histories}
    assert made[0].histories[0].items == ("2", "1")
    assert all(data.catalog.items == made[0].catalog.items for data in made)
    assert (made[0].catalog["1"].categories, dict(made[0].catalog["1"].attributes)) == (("x", "y"), {"farbe": "rot"})


def test_titles_of_all_kinds_survive(tmp_path: Path) -> None:
    titles = {
        "1": "👩‍🚀 ride 🎬",
        "2": "ملك الأسد",
        "3": " ".join(f"word{n}" for n in range(2000)),
        "4": "千と千尋" * 99,
    }
    items = write(
        tmp_path / "items.jsonl", "".join(json.dumps({"id": k, "title": v}) + "\n" for k, v in titles.items())
    )
    log = write(tmp_path / "log.csv", "user,item\n" + "".join(f"u,{item}\n" for item in titles))
    data = prepare(interactions=log, items=items)
    assert {item.id: item.title for item in data.catalog} == titles
    assert data.catalog["1"].label == titles["1"]
    assert data.catalog["2"].label == titles["2"]
    assert max(len(label) for label in data.catalog.labels) < 100
    save_prepared(data, tmp_path / "out")
    assert load_prepared(tmp_path / "out").catalog.items == data.catalog.items


@pytest.mark.parametrize(
    ("log", "items", "message"),
    [
        (
            "who,item\n1,1\n",
            "id,title\n1,x\n",
            r"log\.csv has no column that looks like the user; it has: who, item;",
        ),
        (
            "user,item\n1,1\n",
            "id,label\n1,x\n",
            r"items\.csv has no column .* the title; .*--title-column",
        ),
        ("user,item\n", "id,title\n1,x\n", r"log\.csv has a header and no rows"),
        ("", "id,title\n1,x\n", r"log\.csv is empty"),
        ("user,item\n1,1\n", "id,title\n", r"items\.csv holds no usable items"),
        ("user,item,time\n1,1,soon\n", "id,title\n1,x\n", r"log\.csv line 2: not a time; .*time 'soon'"),
        (
            "user,item\n1,1\n",
            "id,title\n1,NaN\n",
            r"items\.csv line 2: no title in column 'title' .'NaN'; if that is its title, add a word.;",
        ),
        ("user,item\n1,1\n", "id,title\n1,&nbsp;\n", r"items\.csv line 2: no title in column 'title'"),
        ("user,item\n1,1\n", "id,title\n,x\n", r"items\.csv line 2: no id in column 'id'"),
        ("user,item\n1,1\n", "id,title\n1,x\n1,y\n", r"items\.csv line 3: an item id given before .'1'.;"),
        ("user,item\n1,9\n", "id,title\n1,x\n", r"log\.csv line 2: an item that is not in the catalogue .item '9'.;"),
        ("user,item,user\n1,1,2\n", "id,title\n1,x\n", r"log\.csv has the column 'user' more than once"),
        ("user,item\n1,1,1\n", "id,title\n1,x\n", r"log\.csv line 2: 3 cells where 2 are expected"),
    ],
)
def test_bad_input_is_one_line_that_names_file_place_and_remedy(
    tmp_path: Path, log: str, items: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare(interactions=write(tmp_path / "log.csv", log), items=write(tmp_path / "items.csv", items))
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_skipped_rows_of_both_files_are_reported_with_their_lines(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", "id,title\n1,x\n1,again\n2,\n3,z\n4,w,v\n")
    log = write(tmp_path / "log.csv", "user,item\nu,1\nu,2\n,3\nu,3\nu,1,1\n")
    data = prepare(interactions=log, items=items, cleaning=Cleaning(skip_bad_rows=True))
    assert data.catalog.ids == ("1", "3")
    assert data.histories[0].items == ("1", "3")
    told = {(entry.file, entry.lines, entry.count) for entry in data.report.dropped}
    assert told == {
        ("items.csv", (3,), 1),
        ("items.csv", (4,), 1),
        ("items.csv", (6,), 1),
        ("log.csv", (3,), 1),
        ("log.csv", (4,), 1),
        ("log.csv", (6,), 1),
    }
    assert "log.csv: 1 row left out: no user, line 4" in data.report.to_text()


def test_a_given_column_that_is_not_there_is_told_even_for_optional_roles(files: tuple[Path, Path]) -> None:
    for role in ("time", "category"):
        with pytest.raises(DataError, match=f"no column 'nope'; it has: .*--{role}-column"):
            prepare(interactions=files[0], items=files[1], columns=Columns(**{role: "nope"}))
    log = write(files[0].with_name("plain.csv"), "user,movieId\n1,10\n")
    with pytest.raises(DataError, match="no column that looks like the rating"):
        prepare(interactions=log, items=files[1], cleaning=Cleaning(min_rating=3))


def test_the_two_ways_to_name_data_exclude_each_other(files: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="not both"):
        prepare(interactions=files[0], items=files[1], dataset="ml-100k")
    with pytest.raises(DataError, match="not both"):
        prepare(dataset="ml-100k", columns=Columns(user="u"))
    with pytest.raises(DataError, match="give both --interactions and --items"):
        prepare(interactions=files[0])


def test_a_global_time_split_needs_times(files: tuple[Path, Path]) -> None:
    log = write(files[0].with_name("plain.csv"), "user,movieId\n1,10\n")
    with pytest.raises(DataError, match="needs a time for every event"):
        prepare(interactions=log, items=files[1], split="global-time")
    with pytest.raises(DataError, match="there is no split 'random'; expected one of leave-one-out, global-time"):
        prepare(interactions=log, items=files[1], split="random")  # type: ignore[arg-type]


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_saved_is_what_is_loaded(files: tuple[Path, Path], tmp_path: Path, timed: bool) -> None:
    log = files[0] if timed else write(tmp_path / "plain.csv", "user,movieId\n1,10\n1,20\n2,30\n")
    data = prepare(interactions=log, items=files[1])
    save_prepared(data, tmp_path / "out")
    loaded = load_prepared(tmp_path / "out")
    assert loaded.catalog.items == data.catalog.items
    assert replace(loaded, catalog=data.catalog) == data
    assert tuple(iter_histories(tmp_path / "out")) == data.histories
    assert DataReport.from_json(json.loads(json.dumps(data.report.to_json()))) == data.report


@pytest.mark.parametrize("batch", [1, 3, 1024, 5000])
def test_histories_stream_in_the_same_order_whatever_the_batch(tmp_path: Path, batch: int) -> None:
    users = 2500
    log = write(tmp_path / "log.csv", "user,item\n" + "".join(f"{user},{user % 7}\n" for user in range(users)))
    items = write(tmp_path / "items.csv", "id,title\n" + "".join(f"{item},t{item}\n" for item in range(7)))
    save_prepared(prepare(interactions=log, items=items), tmp_path / "out")
    first = next(iter_histories(tmp_path / "out", batch))
    assert first.items == ("0",)
    if batch > 1:
        read = [(history.user, history.items) for history in iter_histories(tmp_path / "out", batch)]
        assert read == [(str(user), (str(user % 7),)) for user in range(users)]


def test_a_damaged_folder_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    save_prepared(prepare(interactions=files[0], items=files[1]), tmp_path / "out")
    histories = tmp_path / "out" / "histories.parquet"
    histories.write_bytes(histories.read_bytes()[:-1])
    for read in (load_prepared, lambda folder: list(iter_histories(folder))):
        with pytest.raises(ArtefactError, match=r"histories\.parquet is not the file that was written"):
            read(tmp_path / "out")
    with pytest.raises(ArtefactError, match="there is no folder"):
        load_prepared(tmp_path / "nowhere")


def test_a_folder_whose_parts_do_not_fit_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = prepare(interactions=files[0], items=files[1])
    strange = replace(data.histories[0], items=("10", "20", "nope"))
    save_prepared(PreparedData(data.catalog, (strange,), data.split_name, data.report), tmp_path / "out")
    with pytest.raises(ArtefactError, match=r"'nope'.*it is damaged"):
        load_prepared(tmp_path / "out")


CELLS = st.one_of(
    st.sampled_from(
        ["1", "2", "3", "", " ", "nan", "1e999", "-1", "2024-01-01", "9" * 30, '"', "a,b", "é", "\ud7ff", "<b>"]
    ),
    st.text(max_size=6).filter(lambda text: "\0" not in text),
)
NAMES = st.sampled_from(["user", "item", "time", "rating", "id", "title", "category", "x", "", "user:token"])


def survives(log: bytes, items: bytes, suffix: str, cleaning: Cleaning) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"log{suffix}").write_bytes(log)
        (folder / f"items{suffix}").write_bytes(items)
        data, told = None, None
        try:
            data = prepare(interactions=folder / f"log{suffix}", items=folder / f"items{suffix}", cleaning=cleaning)
            save_prepared(data, folder / "out")
        except DataError as error:
            told = str(error)
        if data is None:
            assert not (folder / "out").exists()
            assert "\n" not in str(told)
        else:
            loaded = load_prepared(folder / "out")
            assert loaded.histories == data.histories
            assert loaded.catalog.items == data.catalog.items
            assert math.isfinite(loaded.report.density)
        assert {path.name for path in folder.iterdir()} <= {f"log{suffix}", f"items{suffix}", "out"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=80), st.binary(max_size=80), st.sampled_from([".csv", ".tsv", ".jsonl"]), st.booleans())
def test_any_bytes_are_data_or_a_data_error(log: bytes, items: bytes, suffix: str, skip: bool) -> None:
    survives(log, items, suffix, Cleaning(skip_bad_rows=skip))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6),
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6),
    st.booleans(),
    st.sampled_from([".csv", ".tsv"]),
)
def test_any_table_is_data_or_a_data_error(
    extra: list[str], log: list[list[str]], items: list[list[str]], skip: bool, suffix: str
) -> None:
    def text(header: list[str], rows: list[list[str]]) -> bytes:
        between = "," if suffix == ".csv" else "\t"
        return "\n".join(between.join(row) for row in [header, *rows]).encode("utf-8", "replace")

    survives(
        text(["user", "item", *extra], log), text(["id", "title", *extra], items), suffix, Cleaning(skip_bad_rows=skip)
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_json_lines_are_data_or_a_data_error(data: st.DataObject) -> None:
    value = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["1", "2", "\ud800", "\0"])),
        lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
        max_leaves=4,
    )
    rows = st.lists(
        st.fixed_dictionaries({"user": value, "item": st.sampled_from(["1", 2, 2.0, None])}, optional={"time": value}),
        max_size=4,
    )
    items = st.lists(st.fixed_dictionaries({"id": value, "title": value}, optional={"x": value}), max_size=3)
    log = "\n".join(map(json.dumps, data.draw(rows)))
    catalogue = "\n".join(map(json.dumps, [{"id": 1, "title": "one"}, {"id": "2", "title": "two"}, *data.draw(items)]))
    survives(log.encode(), catalogue.encode(), ".jsonl", Cleaning(skip_bad_rows=data.draw(st.booleans())))
