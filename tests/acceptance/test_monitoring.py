"""What monitoring reads: ``status --check``, Prometheus, the view, ``doctor``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.migrate import head_revision
from pysync.migrate.lineage import PORTAL
from pysync.types import CourseId
from pysync.watching.status import report
from pysync.watching.status.document import schema
from tests.acceptance.test_cli_process import (
    OwnCluster,
    cli,
    read_json,
    succeed,
)
from tests.acceptance.test_cli_status import alter_subscription, replication_name
from tests.support import (
    Cluster,
    Site,
    as_role,
    drop_slot,
    enroll,
    eventually,
    insert_user,
    missing,
)

pytestmark = pytest.mark.newest("formats of ours")

PERFORMANCE = re.compile(r"'(?:[^']|'')+'=(\d+(\.\d+)?(B|s|c)|U);[\d.]*;[\d.]*;0")


@pytest.fixture(scope="module")
def courses(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """Three courses, which stay so: one streams, one is paused, one has lost its slot."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    for course_id in ("good", "it's = paused", "lost"):
        site.add(course_id)
    for course_id in ("it's = paused", "lost"):
        alter_subscription(site, course_id, "disable")
    with site.connect() as portal:
        drop_slot(portal, replication_name(site, "lost"))
    yield site
    site.close()


@contextmanager
def watching(site: Site) -> Iterator[str]:
    """Make a role without rights."""
    site.execute("create role watcher login")
    yield "watcher"
    site.execute("drop owned by watcher")
    site.execute("drop role watcher")


@pytest.fixture
def watcher(courses: Site) -> Iterator[str]:
    """A role that has no rights on the portal of the three courses."""
    with watching(courses) as role:
        yield role


@pytest.fixture
def role(site: Site) -> Iterator[str]:
    """A role without rights on a portal without courses."""
    with watching(site) as role:
        yield role


def check(site: Site, *arguments: str) -> tuple[int, str]:
    """Run a check; returns its status and its line."""
    result = cli("status", "--check", *arguments, portal=site.portal)
    assert result.stderr == ""
    (line,) = result.stdout.splitlines()
    return result.returncode, line


def test_check_is_a_nagios_plugin(courses: Site) -> None:
    status, line = check(courses)
    assert status == 2
    said, _, performance = line.partition(" | ")
    assert said == (
        "PYSYNC CRITICAL - 2 of 3 courses or objects need attention: lost lost, "
        "it's = paused paused"
    )
    assert len(PERFORMANCE.findall(performance)) == 3 * 4
    assert re.sub(PERFORMANCE, "", performance).split() == []
    assert "'lost lag_bytes'=U;;;0" in performance
    assert check(courses, "good")[0] == 0
    assert check(courses, "it's = paused")[0] == 1
    assert check(courses, "good", "--warning-lag-seconds", "0")[0] == 1
    status, line = check(courses, "good", "--critical-lag-bytes", "0", "--warning-lag-bytes", "0")
    assert status == 2
    assert "B;0;0;0" in line
    assert check(courses, "good", "--critical-retained-bytes", "1000000000000")[0] == 0


def test_check_says_unknown_where_it_cannot_tell(site: Site) -> None:
    nowhere = make_conninfo(site.portal, dbname="nowhere")
    result = cli("status", "--check", portal=nowhere)
    assert (result.returncode, result.stderr) == (3, "")
    assert result.stdout.startswith("PYSYNC UNKNOWN - ")
    assert cli("status", "nope", "--check", portal=site.portal).returncode == 3
    assert check(site)[0] == 0


def test_prometheus_has_every_series_of_every_course(courses: Site) -> None:
    text = succeed("status", "--format", "prometheus", portal=courses.portal)
    families = {each.name: each for each in text_string_to_metric_families(text)}
    names = {course_id: replication_name(courses, course_id) for course_id in courses.databases}
    for name in (
        "pysync_lag_bytes",
        "pysync_lag_seconds",
        "pysync_retained_wal_bytes",
        "pysync_time_to_loss_seconds",
        "pysync_verified_timestamp_seconds",
        "pysync_apply_errors",
        "pysync_sync_errors",
        "pysync_conflicts",
        "pysync_spill_bytes",
        "pysync_slot_active",
        "pysync_drift",
        "pysync_state",
        "pysync_level",
    ):
        labels = {
            (each.labels["course_id"], each.labels["slot_name"]) for each in families[name].samples
        }
        assert labels == set(names.items()), name
    counters = [each for each in families.values() if each.type == "counter"]
    assert {sample.name for each in counters for sample in each.samples} == {
        "pysync_apply_errors_total",
        "pysync_sync_errors_total",
        "pysync_conflicts_total",
        "pysync_spill_bytes_total",
    }
    values = {
        (sample.name, sample.labels["course_id"]): sample.value
        for each in families.values()
        for sample in each.samples
        if "course_id" in sample.labels and "state" not in sample.labels
    }
    assert math.isnan(values["pysync_lag_bytes", "lost"])
    assert values["pysync_slot_active", "lost"] == 0
    assert values["pysync_slot_active", "good"] == 1
    assert [values["pysync_level", each] for each in ("good", "it's = paused", "lost")] == [0, 1, 2]
    states = {
        sample.labels["course_id"]: sample.labels["state"]
        for sample in families["pysync_state"].samples
        if sample.value == 1
    }
    assert states == {"good": "streaming", "it's = paused": "paused", "lost": "lost"}


@pytest.mark.oldest_and_newest("who may see what of replication")
def test_a_monitoring_role_needs_the_view_and_nothing_else(courses: Site, watcher: str) -> None:
    with (
        as_role(courses, watcher) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select from pysync.subscription_status")
    courses.execute("grant usage on schema pysync to watcher")
    courses.execute("grant select on pysync.subscription_status to watcher")
    with as_role(courses, watcher) as connection:
        rows = connection.execute(
            "select course_id, slot_exists, slot_active, lag_bytes >= 0,"
            " lag_bytes <= retained_wal_bytes, marked_at is not null"
            " from pysync.subscription_status order by 1"
        ).fetchall()
        assert rows == [
            ("good", True, True, True, True, True),
            ("it's = paused", True, False, True, True, True),
            ("lost", False, None, None, None, True),
        ]
        for query in ("select from pysync.course", "select pysync.send_marks('{good}')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query.encode())


@pytest.mark.newest("rights on tables of ours")
def test_a_role_that_may_send_no_marks_still_learns_the_states(courses: Site, watcher: str) -> None:
    for grant in (
        "usage on schema pysync",
        "select on pysync.course, pysync.portal_status, pysync.subscription_status,"
        " pysync.alembic_version",
    ):
        courses.execute(f"grant {grant} to watcher")
    before = courses.execute("select course_id, number from course.mark order by 1")
    document = read_json("status", portal=make_conninfo(courses.portal, user=watcher))
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert {each["course_id"]: each["state"] for each in document["courses"]} == {
        "good": "streaming",
        "it's = paused": "paused",
        "lost": "lost",
    }
    # Nothing newer was sent that could be late.
    assert document["courses"][0]["lag_seconds"] is None
    assert courses.execute("select course_id, number from course.mark order by 1") == before


def test_the_last_verify_is_part_of_the_report(site: Site) -> None:
    site.add("A")
    columns = "course_id varchar(255) primary key, verified_at timestamptz, differences bigint"
    site.execute(f"create table if not exists pysync.verification ({columns})")
    site.execute("insert into pysync.verification values ('A', '2026-01-02 03:04:05+00', 6)")
    (found,) = read_json("status", portal=site.portal)["courses"]
    assert (found["verified_at"], found["differences"]) == ("2026-01-02T03:04:05+00:00", 6)
    text = succeed("status", "--format", "prometheus", portal=site.portal)
    assert re.search(r"^pysync_verify_differences\{.*\} 6.0$", text, re.MULTILINE)


def test_a_report_of_a_portal_that_is_not_migrated_yet(site: Site) -> None:
    site.add("A")
    site.execute("update pysync.alembic_version set version_num = 'p0000'")
    (found,) = read_json("status", portal=site.portal)["courses"]
    assert found["state"] == "drifted"
    assert "is at revision p0000" in found["cause"]
    assert "pysync migrate" in found["remedy"]
    site.execute("update pysync.alembic_version set version_num = %s", head_revision(PORTAL))
    (found,) = read_json("status", portal=site.portal)["courses"]
    assert found["state"] == "streaming"


def test_lag_in_seconds_is_true_while_the_portal_is_idle(courses: Site) -> None:
    def lag(course_id: str) -> float:
        (found,) = read_json("status", course_id, portal=courses.portal)["courses"]
        return float(found["lag_seconds"])

    behind = lag("it's = paused")
    eventually(lambda: lag("it's = paused") > behind + 1)
    assert lag("good") < 5
    alter_subscription(courses, "it's = paused", "enable")
    courses.wait("it's = paused")
    assert lag("it's = paused") < 5
    alter_subscription(courses, "it's = paused", "disable")


# doctor


def findings(site: Site, *arguments: str) -> dict[str, dict[str, Any]]:
    """Return what doctor finds, by object; the exit status says whether it must be mended."""
    result = cli("doctor", *arguments, "--format", "json", portal=site.portal)
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document.keys() == {"version", "findings"}
    assert result.returncode == any(each["must"] for each in document["findings"])
    for each in document["findings"]:
        assert each.keys() == {"course_id", "must", "object", "cause", "remedy", "commands"}
        assert each["remedy"]
    return {each["object"]: each for each in document["findings"]}


@pytest.mark.oldest_and_newest(
    "settings come and go with versions; those between have the oldest's"
)
def test_doctor_finds_what_will_stop_replication(site: Site) -> None:
    site.add("A")
    well = findings(site)
    assert not any(each["must"] for each in well.values()), well
    course = site.course("A")
    course.execute("alter table course.auth_user add karma int not null default 0")
    course.execute("alter table course.auth_user alter karma drop default")
    course.execute(
        "create table public.post (id int primary key, author_id bigint"
        " references course.auth_user, constraint twice foreign key (author_id)"
        " references course.auth_user)"
    )
    course.execute("alter table course.mark enable always trigger pysync_refuse_rows")
    course.execute(
        "create trigger own after insert on course.auth_user"
        " for each row execute function suppress_redundant_updates_trigger()"
    )
    course.execute("alter table course.auth_user enable replica trigger own")
    site.execute("alter table course.auth_user replica identity full")
    site.execute("drop index public.student_courseenrollment_user_id_idx")
    site.execute(
        "alter table public.student_courseenrollment drop constraint"
        " student_courseenrollment_user_id_course_id_key"
    )
    site.execute("update pysync.course set ready_at = ready_at - interval '2 days'")
    found = findings(site)
    new = {name: each["must"] for name, each in found.items() if name not in well}
    assert new == {
        "course 'A'": False,
        "table course.auth_user": True,
        "replica identity of course.auth_user": True,
        "trigger 'pysync_refuse_rows' on course.mark": True,
        "trigger 'own' on course.auth_user": False,
        "foreign key 'post_author_id_fkey' of public.post": False,
        "foreign key 'twice' of public.post": False,
        "foreign key 'student_courseenrollment_user_id_fkey' of public.student_courseenrollment": (
            False
        ),
    }
    assert "hasn't been compared" in found["course 'A'"]["cause"]
    assert "NOT NULL without a default" in found["table course.auth_user"]["cause"]
    said = cli("doctor", portal=site.portal)
    assert said.returncode == 1
    for name, each in found.items():
        assert f"{name} {each['cause']}; " in said.stdout
        assert all(f"\n    {command}\n" in said.stdout for command in each["commands"])


@pytest.mark.newest("one of the settings came with a minor version")
def test_doctor_knows_roles_and_the_plugin_list(site: Site, role: str) -> None:
    site.add("A")
    well = findings(site)
    site.execute("update pysync.course set replication_role = 'watcher'")
    found = findings(site)
    subject = "role 'watcher', which courses' servers use,"
    assert {name for name in found if name not in well} == {subject}
    database = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(site.portal)["dbname"]))
    with site.connect() as portal:
        for remedy in ("alter role watcher replication",):
            portal.execute(remedy)
        found = findings(site)
        assert "can't read what a first copy reads" in found[subject]["cause"]
        for statement in found[subject]["commands"][0].split("; "):
            portal.execute(statement.encode())
        assert subject not in findings(site)
        site.execute("update pysync.course set replication_role = 'nobody_there'")
        assert (
            "doesn't exist"
            in findings(site)["role 'nobody_there', which courses' servers use,"]["cause"]
        )
        portal.execute(
            sql.SQL("alter database {} set output_plugin_libraries = 'test_decoding'").format(
                database
            )
        )
    assert findings(site)["setting output_plugin_libraries"]["must"]


@pytest.fixture
def early_server(major: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnCluster]:
    """A course server whose clock is 90 seconds ahead: Debian's faketime makes it so."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        missing("libfaketime", "faketime")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("FAKETIME", "+90")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    cluster = OwnCluster.start(major, folder, "early")
    monkeypatch.undo()
    yield cluster
    cluster.server.stop()


def test_doctor_compares_clocks(early_server: OwnCluster, site: Site) -> None:
    site.add("A")
    assert "clock of the course server" not in findings(site)
    site.add("B", site.new_database(early_server))
    found = findings(site)["clock of the course server"]
    assert (found["course_id"], found["must"]) == ("B", False)
    assert re.match(r"is (89|90)\.\d s ahead of the portal's", found["cause"])
    site.wait("B")
    (course,) = report(site.portal, CourseId("B")).courses
    assert course.lag_seconds is not None
    assert course.lag_seconds < 5, "lag is measured by the portal's clock alone"


def test_doctor_looks_at_one_course_and_says_who_does_not_answer(site: Site) -> None:
    site.add("A")
    site.add("B")
    enroll(site, insert_user(site, "ada"), "A")
    site.execute(
        "update pysync.course set conninfo = %s where course_id = 'B'",
        make_conninfo(site.databases["B"], dbname="nobody_made_it"),
    )
    assert not any(each["must"] for each in findings(site, "A").values())
    found = findings(site)["course database"]
    assert (found["course_id"], found["must"]) == ("B", True)
    assert "nobody_made_it" in found["cause"]
