"""``pysync serve`` as a process: what it says to Prometheus, to programs, and of old data."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from email.message import Message
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from pysync.watching.serving.connections import REQUEST_SECONDS
from pysync.watching.status.document import schema
from tests.acceptance.test_cli_process import (
    Fork,
    OwnCluster,
    assert_refused,
    cli,
    launch,
    read_json,
)
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.conftest import PORTALS
from tests.support import PORTAL_TEMPLATE, Site, drop_slot, enroll, eventually, insert_user

pytestmark = pytest.mark.newest("HTTP, and formats of ours")

SCHEMA = jsonschema.Draft202012Validator(
    schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
STOP_SECONDS = 10


@contextmanager
def serving(portal: str, *arguments: str) -> Iterator[tuple[str, Fork]]:
    """Run ``pysync serve`` on a free port; gives its URL without a slash at the end."""
    with launch("serve", "--listen", "127.0.0.1:0", *arguments, portal=portal) as process:
        line = process.stdout.readline()
        found = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+)/ until stopped\n", line)
        try:
            assert found, line or process.communicate(timeout=5)
            yield found[1], process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_SECONDS)
            finally:
                process.kill()


def get(url: str, **headers: str) -> tuple[int, str, Message]:
    """Return status, body and headers of a response."""
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        body = response.read()
        if response.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return response.status, body.decode(), response.headers


def await_health(url: str, status: int) -> str:
    """Wait until the server says that it is well, or not; returns what it says."""
    return str(eventually(lambda: (got := get(f"{url}/healthz"))[0] == status and got[1]))


@pytest.fixture
def courses(site: Site) -> Site:
    """Two courses, one of which has lost its slot, and a slot that belongs to none."""
    site.add("good")
    site.add("lost {it's}")
    alter_subscription(site, "lost {it's}", "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "lost {it's}"))
    return site


def test_a_server_says_what_status_says(courses: Site) -> None:
    secret = "wHisperEd"
    portal = make_conninfo(courses.portal, password=secret)
    with serving(portal, "--interval", "0.5") as (url, process):
        assert await_health(url, 200) == "ok\n"
        status, body, headers = get(f"{url}/api/status")
        document = json.loads(body)
        SCHEMA.validate(document)
        expected = read_json("status", portal=portal)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert document.keys() == expected.keys()
        assert [(each["course_id"], each["state"], each["remedy"]) for each in document["courses"]] == [
            (each["course_id"], each["state"], each["remedy"]) for each in expected["courses"]
        ]  # fmt: skip

        # Marks go on: the lag of a course that streams stays small, and reports are new ones.
        mark = courses.one("select number from course.mark where course_id = 'good'")
        eventually(
            lambda: (
                courses.one("select number from course.mark where course_id = 'good'") > mark + 1
            )
        )
        eventually(lambda: json.loads(get(f"{url}/api/status")[1])["at"] > document["at"])

        whole = json.loads(get(f"{url}/api/page", **{"Accept-Encoding": "gzip"})[1])
        assert whole["error"] is None
        assert whole["report"]["courses"][0]["course_id"] == "good"
        history = whole["history"]
        assert 1 <= len(history["numbers"]) <= 2
        assert all(0 <= lag < 5 for lag in history["lags"]["good"])
        later = json.loads(get(f"{url}/api/page?since={history['now'] + 1}")[1])["history"]
        assert [number for number in later["numbers"] if number <= history["now"]] == []
        for nonsense in ("-1", "x", "%D9%A3", "1" * 5000):
            assert get(f"{url}/api/page?since={nonsense}")[0] == 200

        for path in ("/", "/api/status", "/api/page", "/metrics", "/healthz", "/nope"):
            status, body, headers = get(url + path)
            assert status == (404 if path == "/nope" else 200)
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
            assert "http" not in headers["Content-Security-Policy"]
            assert "Server" not in headers
            assert secret not in body
        request = urllib.request.Request(f"{url}/", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=10)

        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=STOP_SECONDS)
        assert (process.returncode, out, err) == (0, "", "")


def series(text: str) -> dict[str, set[str]]:
    """Return the labels of each metric in Prometheus' text."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def used(expression: str) -> list[tuple[str, set[str]]]:
    """Return the metrics of a PromQL expression, each with its selector's and groups' labels."""
    groups: set[str] = set()
    for group in re.findall(r"\b(?:by|without|on|ignoring|group_left)\s*\(([^)]*)\)", expression):
        groups |= {each.strip() for each in group.split(",") if each.strip()}
    found = []
    for metric, selector in re.findall(r"\b(pysync_\w+)\s*(\{[^}]*\})?", expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector))
        found.append((metric, labels | groups))
    assert found, f"no metric of ours in: {expression}"
    return found


def monitoring_file(name: str) -> str:
    return (
        resources.files("pysync.watching.serving.monitoring")
        .joinpath(name)
        .read_text(encoding="utf-8")
    )


def dashboard_expressions() -> Iterator[str]:
    dashboard = json.loads(monitoring_file("grafana-dashboard.json"))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(
                r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
            ).groups()  # type: ignore[union-attr]
            yield f"count by ({label}) ({metric})"
    panels = dashboard["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    for panel in panels:
        for target in panel["targets"]:
            yield target["expr"]
            for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                yield f"sum by ({label}) ({target['expr']})"


def alert_expressions() -> Iterator[str]:
    rules = yaml.safe_load(monitoring_file("alert-rules.yml"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            yield rule["expr"]
            for text in rule["annotations"].values():
                for label in re.findall(r"\$labels\.(\w+)", text):
                    # What follows only selects: labels are those of the left side.
                    yield f"sum by ({label}) ({rule['expr'].partition(' and on ')[0]})"


def test_dashboard_and_alerts_ask_for_what_is_there(courses: Site) -> None:
    # A slot of our name without a course gives the series of orphans.
    with courses.connect() as portal:
        portal.execute(
            "select pg_create_logical_replication_slot('pysync_nobodys_0000000000', 'pgoutput')"
        )
    with serving(courses.portal) as (url, _):
        await_health(url, 200)
        _, text, headers = get(f"{url}/metrics")
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        there = series(text)
        assert get(f"{url}/grafana-dashboard.json")[1] == monitoring_file("grafana-dashboard.json")
        assert get(f"{url}/alert-rules.yml")[1] == monitoring_file("alert-rules.yml")
    assert there["pysync_up"] == set()
    assert there["pysync_lag_seconds"] == {"slot_name", "course_id"}
    wrong = [
        (expression, name)
        for expression in (*dashboard_expressions(), *alert_expressions())
        for name, labels in used(expression)
        if name not in there or labels - there[name] - {"job", "instance", "le"}
    ]
    assert wrong == []
    assert {"pysync_up", "pysync_state", "pysync_lag_seconds"} <= {
        name for each in alert_expressions() for name, _ in used(each)
    }


@pytest.fixture
def own_portal(major: int, folder: Path, course_server: Any) -> Iterator[tuple[OwnCluster, Site]]:
    """A portal on a server that a test may stop."""
    cluster = OwnCluster.start(major, folder, "own-portal", PORTALS)
    site = Site(cluster, course_server, cluster.create("portal", PORTAL_TEMPLATE))
    yield cluster, site
    site.close()
    cluster.server.stop()


def test_a_portal_that_is_down_makes_no_old_data_pass_for_new(
    own_portal: tuple[OwnCluster, Site],
) -> None:
    cluster, site = own_portal
    site.add("A")
    with serving(site.portal, "--interval", "0.5") as (url, process):
        await_health(url, 200)
        before = json.loads(get(f"{url}/api/page")[1])
        cluster.server.stop()
        # A report that was under way may say that it lost its connection.
        eventually(lambda: "can't be reached" in await_health(url, 503))
        page = json.loads(get(f"{url}/api/page")[1])
        assert "can't be reached" in page["error"]["message"]
        assert page["error"]["remedy"]
        assert page["report"]["courses"][0]["course_id"] == "A"
        assert page["report"]["at"] >= before["report"]["at"]
        status, body, _ = get(f"{url}/api/status")
        assert (status, json.loads(body).keys()) == (503, {"version", "error"})
        assert "pysync_up 0.0" in get(f"{url}/metrics")[1]
        assert series(get(f"{url}/metrics")[1]).keys() == {"pysync_up"}
        cluster.server.start()
        await_health(url, 200)
        # One that doesn't answer at all is given up, or its report grows old.
        with cluster.frozen():
            said = await_health(url, 503)
            assert re.search(r"timeout expired|report is \d+ s old", said)
            assert "pysync_up 0.0" in get(f"{url}/metrics")[1]
        await_health(url, 200)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=STOP_SECONDS)
        assert process.returncode == 0
        lines = [line.partition("Z ")[2] for line in err.splitlines()]
        of_reports = [line for line in lines if "course" not in line]
        assert lines[0].startswith("ERROR no report: database ")
        assert of_reports[-1] == "WARNING reports are made again"
        assert "Traceback" not in err


def test_a_server_starts_and_stops_without_its_portal() -> None:
    nowhere = "host=127.0.0.1 port=1 dbname=none password=wHisperEd"
    with serving(nowhere) as (url, process):
        assert "can't be reached" in eventually(
            lambda: (said := get(f"{url}/healthz")[1]) != "there is no report yet" and said
        )
        assert get(f"{url}/")[0] == 200
        assert "wHisperEd" not in get(f"{url}/")[1]
        process.terminate()
        _, err = process.communicate(timeout=STOP_SECONDS)
        assert process.returncode == 0
        assert "wHisperEd" not in err


def test_half_requests_and_other_sites_pages_get_nothing() -> None:
    """The rest, with shorter deadlines, is in tests/unit/test_serving.py."""
    nowhere = "host=127.0.0.1 port=1 dbname=none"
    with serving(nowhere, "--host", "pysync.example.org") as (url, process), ExitStack() as stack:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        peers = [stack.enter_context(socket.create_connection(address)) for _ in range(230)]
        for peer in peers:
            with suppress(ConnectionError):  # it may have given way already
                peer.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1")
        assert get(f"{url}/")[0] == 200
        for peer in peers:
            peer.settimeout(REQUEST_SECONDS + 5)
            with suppress(ConnectionError):
                assert peer.recv(1) == b""
        assert get(url, Host="rebound.example")[0] == 421
        assert get(url, Host="pysync.example.org")[0] == 200
        assert get(f"{url}/api/page", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=STOP_SECONDS)[1]


@pytest.mark.parametrize(
    "listen", ["9543", ":9543", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x"]
)
def test_an_address_that_is_none_is_wrong_usage(listen: str) -> None:
    result = cli("serve", "--listen", listen, portal="host=127.0.0.1 port=1")
    assert (result.returncode, result.stdout) == (2, "")
    assert "HOST:PORT" in result.stderr


def test_an_address_that_cannot_be_had_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        result = cli("serve", "--listen", where, portal="host=127.0.0.1 port=1")
        assert_refused(result, where, "in use", "--listen")
    for where in ("192.0.2.1:0", "no-such-host.invalid:0"):
        assert_refused(
            cli("serve", "--listen", where, portal="host=127.0.0.1 port=1"), where, "--listen"
        )
    assert_refused(cli("serve"), "portal isn't named")
    assert_refused(cli("serve", portal="no conninfo"), "can't be parsed")


def test_whoever_listens_elsewhere_is_warned() -> None:
    process = launch("serve", "--listen", "0.0.0.0:0", portal="host=127.0.0.1 port=1")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, err = process.communicate(timeout=STOP_SECONDS)
    assert "warning: whoever reaches 0.0.0.0:" in err
    assert "no login" in err


@pytest.mark.newest("what the server of the page does")
def test_a_difference_is_found_in_the_background_and_stays_told_until_it_is_mended(
    site: Site,
) -> None:
    site.add("A")
    enroll(site, insert_user(site, "ada"), "A")
    site.wait()
    with site.course("A") as course, course.transaction():
        course.execute("set local session_replication_role = replica")
        course.execute("update course.auth_user set email = 'written@past.the.guard'")
    arguments = ("--interval", "0.5", "--verify-every", "1s", "--verify-share", "1")
    with serving(site.portal, *arguments) as (url, _):

        def told() -> dict[str, Any]:
            await_health(url, 200)
            (found,) = json.loads(get(f"{url}/api/status")[1])["courses"]
            return dict(found)

        found = eventually(lambda: each if (each := told())["state"] == "drifted" else None)
        assert found["differences"] == 1
        assert "1 rows differed" in found["cause"]
        assert found["commands"] == ["pysync repair A"]
        assert 'pysync_verify_differences{course_id="A"' in get(f"{url}/metrics")[1]
        assert cli("repair", "A", portal=site.portal).returncode == 0
        eventually(lambda: told()["state"] == "streaming")
        # A row that is gone is noticed when a change meets none, where that is counted.
        with site.course("A") as course, course.transaction():
            course.execute("set local session_replication_role = replica")
            course.execute("delete from course.student_courseenrollment")
            course.execute("delete from course.auth_user")
        site.execute("update auth_user set email = 'of nobody@example.org'")
        eventually(lambda: told()["state"] == "drifted")
        assert cli("repair", "A", portal=site.portal).returncode == 0
        eventually(lambda: told()["state"] == "streaming")


def test_verifying_in_the_background_is_asked_for_by_a_time() -> None:
    for wrong in ("1w", "-1", "", "1.5h"):
        result = cli("serve", "--verify-every", wrong, portal="dbname=x")
        assert result.returncode == 2
        assert f"'{wrong}' isn't a time such as 90s" in " ".join(result.stderr.split())
