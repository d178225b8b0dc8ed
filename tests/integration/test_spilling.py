"""Transactions too large to be decoded in memory: the portal writes them to its disk, and says so."""

from __future__ import annotations

import re
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pysync.findings import Finding
from pysync.replication import registry
from pysync.watching.doctor.publisher import spilling
from tests.support import Site, eventually

pytestmark = pytest.mark.oldest_and_newest("what is counted of slots")


def enroll_many(site: Site, begin: int) -> None:
    """Enroll users in one transaction, of a megabyte or two."""
    site.execute(
        "with added as (insert into auth_user (username, password) select 'many' || n,"
        " repeat('x', 128) from generate_series(%s::int, %s::int) as n returning id)"
        " insert into student_courseenrollment (user_id, course_id) select id, 'A' from added",
        begin,
        begin + 1500,
    )
    site.wait()


def reconnect(course: psycopg.Connection[Any], name: str, *actions: str) -> None:
    """Have a new WAL sender, with the settings that it finds."""
    for action in ("disable", *actions):
        course.execute(f"alter subscription {name} {action}".encode())
    query = "select count(pid) from pg_stat_subscription where subname = %s"
    eventually(lambda: course.execute(query, (name,)).fetchone() == (0,))
    course.execute(f"alter subscription {name} enable".encode())


def test_a_course_whose_slot_spills_is_told_and_mended(
    site: Site, course: psycopg.Connection[Any]
) -> None:
    name = site.one("select replication_name from pysync.course")
    database = sql.Identifier(str(conninfo_to_dict(site.portal)["dbname"]))
    with site.connect() as portal:
        tiny = sql.SQL("alter database {} set logical_decoding_work_mem = '64kB'")
        portal.execute(tiny.format(database))
    reconnect(course, name, "set (streaming = off)")

    def counted() -> tuple[int, int]:
        query = (
            "select total_bytes, spill_bytes from pg_stat_replication_slots where slot_name = %s"
        )
        return site.execute(query, name)[0]

    def found(**least: Any) -> list[Finding]:
        with closing(registry.connect_portal(site.portal)) as connection:
            return [*spilling(connection, registry.courses(connection), **least)]

    enroll_many(site, 1)
    (finding,) = eventually(lambda: found(least_bytes=100_000, least_share=0.1))
    assert finding.object == "course 'A' slot"
    assert re.match(
        "spilled .* kB of .* to the disk of the portal since .*: .* larger", finding.cause
    )
    assert not finding.must
    assert found() == []  # it isn't much

    (more_memory,) = finding.commands
    with site.connect() as portal:
        portal.execute(more_memory.encode())
    try:
        reconnect(course, name)
        decoded, spilled = counted()
        enroll_many(site, 10_000)
        eventually(lambda: counted()[0] > decoded + 100_000)
        assert counted()[1] == spilled
    finally:
        site.execute("alter role postgres reset logical_decoding_work_mem")
