"""The report as a reader has it: opened in headless Chromium, searched, on a desk and on a phone, light and dark."""

import pytest

from genrec.data.catalog import Catalog, Item
from genrec.data.splits import Case, History
from genrec.evaluation.compare import evaluate_lists
from genrec.report.page import write_report
from genrec.report.parts import loss_points, user_pages
from tests.browser import CHROMIUM, CONTRAST, Browser, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH; install one")

EVIL = (
    """</script><script>window.hacked = 1</script> "quoted" 'and' {{ 7 * 7 }} <img src=x onerror="window.hacked = 1">"""
)


@pytest.fixture(scope="module")
def report_path(tmp_path_factory):
    """A report with 60 users, whose titles try to break out of the page."""
    catalog = Catalog.from_items(
        [Item("evil", EVIL, categories=(EVIL, "drama")), Item("pokemon", "Pokémon", categories=("family",))]
        + [Item(f"i{number}", f"Film number {number}", categories=("drama",)) for number in range(30)]
    )
    cases = [
        Case(History(f"user-{number}", (f"i{number % 30}", "evil")), "pokemon" if number == 7 else "i0")
        for number in range(60)
    ]
    systems = {"genrec": [["pokemon", f"i{n % 9}"] for n in range(60)], "sys </script>": [["i0"]] * 60}
    report = evaluate_lists(cases, systems, catalog=catalog, train=[case.history for case in cases], ks=(1, 2))
    rows = [
        {
            "user": case.history.user,
            "recommendations": [
                {"item": item, "generated": EVIL, "how": "nearest", "signals": {"lm": -1.5, "popularity": float("nan")}}
                | {"explanation": f"Because of {EVIL}"}
                for item in ranked
            ],
        }
        for case, ranked in zip(cases, systems["genrec"], strict=True)
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    losses = loss_points([{"step": step, "loss": 5 / step} for step in range(1, 30)])
    write_report(report, path, losses=losses, users=user_pages(cases, rows, catalog))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def cards(browser):
    return browser.run("document.querySelectorAll('.card').length")


def found(browser):
    return browser.run("document.getElementById('found').textContent")


def test_search_filters_the_users_and_the_console_stays_silent(browser, report_path):
    browser.open(report_path)
    assert (cards(browser), found(browser)) == (20, "60 users")
    browser.run("document.getElementById('query').focus()")
    browser.type("user-7")
    assert (cards(browser), found(browser)) == (1, "1 of 60 users")
    assert "User user-7" in browser.run("document.querySelector('.card').textContent")
    assert browser.run("document.querySelector('.card mark').textContent") == "user-7"
    browser.run("document.getElementById('query').select()")
    browser.type("no such film")
    assert (cards(browser), found(browser)) == (0, "0 of 60 users")
    browser.run("document.getElementById('query').select()")
    browser.type("USER-33 pokemon")
    assert cards(browser) == 1, "case and accents do not matter, and words may stand in any order"
    assert browser.complaints() == []


def test_a_search_can_be_linked_to(browser, report_path):
    browser.open(report_path, "#q=user-12%20pok%C3%A9mon")
    assert (cards(browser), found(browser)) == (1, "1 of 60 users")
    browser.open(report_path, "#q=100%")
    assert found(browser) == "0 of 60 users"
    assert browser.complaints() == []


def test_more_users_and_outcomes(browser, report_path):
    browser.open(report_path)
    browser.run("document.getElementById('more').click()")
    browser.run("document.getElementById('more').click()")
    assert cards(browser) == 60
    assert browser.run("document.getElementById('more').hidden")
    browser.run("outcome.value = 'hit'; outcome.dispatchEvent(new Event('change'))")
    hits = sum(number % 9 == 0 or number == 7 for number in range(60))
    assert found(browser) == f"{hits} of 60 users"
    assert browser.run("document.querySelectorAll('.card li.target').length") == hits
    assert browser.complaints() == []


def test_strangers_words_are_text_and_nothing_more(browser, report_path):
    browser.open(report_path)
    assert browser.run("window.hacked") is None
    assert EVIL in browser.run("document.querySelector('.card .history').textContent")
    assert EVIL in browser.run("document.querySelector('.card .why').textContent")
    assert browser.run("document.querySelectorAll('main img, .card script').length") == 0
    assert browser.run("[...document.querySelectorAll('th.system')].some((th) => th.textContent === 'sys </script>')")
    assert browser.complaints() == []


def test_the_policy_stops_a_script_that_slipped_in(browser, report_path):
    browser.open(report_path)
    browser.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'hacked = 1'}))")
    assert browser.run("window.hacked") is None
    assert browser.complaints(), "and the console says so: what the other tests listen to is heard"


def test_the_list_length_can_be_chosen(browser, report_path):
    browser.open(report_path)
    shown = "[...document.querySelectorAll('#results .figures thead th:not([hidden])')].map((th) => th.textContent)"
    difference = "genrec minus this, NDCG"
    assert browser.run(shown)[1:] == ["HR@2", "NDCG@2", "MRR@2", difference]
    browser.run("document.querySelector('input[name=k-results][value=\"1\"]').click()")
    assert browser.run(shown) == ["System", "HR@1", "NDCG@1", "MRR@1", difference], "and the longer lists are put away"
    assert browser.complaints() == []


def test_a_line_can_be_brought_out(browser, report_path):
    browser.open(report_path)
    browser.run("document.querySelector('.legend button').click()")
    assert browser.run("document.querySelectorAll('#curves .on').length") == 2, "the same system in both charts"
    opacity = "getComputedStyle(document.querySelector('#curves polyline:not(.on)')).opacity"
    until(lambda: float(browser.run(opacity)) < 0.5)
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_hangs_over_the_edge(browser, report_path, width):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    try:
        browser.open(report_path)
        browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("getComputedStyle(document.body).fontSize") == "16px"
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser, report_path, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(report_path)
    assert browser.run("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert browser.run(CONTRAST) == [], "WCAG AA asks for 4.5"


def test_every_control_has_a_name_and_every_table_its_headers(browser, report_path):
    browser.open(report_path)
    nameless = (
        "[...document.querySelectorAll('input, select, button')].filter((e) => !(e.labels?.length || e.textContent))"
    )
    assert browser.run(f"{nameless}.length") == 0
    assert browser.run("[...document.querySelectorAll('table')].every((t) => t.querySelector('th[scope=col]'))")
    assert browser.run("[...document.querySelectorAll('svg')].every((s) => s.ariaHidden || s.ariaLabel)")
    assert browser.run("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")
