"""The report's page as text, and the parts it is made of. What a browser makes of it is in test_report_browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from genrec.data.catalog import Catalog, Item
from genrec.data.findings import Finding
from genrec.data.splits import Case, History
from genrec.errors import ArtefactError
from genrec.evaluation.compare import evaluate_lists
from genrec.evaluation.results import Report
from genrec.report.page import render_report, write_report
from genrec.report.parts import HISTORY_SHOWN, TITLE_LENGTH, LossPoint, ShownItem, loss_points, user_pages

EVIL = """</script><script>alert("x")</script> {{ 7 * 7 }} {% raw %} 'it' & <b>"""
CATALOG = Catalog.from_items(
    [
        Item("evil", EVIL, categories=(EVIL,)),
        Item("a", "Alien", categories=("horror",)),
        Item("b", "Бриллиантовая рука"),
    ]
)
CASES = [Case(History("u1", ("a", "evil")), "b"), Case(History(EVIL, ("b",)), "evil"), Case(History("u3", ("b",)), "a")]
TRAIN = [case.history for case in CASES]
ROWS = [
    {
        "user": "u1",
        "recommendations": [{"rank": 1, "item": "b", "score": -1.5, "signals": {"lm": -2.0}, "how": "exact"}],
    },
    {"user": EVIL, "recommendations": [{"item": "a", "generated": EVIL, "explanation": EVIL}, {"item": "evil"}]},
    {"user": "stranger", "recommendations": [{"item": "a"}]},
]


def evaluate(systems=None, **options):
    systems = systems or {"genrec": [["b"], ["a"], ["a"]], "popularity": [["a"], ["a"], []], EVIL: [["x"], [], ["b"]]}
    options = {"ks": (1, 2), "resamples": 50, "reference": "genrec"} | options
    return evaluate_lists(CASES, systems, catalog=CATALOG, train=TRAIN, **options)


class Page(HTMLParser):
    """Collects a page's elements, and checks on the way that what is opened is closed."""

    VOID = ("meta", "link", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def text_of(self, tag):
        return [text for inside, text in self.texts if inside == tag]


FINDINGS = [
    Finding("equal times", "warning", 12, 0.25, "neighbouring events", (EVIL,), "state the rule"),
    Finding("target in history", "fine", 0, 0.0, "targets"),
]


@pytest.fixture(scope="module")
def text():
    report = evaluate(hows={"genrec": ["exact", "nearest"]}, settings={"dataset": EVIL})
    return render_report(
        report,
        losses=[LossPoint(1, 2.5), LossPoint(2, 2.0, 2.25)],
        findings=FINDINGS,
        users=user_pages(CASES, ROWS, CATALOG),
    )


def test_the_page_is_well_formed_and_asks_for_nothing(text):
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"img", "iframe", "object", "embed"}
        assert not {"src", "srcset", "action", "ping"} & set(attributes), (tag, attributes)
        assert attributes.get("href", "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|url\(|@import", text)


def test_strangers_words_are_escaped_wherever_they_stand(text):
    assert EVIL not in text
    assert "alert(" in text
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 2, "the users' data and the page's own script"
    assert not any(tag == "b" for tag, _ in page.tags)
    assert any("{{ 7 * 7 }}" in heading for heading in page.text_of("h1")), "and come through unchanged"
    assert any(EVIL in name for name in page.text_of("th"))
    assert any(EVIL in example for example in page.text_of("li"))


def test_the_users_data_can_be_read_back(text):
    (data,) = re.findall(r'<script type="application/json" id="user-data">(.*?)</script>', text, flags=re.DOTALL)
    users = json.loads(data)
    assert [user["user"] for user in users] == ["u1", EVIL, "u3"]
    assert users[1]["recommendations"][0]["generated"] == EVIL
    assert users[0]["recommendations"][0]["title"] == "Бриллиантовая рука"
    assert "Бриллиантовая" in data, "not as escapes: the page would be three times as large"


def test_the_policy_names_the_page_s_own_script_and_no_other(text):
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:" in text


def test_every_part_is_there(text):
    page = Page(text)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["results", "curves", "beyond", "slices", "training", "data", "users", "settings"]
    assert sum(tag == "polyline" for tag, _ in page.tags) == 2 * 3 + 1, "curves; one validation loss is no line"
    shown = " ".join(data for _, data in page.texts)
    for words in ("equal times", "12 (25.0%)", "state the rule", "50.0%", "p = "):
        assert words in shown, words


def test_the_report_as_saved_gives_the_same_page():
    report = evaluate()
    saved = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert render_report(saved) == render_report(Report.from_json(saved.to_json()))
    assert Page(render_report(saved)).text_of("td") == Page(render_report(report)).text_of("td")


@pytest.mark.parametrize(
    "report",
    [
        evaluate({"genrec": [["b"], [], []]}),
        evaluate(reference=None),
        evaluate({"genrec": [[], [], []]}, ks=(1,)),
        evaluate({f"system {number}": [["a"]] * 3 for number in range(20)}, reference="system 3"),
    ],
    ids=["one system", "no reference", "nothing right, one K", "more systems than colours"],
)
def test_a_report_with_little_in_it_is_a_page_too(report):
    page = Page(render_report(report))
    assert "training" not in [attributes.get("id") for _, attributes in page.tags]
    assert not any("nan" in text.lower().split() for _, text in page.texts)


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_report(evaluate(), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(ArtefactError, match="cannot write"):
        write_report(evaluate(), tmp_path / "no folder" / "report.html")


def test_half_a_character_does_not_spoil_the_file(tmp_path):
    catalog = Catalog.from_items([Item("a", "broken \ud83d title"), Item("b", "B")])
    cases = [Case(History("u", ("b",)), "a")]
    report = evaluate_lists(cases, {"genrec": [["a"]]}, catalog=catalog, train=[])
    users = user_pages(cases, [{"user": "u", "recommendations": [{"item": "a"}]}], catalog)
    write_report(report, tmp_path / "report.html", users=users)
    assert "broken ? title" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_user_pages_by_hand():
    first, second, third = user_pages(CASES, iter(ROWS), CATALOG)
    assert first.history == ("Alien", EVIL)
    assert first.target == "Бриллиантовая рука"
    assert first.recommendations == (ShownItem(1, "Бриллиантовая рука", True, -1.5, {"lm": -2.0}, how="exact"),)
    assert [item.is_target for item in second.recommendations] == [False, True]
    assert [item.rank for item in second.recommendations] == [1, 2]
    assert third.recommendations == (), "a user without a list is shown, as it is counted"


def test_the_sample_of_users_is_seeded_and_in_order():
    cases = [Case(History(str(user), ("b",) * 20 + ("a",) * HISTORY_SHOWN), "b") for user in range(500)]
    pages = user_pages(cases, [], CATALOG, seed=1)
    assert len(pages) == 200
    assert pages == user_pages(cases, [], CATALOG, seed=1)
    assert pages != user_pages(cases, [], CATALOG, seed=2)
    order = [int(page.user) for page in pages]
    assert order == sorted(order)
    assert order[-1] > 400, "not the first 200"
    assert pages[0].history_length == 50
    assert pages[0].history == ("Alien",) * HISTORY_SHOWN, "the latest of them"


def test_numbers_that_json_lacks_and_endless_titles_are_kept_out():
    catalog = Catalog.from_items([Item("a", "x" * 500), Item("b", "B")])
    entry = {"item": "a", "score": float("-inf"), "signals": {"lm": float("nan"), "content": 1}, "generated": None}
    (page,) = user_pages([Case(History("u", ("gone",)), "b")], [{"user": "u", "recommendations": [entry]}], catalog)
    (item,) = page.recommendations
    assert (item.score, item.signals, item.generated) == (None, {"content": 1.0}, "")
    assert item.title == "x" * (TITLE_LENGTH - 1) + "…"
    assert page.history == ("gone",)


def test_losses_are_read_from_a_trainer_s_log():
    log = [
        {"step": 10, "loss": 2.5, "learning_rate": 1e-4},
        {"step": 10, "eval_loss": 2.75},
        {"step": 20, "loss": float("nan")},
        {"step": 20, "valid_loss": 2.0},
        {"train_runtime": 3.0, "step": 20},
        {"loss": 1.0},
    ]
    assert loss_points(log) == (LossPoint(10, 2.5), LossPoint(10, None, 2.75), LossPoint(20, None, 2.0))
