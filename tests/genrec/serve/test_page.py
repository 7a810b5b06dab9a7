"""The page as somebody has it: in headless Chromium, by mouse and keyboard, in two languages, on a desk and a phone."""

import pytest

from genrec import Item, Recommender
from genrec.data.prepared import load_prepared
from genrec.serve.app import create_app
from genrec.serve.sql_store import open_store
from tests.browser import CHROMIUM, CONTRAST, Browser, until
from tests.genrec.serve.test_clients import listening

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH; install one")

EVIL = """</script><script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1"> {{ 7 * 7 }}"""


@pytest.fixture(scope="module")
def address(toy_run, toy_data, tmp_path_factory):
    data = load_prepared(toy_data)
    store = open_store(str(tmp_path_factory.mktemp("page") / "store.db"))
    store.fill(data.catalog.items, data.histories)
    recommender = Recommender.from_pretrained(toy_run, "cpu", "fp32").with_items([Item("evil", EVIL)])
    with listening(create_app(recommender, store)) as address:
        yield address + "/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, address):
    browser.visit(address)
    until(lambda: titles(browser))
    return browser


def titles(browser):
    return browser.run("[...document.querySelectorAll('#list h3')].map((node) => node.firstChild.textContent)")


def history(browser):
    return browser.run("[...document.querySelectorAll('#history span')].map((node) => node.textContent)")


def search_and_take(browser, words, title):
    browser.run("document.getElementById('query').focus(); document.getElementById('query').value = ''")
    browser.type(words)
    wanted = f"[...document.querySelectorAll('#found button')].find((node) => node.textContent === {title!r})"
    until(lambda: browser.run(f"{wanted} !== undefined"))
    browser.run(f"{wanted}.click()")
    until(lambda: title in history(browser))


def test_a_history_is_put_together_and_the_list_follows(page):
    popular = titles(page)
    assert len(popular) == 10
    search_and_take(page, "harbour 1", "Red Harbour 1")
    search_and_take(page, "harbour 2", "Red Harbour 2")
    until(lambda: titles(page)[0] == "Red Harbour 3")
    assert "Red Harbour" in page.run("document.querySelector('#list .why').textContent")
    said = page.run("[...document.querySelectorAll('#list li:first-child th')].map((node) => node.textContent)")
    assert {"language model", "popularity"} <= set(said)
    assert page.run("document.querySelectorAll('#list .moved').length") > 0, "what moved is marked"
    page.run("document.querySelector('#list .take').click()")
    until(lambda: len(history(page)) == 3)
    until(lambda: titles(page)[0] == "Red Harbour 4")
    page.run("document.querySelector('#history button').click()")
    until(lambda: history(page) == ["Red Harbour 2", "Red Harbour 3"])
    assert page.complaints() == []


def test_an_event_of_a_user_is_stored(page, address):
    page.run("document.getElementById('user').focus()")
    page.type("visitor 1")
    search_and_take(page, "sixpence 1", "Moon & Sixpence 1")
    page.visit(address)
    until(lambda: titles(page))
    assert history(page) == []
    page.run("document.getElementById('user').focus()")
    page.type("visitor 1")
    until(lambda: history(page) == ["Moon & Sixpence 1"])
    assert page.complaints() == []


def test_a_taste_is_said(page):
    before = titles(page)
    page.run("document.getElementById('taste').focus()")
    page.type("the long valley")
    until(lambda: titles(page) != before)
    assert page.complaints() == []


def test_it_speaks_chinese(page):
    search_and_take(page, "train 1", "Night Train 1")
    page.run("document.getElementById('language').click()")
    until(lambda: "您" in page.run("document.querySelector('#list .why').textContent"))
    assert page.run("document.documentElement.lang") == "zh"
    assert page.run("document.getElementById('you').textContent") == "您"
    assert page.complaints() == []


def test_it_works_by_keyboard_alone(page):
    page.run("document.getElementById('query').focus()")
    page.type("valley 1")
    until(lambda: page.run("document.querySelectorAll('#found button').length") == 1)
    page.press("Tab", code="Tab", windowsVirtualKeyCode=9)
    assert page.run("document.activeElement.textContent") == "The Long Valley 1"
    page.press("Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    until(lambda: history(page) == ["The Long Valley 1"])
    assert page.run("document.activeElement.id") == "query"
    nameless = "[...document.querySelectorAll('input, button')].filter((e) => !(e.labels?.length || e.textContent))"
    assert page.run(f"{nameless}.length") == 0


def test_strangers_words_are_text_and_nothing_more(page):
    page.run("document.getElementById('query').focus()")
    page.type("</script>")
    until(lambda: page.run("document.querySelectorAll('#found button').length") == 1)
    assert page.run("document.querySelector('#found button').textContent") == EVIL
    page.run("document.querySelector('#found button').click()")
    until(lambda: history(page) == [EVIL])
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.complaints() == []
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'hacked = 1'}))")
    assert page.run("window.hacked") is None, "and the policy would stop one that slipped in"
    assert page.complaints() != []


def test_what_went_wrong_is_said(page):
    page.run("document.getElementById('taste').maxLength = 1000; document.getElementById('taste').focus()")
    page.type("x" * 400)
    until(lambda: page.run("document.getElementById('status').className") == "wrong")
    assert "300" in page.run("document.getElementById('status').textContent")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_it_fits_and_stands_out(page, width, scheme):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        search_and_take(page, "harbour 1", "Red Harbour 1")
        page.run("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(CONTRAST) == [], "WCAG AA asks for 4.5"
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", features=[])
