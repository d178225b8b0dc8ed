"""Courses behind relays: where they aren't as they should be, and how that is mended."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.test_cli_process import cli, courses_of, read_json, succeed
from tests.acceptance.test_cli_resync import assert_equal_to_the_fan_out
from tests.acceptance.test_relays import add, add_relay, states
from tests.integration.fan_out import TABLES
from tests.support import Rows, Site, assert_live_rows, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest("what decoding, conflicts and workers are like")


def publication(site: Site, course_id: str) -> sql.Identifier:
    query = "select replication_name from pysync.course where course_id = %s"
    return sql.Identifier(site.one(query, course_id))


def tamper(conninfo: str, site: Site, silenced: str | None, *statements: str) -> None:
    """Write as nothing of ours does, without that somebody (a course, a relay) is sent it."""
    with closing(site.connect(conninfo)) as there, there.transaction():
        there.execute("set local session_replication_role = replica")
        alter = sql.SQL("alter publication {} set (publish = {})")
        if silenced:
            there.execute(alter.format(publication(site, silenced), ""))
        for statement in statements:
            assert there.execute(statement.encode()).rowcount == 1, statement
        if silenced:
            there.execute(alter.format(publication(site, silenced), "insert, update, delete"))


def stray(user_id: int, course_id: str) -> str:
    return (
        "insert into course.auth_user (id, course_id, username, password, is_superuser, first_name,"
        " last_name, email, is_staff, is_active, date_joined)"
        f" values ({user_id}, '{course_id}', 'stray', '', false, '', '', '', false, true, now())"
    )


def found(*arguments: str, site: Site) -> dict[str, dict[str, object]]:
    result = cli("verify", *arguments, "--format", "json", portal=site.portal)
    return {each["course_id"]: each for each in json.loads(result.stdout)["courses"]}


def places(verification: dict[str, object]) -> set[tuple[object, ...]]:
    names = ("place", "table", "id", "kind")
    differences = verification["differences"]
    assert isinstance(differences, list)
    return {tuple(each[name] for name in names) for each in differences}


def rows(site: Site, conninfo: str, table: str, course_id: str) -> Rows:
    with closing(site.connect(conninfo)) as there:
        query = (
            f"select to_jsonb(t) - 'live' from course.{table} t where course_id = %s order by id"
        )
        return there.execute(query, (course_id,)).fetchall()


@pytest.mark.newest("comparing is ours")
def test_what_is_wrong_on_a_relay_or_behind_it_is_told_apart_and_mended(site: Site) -> None:
    relay = add_relay(site)
    add(site, "A", "north")
    add(site, "B", "north")
    user = {name: insert_user(site, name) for name in ("ada", "bob", "cy", "dan", "eve")}
    enrolled = {name: enroll(site, id_, "A") for name, id_ in user.items()}
    for id_ in user.values():
        enroll(site, id_, "B")
        site.execute("insert into public.auth_userprofile (user_id, name) values (%s, 'x')", id_)
    profile: dict[int, int] = dict(site.execute("select user_id, id from public.auth_userprofile"))
    site.wait()
    assert [each["clean"] for each in found(site=site).values()] == [True, True]
    in_a = "course_id = 'A'"
    # Wrong on the relay alone: also what a course may have otherwise.
    tamper(
        relay,
        site,
        "A",
        f"delete from course.student_courseenrollment where id = {enrolled['ada']}",
        f"update course.auth_user set email = 'relay' where {in_a} and id = {user['bob']}",
        f"update course.auth_user set last_login = now() where {in_a} and id = {user['cy']}",
        stray(99, "A"),
    )
    # On the relay, which sends it on.
    tamper(
        relay,
        site,
        None,
        f"delete from course.auth_userprofile where {in_a} and id = {profile[user['dan']]}",
    )
    site.wait("A")
    # In the course alone.
    tamper(
        site.databases["A"],
        site,
        None,
        f"delete from course.student_courseenrollment where id = {enrolled['bob']}",
        f"update course.auth_user set email = 'course' where id = {user['eve']}",
        f"update course.auth_user set last_login = now() where id = {user['ada']}",
    )
    # In the fan-out, and with it on the relay, while the course has the row.
    gone = f"delete from course.student_courseenrollment where id = {enrolled['cy']}"
    tamper(site.portal, site, "relay:north", gone)
    tamper(relay, site, "A", gone)
    expected = {
        ("relay", "student_courseenrollment", enrolled["ada"], "missing"),
        ("relay", "auth_user", user["bob"], "differs"),
        ("relay", "auth_user", user["cy"], "differs"),
        ("relay", "auth_user", 99, "extra"),
        ("relay", "auth_userprofile", profile[user["dan"]], "missing"),
        ("course", "auth_userprofile", profile[user["dan"]], "missing"),
        ("course", "student_courseenrollment", enrolled["bob"], "missing"),
        ("course", "auth_user", user["eve"], "differs"),
        ("portal", "student_courseenrollment", enrolled["cy"], "missing"),
    }
    # The course has what its portal's fan-out lacks.
    also = {("course", "student_courseenrollment", enrolled["cy"], "extra")}
    verified = found(site=site)
    assert places(verified["A"]) == expected | also
    assert verified["A"]["relay"] == "relay:north"
    assert verified["A"]["last_login_differs"] == 1
    assert verified["B"]["clean"]
    assert "relay:north" not in verified
    shown = cli("verify", "A", portal=site.portal).stdout
    assert f"auth_user {user['bob']} differs in its relay: email" in shown
    mended = json.loads(succeed("repair", "A", "--format", "json", portal=site.portal))
    assert places({"differences": mended["mended"]}) >= expected
    assert mended["after"]["clean"]
    # Nothing has stopped: both hops go on, and all is equal.
    site.execute("update public.auth_user set email = username || '@x.org'")
    enroll(site, insert_user(site, "fay"), "A")
    site.wait()
    for course in ("A", "B"):
        assert_live_rows(site, course)
        if course == "B":
            assert_equal_to_the_fan_out(site, course)
        for table in TABLES:
            assert rows(site, relay, table, course) == rows(site, site.portal, table, course)
    assert set(states(site).values()) == {"streaming"}
    errors = read_json("status", portal=site.portal)["courses"]
    assert [each["apply_errors"] for each in errors] == [0, 0, 0]


@pytest.mark.newest("what we compare")
def test_a_relay_is_verified_with_its_courses(site: Site) -> None:
    relay = add_relay(site)
    add(site, "A", "north")
    ada = insert_user(site, "ada")
    enroll(site, ada, "A")
    site.wait()
    site.execute("update pysync.course set server_started_at = now() where relay is null")
    assert states(site)["relay:north"] == "streaming"
    unverified = read_json("status", portal=site.portal)["courses"][-1]
    assert unverified["remedy"] == "run 'pysync verify relay:north'"
    assert found("relay:north", site=site).keys() == {"A"}
    assert read_json("status", portal=site.portal)["courses"][-1]["cause"] is None
    # What it carries for nobody is found, and goes by its resync.
    tamper(
        relay,
        site,
        None,
        stray(7, "Z"),
    )
    verified = found(site=site)
    assert verified["A"]["clean"]
    assert places(verified["relay:north"]) == {("relay", "auth_user", 7, "extra")}
    shown = cli("verify", portal=site.portal).stdout
    assert "pysync resync relay:north" in shown
    succeed("resync", "relay:north", portal=site.portal)
    assert found(site=site).keys() == {"A"}
    assert_live_rows(site, "A")


@pytest.mark.newest("what we say")
def test_doctor_examines_relays_as_what_courses_stream_from(site: Site) -> None:
    relay = add_relay(site)
    add(site, "A", "north")
    everything = {"A", "relay:north", None}

    def findings(*arguments: str) -> list[dict[str, Any]]:
        result = cli("doctor", *arguments, "--format", "json", portal=site.portal)
        assert not result.stderr
        told = json.loads(result.stdout)["findings"]
        assert {each["course_id"] for each in told} <= everything
        return [each for each in told if each["course_id"] == "relay:north"]

    # True of any server of the tests', and of whoever works there as a superuser.
    usual = {"setting max_slot_wal_keep_size", "role 'postgres', which pysync uses,"}
    assert {each["object"] for each in findings()} <= usual
    name = publication(site, "A").as_string(None).strip('"')
    with closing(site.connect(relay)) as there:
        role = f"behind_{name[-8:]}"
        there.execute(f"create role {role} login")
        there.execute(f"alter publication {name} set (publish = 'insert')")
        there.execute("alter table course.auth_user replica identity full")
        site.execute("update pysync.course set replication_role = %s where relay is not null", role)
        for arguments in ((), ("A",), ("relay:north",)):
            found = {each["object"]: each for each in findings(*arguments)}
            role_found = f"role '{role}', which courses' servers use,"
            assert found[role_found]["cause"] in (
                "may not replicate",
                "can't read what a first copy reads",
            )
            assert found[role_found]["remedy"].startswith("run on relay 'north': ")
            assert "pysync." not in found[role_found]["remedy"]
            of_publication = found[f"course 'A' publication '{name}'"]
            assert of_publication["remedy"].startswith("run on relay 'north': ")
            identity = found["replica identity of course.auth_user"]
            assert "primary key on relay 'north'" in identity["cause"]
            assert not any(
                "the portal" in f"{each['cause']}{each['remedy']}" for each in found.values()
            )
        # What it says mends it.
        for each in findings():
            for command in each["commands"] if each["object"] not in usual else ():
                there.execute(command.encode())
        assert {each["object"] for each in findings()} <= usual
        there.execute(f"drop owned by {role}; drop role {role}")
    site.execute("update pysync.course set replication_role = 'postgres'")


@pytest.mark.newest("what we say")
def test_what_waits_for_a_relay_says_so(site: Site) -> None:
    relay = add_relay(site)
    add(site, "A", "north")
    add(site, "B")
    ada = insert_user(site, "ada", first_name="Ada")
    for course in ("A", "B"):
        enroll(site, ada, course)
    site.wait()
    succeed("wait", "A", portal=site.portal)
    succeed("course", "pause", "relay:north", portal=site.portal)
    erased = cli("erase", "ada", "--yes", "--timeout", "1", portal=site.portal)
    assert erased.returncode == 1
    assert "A: not confirmed: relay 'north' is behind: " in erased.stdout
    assert "B: confirmed" in erased.stdout
    # Whoever waits, here or in the course, is led to what names the hop.
    waited = cli("wait", "A", "--timeout", "0.5", portal=site.portal)
    assert waited.returncode == 1
    assert "course 'A' is behind" in waited.stderr
    assert "pysync status" in waited.stderr
    mark = site.one("select pysync.mark('A')")
    with pytest.raises(psycopg.Error) as late:
        site.course("A").execute("call course.wait_for(%s, '0.1 s')", (mark,))
    assert late.value.sqlstate == "PY001"
    assert "pysync status" in (late.value.diag.message_hint or "")
    told = courses_of("status", portal=site.portal)
    assert (told["A"]["state"], told["B"]["state"]) == ("paused", "streaming")
    assert told["A"]["cause"].startswith("'relay:north', which it streams from, is paused")
    assert told["A"]["remedy"] == "run 'pysync course resume relay:north'"
    # Whoever counts courses counts no relays, and sees which hop a course has.
    checked = cli("status", "--check", portal=site.portal).stdout
    assert checked.startswith("PYSYNC WARNING - 2 of 2 courses, 1 relay or objects need attention")
    metrics = cli("status", "--format", "prometheus", portal=site.portal).stdout.splitlines()
    assert {"pysync_courses 2.0", "pysync_relays 1.0"} <= {*metrics}
    hops = [line for line in metrics if line.startswith("pysync_streams_from{")]
    assert sorted(('relay="north"' in line, 'course_id="A"' in line) for line in hops) == [
        (False, False),
        (False, False),
        (True, True),
    ]

    succeed("course", "resume", "relay:north", portal=site.portal)
    site.wait()
    # The deletion is there, and the relay has the data nevertheless.
    back = f"update course.auth_user set email = 'ada' where course_id = 'A' and id = {ada}"
    tamper(relay, site, "A", back)
    erased = cli("erase", "ada", portal=site.portal)
    assert "A: not confirmed: personal data is still on relay 'north'; run:" in erased.stdout
    assert "pysync resync relay:north" in erased.stdout
    succeed("resync", "relay:north", portal=site.portal)
    assert "A: confirmed" in succeed("erase", "ada", portal=site.portal)


@pytest.mark.newest("states are ours; workers that stop are tried on both ends")
def test_a_course_that_stops_behind_a_relay_is_told_and_mended(site: Site) -> None:
    add_relay(site)
    add(site, "A", "north")
    # A row of the course's own points at a user who is in the way and whom nobody knows.
    tamper(site.databases["A"], site, None, stray(99, "A"))
    site.course("A").execute(
        "create table notes (user_id bigint references course.auth_user);"
        " insert into notes values (99)"
    )
    enroll(site, insert_user(site, "stray"), "A")
    found = eventually(
        lambda: (told := courses_of("status", portal=site.portal))["A"]["state"] == "stuck" and told
    )
    assert found["relay:north"]["state"] == "streaming"
    assert "auth_user" in found["A"]["cause"]
    assert "username" in found["A"]["cause"]
    # Once the portal knows that user, scrubbed, the relay has to know it, too.
    succeed("resync", "A", portal=site.portal)
    site.wait()
    assert set(states(site).values()) == {"streaming"}
    assert found_clean(site)
    assert site.course("A").execute("select user_id from notes").fetchall() == [(99,)]
    query = "select username from course.auth_user order by id"
    names = [name for (name,) in site.course("A").execute(query).fetchall()]
    assert names == ["stray", "deleted-99"]


def found_clean(site: Site) -> bool:
    return all(each["clean"] for each in found(site=site).values())
