"""The portal's standbys: whether one that is promoted has what courses need to go on."""

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.findings import ON_PORTAL, Finding, alone, run
from pysync.replication import standbys
from pysync.replication.registry import Course
from pysync.replication.standbys import Standby
from pysync.texts import Text, word

ON_STANDBY: Final = "on the standby"

_ON: Final = {
    "sync_replication_slots": "it synchronizes no slots, so courses are lost once it is promoted",
    "hot_standby_feedback": "it can't synchronize slots without",
}
_QUERIES: Final = load(__file__)


def standby_findings(
    portal: Connection, portal_conninfo: str, registered: Sequence[Course], wanted: Sequence[Course]
) -> Iterator[Finding]:
    """Look at the portal's standbys that its string names, and at what courses need of it for them.

    :param portal_conninfo: what the connection was opened with.
    :param registered: all courses: each has a slot that a standby is to keep.
    :param wanted: those whose slots are looked at.
    """
    yield from _slots(portal, wanted)
    names = [each.replication_name for each in registered]
    found = standbys.look(portal, portal_conninfo, names)
    able = []
    for each in found:
        if each.error:
            yield Finding(
                f"server '{each.place}'",
                f"{each.error}: nobody knows whether courses would go on with it",
                "bring it back, or take it out of PYSYNC_PORTAL",
                must=False,
            )
        elif "sync_replication_slots" in each.settings:
            able.append(each)
            yield from _standby(portal, each, len(registered))
        else:
            yield Finding(
                f"standby '{each.place}'",
                "can't have the slots of courses (17 and later can): once it is promoted, each "
                "course is lost",
                "run 'pysync resync --all' then",
                must=False,
            )
    wait_for = [name for each in able if (name := each.settings.get("primary_slot_name"))]
    setting = "current_setting('synchronized_standby_slots', true)"
    if wait_for and fetch_value(portal, f"select {setting}") == "":
        statement = f"alter system set synchronized_standby_slots = {_list(portal, wait_for)}"
        yield Finding(
            "setting synchronized_standby_slots",
            "is empty on the portal: a course may get what no standby has, and is lost once that "
            "is promoted",
            alone(statement, ON_PORTAL) + _reload(ON_PORTAL),
            must=False,
        )


def _slots(portal: Connection, wanted: Sequence[Course]) -> Iterator[Finding]:
    asked = {"names": [each.replication_name for each in wanted]}
    lacking = {name for (name,) in portal.execute(_QUERIES["slots_that_stay"], asked)}
    for course in wanted:
        if course.replication_name in lacking:
            yield Finding(
                f"{course.subject} slot '{course.replication_name}'",
                "isn't one that fails over: the course is lost once a standby is promoted",
                f"run '{course.command('add')} {word(course.conninfo)}'",
                must=False,
            )


def _standby(portal: Connection, standby: Standby, courses: int) -> Iterator[Finding]:
    subject, settings = f"standby '{standby.place}'", standby.settings
    for name, follows in _ON.items():
        if settings.get(name) == "off":
            yield Finding(
                subject,
                f"has {name} off: {follows}",
                _alter(name, "on") + _reload(ON_STANDBY),
                must=False,
            )
    if standby.waits_for:
        yield Finding(
            subject,
            f"has '{standby.waits_for}' in synchronized_standby_slots, which no standby of its own "
            "uses: once it is promoted, courses are sent nothing",
            _alter("synchronized_standby_slots", "''") + _reload(ON_STANDBY),
            must=False,
        )
    if settings.get("wal_level") != "logical":
        yield Finding(
            subject,
            "has a wal_level other than logical: it synchronizes no slots, and feeds no course",
            _alter("wal_level", "logical") + "; then restart it",
            must=False,
        )
    if int(settings.get("max_replication_slots", courses)) < courses:
        yield Finding(
            subject,
            f"has max_replication_slots = {settings['max_replication_slots']} for {courses} "
            "courses: it can't have all their slots",
            _alter("max_replication_slots", str(courses)) + "; then restart it",
            must=False,
        )
    if settings.get("primary_slot_name") == "":
        make = run("select pg_create_physical_replication_slot('standby')", ON_PORTAL)
        yield Finding(
            subject,
            "has no primary_slot_name: it can't synchronize slots without",
            make + "; then " + _alter("primary_slot_name", "standby") + _reload(ON_STANDBY),
            must=False,
        )
    if settings.get("primary_conninfo") == "":
        yield Finding(
            subject,
            "has no dbname in primary_conninfo: it can't synchronize slots without",
            Text.plain(f"add dbname={portal.info.dbname} to primary_conninfo on it, and reload it"),
            must=False,
        )
    for slot in standby.slots.values():
        if not slot.synchronized:
            drop = f"select pg_drop_replication_slot('{slot.name}')"
            yield Finding(
                f"slot '{slot.name}' on {subject}",
                "was made there: the portal's isn't synchronized while it is in its place",
                run(drop, ON_STANDBY),
                must=False,
            )


def _alter(name: str, value: str) -> Text:
    return alone(f"alter system set {name} = {value}", ON_STANDBY)


def _reload(where: str) -> Text:
    return Text("; then ") + run("select pg_reload_conf()", where)


def _list(portal: Connection, names: Sequence[str]) -> str:
    return sql.SQL(", ").join(map(sql.Literal, names)).as_string(portal)
