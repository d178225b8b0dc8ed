"""The page in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pysync.findings import Finding
from pysync.types import CourseId
from pysync.watching.serving.page import live_page, static_page
from pysync.watching.serving.watch import BUCKET_SECONDS, BUCKETS, Known
from pysync.watching.status import State, report
from tests.acceptance.browser import Page, page
from tests.acceptance.test_cli_process import succeed
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.acceptance.test_serve import await_health, get, serving
from tests.support import Cluster, Site, drop_slot, eventually

pytestmark = pytest.mark.newest("a browser")

__all__ = ["page"]


HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">{{data}}&amp;'\u202e\n"
SHOWN_HOSTILE = HOSTILE.replace("\u202e", "\\u202e").replace("\n", "\\u000a")
PHONE = 360


@pytest.fixture(scope="module")
def courses(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """Courses of several states, one with an id that is HTML, and a slot that belongs to none."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    for course_id in ("good", HOSTILE, "paused", "lost"):
        site.add(course_id)
    for course_id in ("paused", "lost"):
        alter_subscription(site, course_id, "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "lost"))
        portal.execute(
            "select pg_create_logical_replication_slot('pysync_nobodys_0000000000', 'pgoutput')"
        )
    site.execute(
        "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
        " replication_role) values (repeat('x', 255), 'unused', 'host=127.0.0.1 port=1', '', '')"
    )
    yield site
    site.close()


@pytest.fixture(scope="module")
def url(courses: Site) -> Iterator[str]:
    with serving(courses.portal, "--interval", "0.5") as (url, _):
        await_health(url, 200)
        yield url


EXPECTED = {
    "lost": "✕ lost",
    "x" * 255: "? unreachable",
    "paused": "‖ paused",
    SHOWN_HOSTILE: "✓ streaming",
    "good": "✓ streaming",
}


def test_every_course_is_shown_with_state_cause_and_remedy(page: Page, url: str) -> None:
    page.open(url)
    eventually(lambda: list(page.states().items()) == list(EXPECTED.items()))
    assert page.text("#summary") == "3 of 5 courses need attention; 1 object belongs to none"
    assert page.text("#news") == page.text("#summary")
    assert "slot is missing on the portal" in page.text("#courses > li .cause")
    assert "pysync resync lost" in page.text("#courses > li .remedy")
    assert "never" in page.text("#courses > li dl")
    assert "pysync_nobodys_0000000000" in page.text("#orphans")
    assert page.run("return document.title") == "(4) pysync"
    assert page.run("return document.querySelectorAll('#courses img').length") == 0
    good = "#courses > li[data-state=streaming]"
    assert re.search(r"lag\n\d\.\d\d s", page.text(good))
    assert re.fullmatch(r"lag, 1 h: max \d+.* s", page.text(f"{good} figcaption"))
    label = page.run(
        "return document.querySelector(arguments[0]).getAttribute('aria-label')", f"{good} svg"
    )
    assert re.fullmatch(r"Lag over the last hour: now \d.*, at most \d.* s", label)
    assert not page.shows("#notice")
    links = page.run("return [...document.querySelectorAll('#links a')].map((each) => each.href)")
    assert [get(each)[0] for each in links] == [200] * 4
    page.picture("light")

    # It goes on by itself, and asks nobody but its own server.
    page.run(
        "window.changes = 0;"
        "new MutationObserver(() => window.changes++).observe("
        "  document.querySelector('#courses > li:last-child dl'), {subtree: true, childList: true,"
        "  characterData: true})"
    )
    eventually(lambda: page.run("return window.changes") > 2)
    asked = page.requests()
    assert any(each.startswith(f"{url}/api/page?since=") for each in asked)
    assert [each for each in asked if not each.startswith(f"{url}/")] == []
    assert page.complaints() == []


def test_a_state_that_changes_is_shown_and_told(page: Page, url: str, courses: Site) -> None:
    page.open(url)
    page.run("document.querySelector('#states button').focus()")
    alter_subscription(courses, "good", "disable")
    eventually(lambda: page.states()["good"] == "‖ paused")
    eventually(lambda: "good is paused. " in page.text("#news"))
    assert page.text("#summary").startswith("4 of 5 courses need attention; ")
    assert list(page.states())[2:4] == ["good", "paused"]
    alter_subscription(courses, "good", "enable")
    eventually(lambda: page.states() == EXPECTED)


def test_the_filter_takes_words_and_states(page: Page, url: str) -> None:
    page.open(url)
    for words, expected in {
        "LOST": ["lost"],
        "slot missing": ["lost"],
        "paused subscription": ["paused"],
        "<img": [SHOWN_HOSTILE],
        "nothing like it": [],
        "": list(EXPECTED),
    }.items():
        page.filter(words)
        assert list(page.states()) == expected
    page.run("document.querySelector('#states [data-state=streaming]').click()")
    assert list(page.states()) == [SHOWN_HOSTILE, "good"]
    assert page.text("#shown") == "2 of 5 shown"
    page.filter("xyz")
    assert page.text("#none") == "No course fits the filter."
    pressed = "return [...document.querySelectorAll('[aria-pressed=true]')].map((e) => e.innerText)"
    assert page.run(pressed) == ["streaming 2"]


def test_a_phone_shows_everything_without_scrolling_sideways(page: Page, url: str) -> None:
    page.open(url, width=PHONE)
    assert page.run("return window.innerWidth") == PHONE
    eventually(lambda: page.states() == EXPECTED)
    assert page.overflow() <= 0
    page.picture("phone")


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of an element's text with what is behind it, as WCAG has it."""
    found = page.run(
        """
        const element = document.querySelector(arguments[0]);
        let behind = element;
        const transparent = "rgba(0, 0, 0, 0)";
        while (getComputedStyle(behind).backgroundColor === transparent) behind = behind.parentElement;
        const light = (color) => color.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const both = [light(getComputedStyle(element).color),
          light(getComputedStyle(behind).backgroundColor)].sort((a, b) => b - a);
        return (both[0] + 0.05) / (both[1] + 0.05)
        """,
        selector,
    )
    return float(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_in_the_dark(page: Page, url: str, scheme: str) -> None:
    page.open(url, scheme=scheme)
    back = page.run("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", back)[:3])) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60
    for selector in (
        *("#summary", "#fresh", "#shown", ".cause", "dt", "dd", "figcaption"),
        *(f"[data-tone={tone}] .state" for tone in ("bad", "warn", "good")),
        *("#states button", "#states [aria-pressed=true]"),
    ):
        assert contrast(page, selector) >= 4.5, selector
    page.picture(scheme)


def test_a_screen_reader_finds_its_way(page: Page, url: str) -> None:
    page.open(url)
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored")
    ]
    assert ("heading", "pysync") in named
    assert [name for role, name in named if role == "heading"][-5:] == [
        f"{each}" for each in EXPECTED
    ]
    assert ("searchbox", "Filter by id, state or cause") in named
    images = [name for role, name in named if role == "image"]
    assert len(images) == 5
    assert all(name.startswith("Lag over the last hour: ") for name in images)
    assert any(role == "status" for role, _ in named)
    assert ("button", "all 5") in named


def test_old_data_is_called_old(page: Page, courses: Site) -> None:
    with serving(courses.portal, "--interval", "0.5") as (url, process):
        await_health(url, 200)
        page.open(url)
        assert not page.shows("#notice")
        with psycopg.connect(courses.portal_server.conninfo(), autocommit=True) as server:
            name = conninfo_to_dict(courses.portal)["dbname"]
            allow = 'alter database "{}" with allow_connections {}'
            server.execute(allow.format(name, "false").encode())
            try:
                eventually(lambda: page.shows("#notice"))
                assert "What is shown is" in page.text("#notice")
                assert "not currently accepting connections" in page.text("#notice")
                assert page.text("#news") == "The data is old."
                assert page.states().keys() == EXPECTED.keys()
                page.picture("old")
            finally:
                server.execute(allow.format(name, "true").encode())
        eventually(lambda: not page.shows("#notice"))
        process.terminate()
        process.wait(10)
        eventually(lambda: page.shows("#notice"))
        assert page.text("#notice").startswith("This page can't reach pysync serve.")


def test_the_page_as_a_file_shows_the_same(page: Page, courses: Site, tmp_path: Path) -> None:
    file = tmp_path / "status.html"
    html = succeed("status", "--format", "html", portal=courses.portal)
    assert html.isascii()  # whatever the encoding of a file is, it is the same page
    file.write_text(html)
    page.open(file.as_uri(), width=PHONE)
    assert list(page.states().items()) == list(EXPECTED.items())
    assert page.overflow() <= 0
    assert re.fullmatch(
        r"Snapshot of .*, \d+ s old; it doesn't refresh itself", page.text("#fresh")
    )
    assert not page.shows("#notice")
    assert not page.shows("figure")
    assert page.requests() == {file.as_uri()}
    assert page.complaints() == []


def test_figures_are_for_people(page: Page, courses: Site, tmp_path: Path) -> None:
    found = report(courses.portal, CourseId("good"))
    each = replace(
        found.courses[0],
        state=State.COPYING,
        copied_percent=41.7,
        verified_at=found.at - timedelta(hours=5),
        differences=3,
        seconds_to_loss=7200,
        retained_wal_bytes=3 * 1024**3 // 2,
        apply_errors=2,
        sync_errors=1,
        conflicts=4,
        relay=CourseId("relay:north"),
        drift=(Finding("table <b>", "lacks it", "add it"), Finding("trigger t", "is off", "do")),
    )
    file = tmp_path / "status.html"
    relay = replace(found.courses[0], course_id=CourseId("relay:north"))
    file.write_text(static_page(replace(found, courses=[each, relay])))
    page.open(file.as_uri())
    assert page.text("#failover") == ""
    assert page.states() == {"good": "\u2193 copying 42 %", "relay:north": "\u2713 streaming"}
    assert page.text("#summary") == "1 course and 1 relay, all well"
    shown = page.text("#courses dl").split("\n")
    figures = dict(zip(shown[::2], shown[1::2], strict=True))
    assert figures["verified"] == "5 h ago, 3 differ"
    assert figures["WAL kept"] == "1.5 GiB, lost in 2 h"
    assert figures["errors"] == "3, 4 conflicts"
    assert (figures["tables"], figures["slot"]) == ("4 of 4", "active")
    assert figures["by way of"] == "relay:north"
    page.run("document.querySelector('#courses summary').click()")
    assert page.text("#courses details").split("\n")[1:] == [
        "table <b> lacks it; add it",
        "trigger t is off; do",
    ]
    assert not page.shows("#links")
    # Where the portal has standbys.
    each = replace(each, failover_ready=False, failover_cause="its slot is missing")
    file.write_text(static_page(replace(found, courses=[each], standbys=1)))
    page.open(file.as_uri())
    told = "failover: good would stop if the portal's server died now: its slot is missing; run:"
    assert page.text("#failover").split("\n") == [told, "pysync doctor"]


def test_an_hour_of_lag_is_drawn(page: Page, courses: Site, tmp_path: Path) -> None:
    found = report(courses.portal)
    known, now = Known(5), time.monotonic()
    for number in range(BUCKETS + 20):
        at = now - (BUCKETS + 19 - number) * BUCKET_SECONDS
        lag = None if 60 <= number < 70 else 0.02 if number < 110 else float(number - 100)
        each = replace(
            found, courses=[replace(course, lag_seconds=lag) for course in found.courses]
        )
        known = known.with_report(each, at, at)
    file = tmp_path / "live.html"
    file.write_text(live_page(known))
    page.open(file.as_uri())
    svg = "#courses > li[data-state=streaming] svg"
    line, gaps, label = page.run(
        "const svg = document.querySelector(arguments[0]); return ["
        "...['line', 'gaps'].map((name) => svg.querySelector('.' + name).getAttribute('d')),"
        "svg.getAttribute('aria-label')]",
        svg,
    )
    assert len(known.history) == BUCKETS
    assert line.count("M") == 2
    assert line.count("M") + line.count("L") == BUCKETS - 10
    assert gaps.count("M") == 10
    assert label == "Lag over the last hour: now 39 s, at most 39 s, unknown at times"
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    assert heights[0] > 32
    assert heights[-1] == min(heights) == 2.5
    page.picture("hour")


@pytest.fixture
def crowded(site: Site) -> Site:
    """A portal of 500 courses whose databases nobody knows, some half removed."""
    site.execute(
        "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
        " replication_role, fans_out) select 'Uni/' || i || '/2026', 'unused_' || i, '', '', '',"
        " i % 10 <> 0 from generate_series(1, 500) as i"
    )
    return site


def test_500_courses_are_shown_and_filtered_at_once(page: Page, crowded: Site) -> None:
    with serving(crowded.portal, "--interval", "1") as (url, _):
        await_health(url, 200)
        page.open(url, width=PHONE)
        states = list(page.states().values())
        assert states == ["? unreachable"] * 450 + ["… incomplete"] * 50
        assert page.overflow() <= 0
        milliseconds = page.run(
            "const began = performance.now(); const box = document.getElementById('words');"
            "box.value = 'uni/42'; box.dispatchEvent(new Event('input'));"
            "document.body.getBoundingClientRect(); return performance.now() - began"
        )
        assert len(page.states()) == 11
        assert milliseconds < 1000
        # A refresh changes what is there; nothing is made anew.
        page.run(
            "window.made = 0; new MutationObserver((all) => { for (const each of all)"
            " window.made += each.addedNodes.length + each.removedNodes.length })"
            ".observe(document.getElementById('courses'), {childList: true})"
        )
        crowded.execute("update pysync.course set fans_out = true where course_id = 'Uni/420/2026'")
        eventually(lambda: page.states()["Uni/420/2026"] == "? unreachable")
        assert page.run("return window.made") <= 2
        assert page.complaints() == []
        page.filter("")
        page.picture("crowded")
