"""Erase a user everywhere, and prove it course by course."""

import hashlib
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from pysync.db.catalog import references_to
from pysync.db.connections import Connection, connect
from pysync.db.errors import translated
from pysync.db.lending import lend_nothing
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of, lock_owner, restricted
from pysync.errors import InUseError, NotFoundError, PysyncError
from pysync.models.replicated import REPLICATED, REPLICATED_TABLES
from pysync.replication import fan_out, identities, marks, registry
from pysync.replication.databases import connect_course
from pysync.replication.erasure import personal_data_left
from pysync.replication.polling import ask
from pysync.replication.registry import Course
from pysync.texts import Text, word
from pysync.types import CourseId

COURSES_AT_A_TIME: Final = 16

QUERIES = load(__file__)


@dataclass(frozen=True)
class Doomed:
    """A user who is about to be deleted, and what goes with it.

    ``cascades`` are rows of other tables that the database deletes or changes along with the user,
    ``courses`` those that hold a copy, live or frozen.
    """

    user_id: int
    username: str
    profiles: int
    enrollments: int
    courses: list[CourseId]
    cascades: dict[str, int]


@dataclass(frozen=True)
class Proof:
    """Whether a course has confirmed an erasure; else why not."""

    user_id: int
    course_id: CourseId
    confirmed: bool
    reason: str | None = None


@dataclass(frozen=True)
class Pending:
    """Erasures of a username that courses have still to confirm; `taken` if it is in use again."""

    user_ids: list[int]
    taken: bool


def pending(portal_conninfo: str, username: str) -> Pending | None:
    """Return earlier erasures under this username that aren't confirmed everywhere."""
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        rows = portal.execute(QUERIES["pending_erasures"], {"username": username}).fetchall()
        if not rows:
            return None
        return Pending([user_id for (user_id,) in rows], _find(portal, username) is not None)


def preview(portal_conninfo: str, username: str) -> Doomed:
    """Return what erasing a user would delete.

    :raises NotFoundError: if there is no such user.
    :raises InUseError: if rows of other tables point at the user and forbid it.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        return _doomed(portal, username)


def erase(portal_conninfo: str, username: str) -> int:
    """Delete a user on the portal, with profile and enrollments, and remember whom to ask.

    The triggers scrub every course's copy in the same transaction.

    :returns: the user's id, for :func:`prove`.
    :raises NotFoundError: if there is no such user.
    :raises InUseError: if rows of other tables point at the user and forbid it.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        translated(f"user '{username}'"),
        portal.transaction(),
    ):
        # Nobody enrolls the user any more from here on.
        lock = "select from public.auth_user where username = %s for update"
        with fan_out.as_triggers(portal) as triggers:
            triggers.execute(lock, [username])
        doomed = _doomed(portal, username)
        asked = {"user_id": doomed.user_id, "digest": digest(doomed.user_id, username)}
        portal.execute(QUERIES["ask_for_erasure"], asked)
        for table in reversed(REPLICATED):
            delete = sql.SQL("delete from {} where {} = %s").format(
                sql.Identifier("public", table.name), sql.Identifier(table.user_column)
            )
            role = lock_owner(portal, "public", table.name)
            # The triggers meet the fan-out's policies.
            portal.execute("set local row_security = on")
            with restricted(portal, role) as owner:
                if owner.unrestricted:
                    # Who owns another of these tables may have altered our triggers.
                    lend_nothing(portal, "have one role own all of the portal's tables")
                owner.execute(delete, [doomed.user_id])
        return doomed.user_id


def digest(user_id: int, username: str) -> str:
    """Return what an unconfirmed erasure is found by: no name is kept."""
    return hashlib.sha256(f"{user_id}:{username}".encode()).hexdigest()


def prove(portal_conninfo: str, user_ids: list[int], timeout_seconds: float) -> list[Proof]:
    """Look into every course that held a copy of these users, once it has the deletion.

    What is confirmed is forgotten; the rest can be asked again.

    :param timeout_seconds: how long each course may take.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        rows = portal.execute(QUERIES["unconfirmed_erasures"], {"user_ids": user_ids}).fetchall()
        asked: dict[CourseId, list[int]] = dict(rows)
        identities.require_claimed(portal)
        known = {each.course_id: each for each in registry.subscribers(portal)}
        courses = [known[course_id] for course_id in asked if course_id in known]

        def left(course: Course) -> dict[int, Course]:
            found: dict[int, Course] = {}
            # What it streams from first: what that hasn't let go the course hasn't heard of.
            for each in [*([known[course.relay]] if course.relay else []), course]:
                ids = _left(portal_conninfo, each, timeout_seconds, asked[course.course_id])
                found |= dict.fromkeys(ids, each)
            return found

        answers = ask(courses, left, at_once=COURSES_AT_A_TIME)
        by_course = {c.course_id: answer for c, answer in zip(courses, answers, strict=True)}
        proofs = [
            _proof(user_id, course_id, by_course.get(course_id))
            for course_id, ids in asked.items()
            for user_id in ids
        ]
        confirmed = [proof for proof in proofs if proof.confirmed]
        done = {
            "user_ids": [proof.user_id for proof in confirmed],
            "course_ids": [proof.course_id for proof in confirmed],
        }
        portal.execute(QUERIES["forget_erasures"], done)
        return proofs


def _proof(
    user_id: int, course_id: CourseId, left: dict[int, Course] | PysyncError | None
) -> Proof:
    match left:
        case None:
            reason = "it was removed before it confirmed: look into its database yourself"
        case PysyncError():
            reason = left.message
        case _ if user_id in left:
            place = left[user_id]
            where = "there" if place.course_id == course_id else f"on {place.subject}"
            resync = Text(f"; run 'pysync resync {word(place.course_id)}'")
            reason = f"personal data is still {where}" + resync
        case _:
            return Proof(user_id, course_id, confirmed=True)
    return Proof(user_id, course_id, confirmed=False, reason=reason)


def _left(
    portal_conninfo: str, course: Course, timeout_seconds: float, user_ids: list[int]
) -> set[int]:
    """Return users of whom a course still holds data, after everything committed has arrived."""
    database = connect_course(
        course.conninfo,
        connect_timeout_seconds=max(int(min(timeout_seconds, 5)), 1),
        statement_timeout_seconds=timeout_seconds + 1,
    )
    with closing(database):
        identities.require_ours(database, course.course_id, course.portal_id)
        with closing(connect(portal_conninfo)) as portal:
            mark = marks.mark(portal, course.course_id)
        marks.wait_for(database, course.course_id, mark, timeout_seconds)
        return personal_data_left(database, course.replicated, user_ids)


def _find(portal: Connection, username: str) -> int | None:
    query = "select id from public.auth_user where username = %s"
    with fan_out.as_triggers(portal) as triggers:
        found = triggers.value(query, "bigint", [username])
    return None if found is None else int(found)


def _doomed(portal: Connection, username: str) -> Doomed:
    user_id = _find(portal, username)
    if user_id is None:
        raise NotFoundError(f"user '{username}' doesn't exist on the portal", "check the username")
    with fan_out.as_triggers(portal) as triggers:
        columns = "profiles bigint, enrollments bigint, courses text[]"
        found = triggers.fetch(QUERIES["doomed"], columns, {"user_id": user_id})
        ((profiles, enrollments, courses),) = found
    cascades, forbidding = _referring(portal, user_id)
    if forbidding:
        listed = ", ".join(f"{table} ({rows} rows)" for table, rows in forbidding.items())
        raise InUseError(
            f"user '{username}' can't be deleted: {listed} point at it",
            "delete these rows, or have them point elsewhere, then run the command again",
        )
    return Doomed(user_id, username, profiles, enrollments, courses, cascades)


def _referring(portal: Connection, user_id: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many rows of other tables go or change with a user, and how many forbid it."""
    cascades: Counter[str] = Counter()
    forbidding: Counter[str] = Counter()
    for each in references_to(portal, "public.auth_user"):
        if each.schema == "public" and each.table in REPLICATED_TABLES:
            continue
        referred = sql.SQL("select array[{}] from public.auth_user where id = %s").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(n)) for n in each.referred)
        )
        with fan_out.as_triggers(portal) as triggers:
            values = triggers.value(referred, "text[]", [user_id])
        count = sql.SQL("select count(*) from {} where {}").format(
            each.identifier,
            sql.SQL(" and ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in zip(each.columns, values, strict=True)
            ),
        )
        with as_owner_of(portal, each.schema, each.table) as owner:
            rows = owner.value(count, "bigint")
        if rows:
            found = cascades if each.follows else forbidding
            found[f"{each.schema}.{each.table}"] += rows
    return dict(cascades), dict(forbidding)
