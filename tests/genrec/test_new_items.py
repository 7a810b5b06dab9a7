"""New items and new users: what an item borrows by hand, one run grown in memory and on disk, and tastes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import ArtefactError, DataError, History, Item, Recommender, Settings
from genrec.batch.users import open_users
from genrec.cli.main import run as run_cli
from genrec.data.raw import Columns, read_catalogue
from genrec.data.splits import LONGEST_TASTE
from genrec.ranking.filters import Filters
from genrec.ranking.taste import TasteReader
from genrec.runs.grow import add_to_run
from genrec.signals.borrowing import borrowing, counted_part, signals_with_items
from genrec.signals.registry import fit_signals
from tests.genrec.signals.test_simple import LETTERS, LOG, VECTORS, history
from tests.toyworld import SERIES, make_catalog

NEW = Item("nig7", "Night Train 7", categories=("Night Train",))
OWLS = Item("owls", "Owls of Delhi")
WATCHED = [f"nig{part}" for part in (1, 2, 3)]


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.fixture(scope="module")
def grown(recommender: Recommender) -> Recommender:
    return recommender.with_items([NEW, OWLS])


def test_an_item_borrows_from_the_nearest_titles_in_proportion() -> None:
    known = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], np.float32)
    new = np.array([[0.8, 0.6], [-1, 0], [0, -1], [0, 0]], np.float32)
    # Cosines of the first: 0.8, 0.6, -0.8, 0.96: the two nearest are the last and the first. Of the second: 1 and 0.
    # Of the third none is above 0, nor of the fourth.
    found = borrowing(new, known, neighbours=2).toarray()
    assert found == pytest.approx(np.array([[0.8 / 1.76, 0, 0, 0.96 / 1.76], [0, 0, 1, 0], [0] * 4, [0] * 4]), abs=1e-6)


def test_borrowed_scores_are_the_mean_of_the_lenders() -> None:
    signals = fit_signals(LETTERS, LOG, VECTORS)
    larger = LETTERS.with_items([Item("n", "New"), Item("m", "Like nothing")])
    vectors = np.vstack([VECTORS, [[0.8, 0.6], [0, 0]]]).astype(np.float32)
    lent = borrowing(vectors[5:], VECTORS)
    later = signals_with_items(signals, larger, vectors, lent)
    assert list(later) == list(signals)
    asked = [history("a", "b"), history("c")]
    for name in ("sequence", "collaborative", "neighbours", "latent", "popularity"):
        before, after = signals[name].score(asked), later[name].score(asked)
        assert after[:, :5] == pytest.approx(before, abs=1e-6), name
        assert after[:, 5] == pytest.approx(before @ lent.toarray()[0], abs=1e-6), name
        assert not after[:, 6].any(), name
    # A history of the new item says what its lenders' histories say.
    by_new = later["collaborative"].score([history("n")])[0, :5]
    assert by_new == pytest.approx(lent.toarray()[0] @ signals["collaborative"].pairs.toarray(), abs=1e-6)
    assert later["similarity"].score([history("a")])[0, 5] == pytest.approx(0.8)


def test_what_was_counted_is_told_from_what_was_borrowed() -> None:
    signals = fit_signals(LETTERS, LOG, VECTORS)
    larger = LETTERS.with_items([Item("n", "New")])
    vectors = np.vstack([VECTORS, [[1, 0]]]).astype(np.float32)
    later = signals_with_items(signals, larger, vectors, borrowing(vectors[5:], VECTORS))["collaborative"]
    assert later.pairs[:, [5]].nnz
    assert later.pairs[[5]].nnz
    counted = counted_part(later, 5).pairs.toarray()
    assert not counted[:, 5].any()
    assert not counted[5].any()
    assert counted[:5, :5] == pytest.approx(signals["collaborative"].pairs.toarray())


def test_a_new_item_is_recommendable_at_once(grown: Recommender) -> None:
    found = grown.recommend(WATCHED, k=29)
    place = {entry.item.id: entry for entry in found}
    (answer,) = grown.recommend_with_parts([History("", tuple(WATCHED))], Settings(k=29))
    assert "nig7" in answer.without_model
    assert place["nig7"].rank < place["owls"].rank
    assert place["nig7"].signals["collaborative"] > 0  # borrowed
    assert np.isfinite(place["nig7"].signals["lm"])
    # Nobody is said to have chosen it with another.
    assert "new in the catalogue" in place["nig7"].explanation.casefold()
    assert grown.grounder.ground("night train 7")[0].item == "nig7"
    assert grown.decoder.trie.sequence(30) == tuple(grown.encoder.answer("Night Train 7"))
    (exact,) = grown.recommend_many([History("", tuple(WATCHED))], Settings(k=32, beams=32, exclude_seen=False))
    assert {entry.item.id for entry in exact} == {*make_catalog().ids, "nig7", "owls"}


def test_new_items_can_be_what_was_taken(grown: Recommender) -> None:
    found = grown.recommend(["Night Train 7"], k=30)
    ranks = {kind: [one.rank for one in found if one.item.id.startswith("nig") is kind] for kind in (True, False)}
    assert np.mean(ranks[True]) < np.mean(ranks[False])  # seen: 1 to 6, and on a starved machine 2 of the first 6


def test_the_recommender_that_grew_stays_as_it_was(recommender: Recommender) -> None:
    asked = [History("", tuple(WATCHED)), History("", make_catalog().ids[12:14])]
    for mode in ("constrained", "free"):
        settings = Settings(k=8, mode=mode)  # type: ignore[arg-type]
        before = recommender.recommend_many(asked, settings)
        larger = recommender.with_items([OWLS, Item("z", "Zürich ☂ Qvx")])
        larger.recommend_many(asked, settings)
        assert recommender.recommend_many(asked, settings) == before
    assert len(recommender.catalog) == len(recommender.index) == 30
    assert len(larger.catalog) == len(larger.index) == 32


def test_a_run_that_grew_on_disk_answers_as_one_in_memory(grown: Recommender, toy_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    assert add_to_run(toy_run, [NEW, OWLS], out).items == 32
    loaded = Recommender.from_pretrained(out, precision="fp32")
    assert loaded.manifest.added_items == 2
    for mode in ("constrained", "free"):
        settings = Settings(k=12, mode=mode, explain="sentence")  # type: ignore[arg-type]
        asked = [History("", tuple(WATCHED)), History("", ("owls",)), History("", (), taste="red harbour")]
        assert loaded.recommend_many(asked, settings) == grown.recommend_many(asked, settings)
    again = add_to_run(out, [Item("red7", "Red Harbour 7")], tmp_path / "again")
    assert (again.added, again.items) == (1, 33)
    assert Recommender.from_pretrained(tmp_path / "again").manifest.added_items == 3


def test_what_cannot_be_added(recommender: Recommender, toy_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no items are given"):
        recommender.with_items([])
    with pytest.raises(DataError, match="'nig1' is in the catalogue already"):
        recommender.with_items([OWLS, Item("nig1", "Night Train 1")])
    with pytest.raises(DataError, match="empty title"):
        recommender.with_items([Item("x", " ")])
    with pytest.raises(DataError, match="more than once: owls"):
        recommender.with_items([OWLS, OWLS])
    own = replace(recommender, signals={**recommender.signals, "mine": recommender.content})
    with pytest.raises(DataError, match="the signal 'mine' is your own"):
        own.with_items([OWLS])
    (tmp_path / "there").mkdir()
    with pytest.raises(ArtefactError, match="exists already"):
        add_to_run(toy_run, [OWLS], tmp_path / "there")
    with pytest.raises(DataError, match="already"):
        add_to_run(toy_run, [Item("nig1", "Night Train 1")], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_namesakes_get_labels_of_their_own(recommender: Recommender) -> None:
    twin = recommender.with_items([Item("twin", "Night Train 2")])
    assert twin.catalog["twin"].label == "Night Train 2 (2)"
    assert twin.find("Night Train 2") == "nig2"


# Tastes


def axes(words: dict[str, list[float]]) -> Any:
    return lambda texts: np.array([words[text] for text in texts], np.float32).reshape(len(texts), -1)


def test_a_taste_is_compared_with_titles_and_categories() -> None:
    catalog = type(LETTERS).from_items(
        [Item("0", "A", categories=("x", "all")), Item("1", "B", categories=("x", "y", "all")), Item("2", "C")]
        + [Item(str(number), f"D{number}", categories=("all",)) for number in range(3, 30)]
    )
    titles = np.zeros((30, 2), np.float32)
    titles[:3] = [[1, 0], [0, 1], [0.6, 0.8]]
    reader = TasteReader.of(catalog, titles, axes({"x": [0, 1], "y": [1, 0], "now": [1, 0]}))
    # "all" is nearly everybody's and is not asked: the encoder here does not even know it.
    found = reader.similarities(["now"])[0]
    assert found[:4] == pytest.approx([(1 + 0) / 2, (0 + 1) / 2, 0.6, 0.0])


def test_a_new_user_is_served_from_a_sentence(recommender: Recommender) -> None:
    found = recommender.recommend(taste="something like Moon & Sixpence", k=6)
    assert len({entry.item.id for entry in found}) == 6
    assert found[0].item.categories == ("Moon & Sixpence",)
    assert found[0].signals["similarity"] > 0
    assert {entry.how for entry in found} <= {"exact", "taste"}
    assert found[0].item.title in found[0].explanation
    assert "mention" in found[0].explanation  # its category stands in the sentence
    other = recommender.recommend(taste="the red harbour", k=6)
    assert other[0].item.categories == ("Red Harbour",)


def test_a_taste_moves_a_history_and_does_not_replace_it(recommender: Recommender) -> None:
    plain = recommender.recommend(["Night Train 1"], k=30)
    moved = recommender.recommend(["Night Train 1"], k=30, taste="something étoile")  # half a name states nothing
    cafe = [next(entry.rank for entry in found if entry.item.id.startswith("caf")) for found in (plain, moved)]
    assert cafe[1] < cafe[0]
    assert any(entry.item.id.startswith("nig") for entry in moved[:6])


def test_the_sentence_stands_in_the_prompt_and_the_user_does_not(recommender: Recommender) -> None:
    asked = History("user-4711", ("nig1",), taste="long valleys <|im_end|>")
    text = recommender.encoder.tokenizer.decode(recommender.prompt(asked).input_ids)
    assert "long valleys <|im_end|>\n Night Train 1\n" in text
    assert "4711" not in text


def test_tastes_and_histories_side_by_side(recommender: Recommender) -> None:
    asked = [
        History("a", ("nig1",)),
        History("b", (), taste="red harbour"),
        History("c", ()),
        History("d", ("caf1", "caf2"), taste="long valley"),
    ]
    together = recommender.recommend_many(asked, Settings(k=5))
    for one, found in zip(asked, together, strict=True):
        (alone,) = recommender.recommend_many([one], Settings(k=5))
        assert [entry.item.id for entry in alone] == [entry.item.id for entry in found]


def test_a_taste_within_filters(recommender: Recommender) -> None:
    filters = Filters(only=(("category", SERIES[2]),))
    found = recommender.recommend(taste="red harbour", k=6, filters=filters)
    assert {entry.item.categories[0] for entry in found} == {SERIES[2]}
    assert len(found) == 6


def test_what_a_taste_states_is_kept_to_and_said(recommender: Recommender) -> None:
    found = recommender.recommend(["Night Train 1"], taste="no night trains, something like a valley", k=6)
    assert (found.understood, found.released) == ("not Night Train", "")
    assert found.heard() == ["understood: not Night Train"]
    assert "Night Train" not in {entry.item.categories[0] for entry in found}
    # A series has six parts; of seven it says that it could not keep to it, and gives seven.
    more = recommender.recommend(taste="red harbours", k=7)
    assert (len(more), more.understood, more.released) == (7, "", "Red Harbour")
    assert [entry.item.categories for entry in more[:6]] == [("Red Harbour",)] * 6  # what meets it leads
    assert [entry.rank for entry in more] == [1, 2, 3, 4, 5, 6, 7]
    assert more.heard() == ["released, since too few items are such: Red Harbour"]
    plain = recommender.recommend(["Night Train 1"], k=6)
    assert (plain.understood, plain.released, plain.heard()) == ("", "", [])


@pytest.mark.parametrize("taste", [" ", "x" * (LONGEST_TASTE + 1)])
def test_a_taste_is_a_sentence(recommender: Recommender, taste: str) -> None:
    with pytest.raises(DataError, match=f"give a sentence of 1 to {LONGEST_TASTE}"):
        recommender.recommend(taste=taste)


def test_tastes_come_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    lines = [
        {"user": 1, "taste": " quiet\n films "},
        {"user": "2", "items": ["a"], "taste": "x"},
        {"user": "3", "items": []},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = list(open_users(str(path), Path).histories(0, 3))
    assert found == [History("1", (), taste="quiet films"), History("2", ("a",), taste="x"), History("3", ())]
    for wrong, told in (({"user": "1", "taste": 7}, "taste must be text"), ({"user": "1", "taste": "x" * 999}, "999")):
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(DataError, match=rf"line 1: .*{told}"):
            open_users(str(path), Path)


# The command line


@pytest.fixture
def genrec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["genrec", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            run_cli()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, shown.err

    return call


def test_from_new_items_to_filtered_lists(genrec: Any, toy_run: Path, tmp_path: Path) -> None:
    items, users, out = tmp_path / "new.csv", tmp_path / "users.jsonl", tmp_path / "grown"
    items.write_text("sku,name,category\nnig7,Night Train 7,Night Train\nowls,Owls of Delhi,\n", encoding="utf-8")
    code, shown, err = genrec("add-items", "--run", toy_run, "--items", items, "--id-column", "sku", "--out", out)
    assert (code, shown.splitlines()[-1]) == (0, f"2 items added, 32 in all; written to {out}"), err
    users.write_text('{"user": "a", "items": ["nig1"]}\n{"user": "b", "taste": "night train"}\n', encoding="utf-8")
    lists = tmp_path / "lists.jsonl"
    words = ("recommend", "--run", out, "--users", users, "--k", "7", "--out", lists, "--only", "category=night train")
    code, shown, err = genrec(*words, "--diversity", "0.2", "--explain")
    assert code == 0, err
    assert "7 of 32 items pass the filters\n" in shown
    rows = [json.loads(line) for line in lists.read_text(encoding="utf-8").splitlines()]
    own = [f"nig{part}" for part in range(1, 8)]
    assert [sorted(entry["item"] for entry in row["recommendations"]) for row in rows] == [own[1:], own]
    code, _, err = genrec(*words[:-1], "category=Nihgt Train")
    assert (code, "there is, for example: night train" in err) == (2, True)
    code, shown, _ = genrec("show", "--run", out, "--taste", "night train", "--beams", "4")
    assert code == 0
    assert "fitted on" in " ".join(shown.split())
    assert "understood: Night Train" not in shown  # of ten items, six are night trains
    assert "released, since too few items are such: Night Train" in " ".join(shown.split())
    assert "is close to the taste you describe" in " ".join(shown.split())
    code, _, err = genrec("show", "--run", out)
    assert (code, "give --user, or for a new user --taste" in err) == (2, True)


def test_a_file_of_new_items_is_read_like_a_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text('{"id": "x", "title": "X &amp; Y", "genres": ["a", "b"], "year": 1999}\n', encoding="utf-8")
    assert read_catalogue(path, Columns()) == (Item("x", "X & Y", "", ("a", "b"), {"year": "1999"}),)
    path.write_text('{"id": "x", "title": ""}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no title"):
        read_catalogue(path, Columns())
    with pytest.raises(DataError, match="no usable items"):
        read_catalogue(path, Columns(), skip_bad_rows=True)
