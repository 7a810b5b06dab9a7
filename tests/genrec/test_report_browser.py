"""The report as a reader has it: opened in headless Chromium, searched, on a desk and on a phone, light and dark."""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from genrec.data.catalog import Catalog, Item
from genrec.data.splits import Case, History
from genrec.evaluation.compare import evaluate_lists
from genrec.report.page import write_report
from genrec.report.parts import loss_points, user_pages

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on the PATH; install one")

EVIL = (
    """</script><script>window.hacked = 1</script> "quoted" 'and' {{ 7 * 7 }} <img src=x onerror="window.hacked = 1">"""
)
START_WITH_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 90


class Browser:
    """Speaks the DevTools protocol over two pipes: no port, no driver, no further package."""

    def __init__(self, profile):
        commands, self._out = os.pipe()
        self._in, replies = os.pipe()
        # Numbers far from 3 and 4, where Chromium expects its ends.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (commands, replies)]
        switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        switches += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        switches += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START_WITH_PIPES, *map(str, ends), CHROMIUM, *switches, "about:blank"],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in (commands, replies, *ends):
            os.close(end)
        self._number, self._buffer, self._session, self.events = 0, b"", None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (reply := self._read()).get("id") != self._number:
            self.events.append(reply)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def open(self, path, address=""):
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.as_uri() + address)
        until(lambda: self.run("document.readyState") == "complete" and self.run("location.protocol") == "file:")

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def complaints(self):
        """Return what the page logged, threw, or asked of the network."""
        self.run("1")  # what happened before has been reported when this returns
        loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        found = [event for event in self.events if event["method"] in loud]
        requests = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in requests]
        return found + [url for url in urls if not url.startswith(("file:", "data:", "about:"))]

    def close(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _read(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            read = os.read(self._in, 1 << 20) if ready else b""
            assert read, f"Chromium gave no answer within {PATIENCE} s, or ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.02)


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


CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] / 255 + below[i] * (1 - top[3] / 255));
  const background = (node) => {
    if (!node) return [255, 255, 255];
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] === 255 ? own.slice(0, 3) : over(own, background(node.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((p) => p / 255).map((p) => p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!says || !node.checkVisibility() || node.closest("script")) continue;
    const style = getComputedStyle(node);
    const own = light(rgba(node.closest("svg") ? style.fill : style.color)), below = light(background(node));
    const contrast = (Math.max(own, below) + 0.05) / (Math.min(own, below) + 0.05);
    if (contrast < 4.5) poor.push(`${node.tagName} ${node.className} ${contrast} ${node.textContent.slice(0, 30)}`);
  }
  return poor;
})()
"""


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
