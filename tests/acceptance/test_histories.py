"""Random histories of portal writes: courses hold what plain SQL on the portal says they should.

What is live is asked of the portal's own tables after each statement. What is frozen is what was
live before the statement that ended it; from then on only erasure, a username that somebody else
takes and a profile that moves to a member may change it. The model knows nothing of triggers.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pysync.errors import MigrationError
from pysync.migrate import columns
from pysync.migrate.wanted import asked
from tests.support import (
    ENROLLMENT_COLUMNS,
    PROFILE_COLUMNS,
    USER_COLUMNS,
    Silent,
    Site,
)

pytestmark = pytest.mark.newest(
    "random histories take long; each kind of change is tested on every version"
)

EXAMPLES: Final = int(os.environ.get("PYSYNC_TEST_EXAMPLES", "15"))
"""More than the default are random instead of always the same."""

REAL: Final = ("A", "B")
FANNED_OUT: Final = ("C",)
REGISTERED: Final = (*REAL, *FANNED_OUT)
COURSES: Final = (*REGISTERED, "unregistered")

OWN: Final = "country"
"""A column of the portal's own: now carried, now not."""

MAX_USERNAME: Final = 150
LONG: Final = "n" * MAX_USERNAME

Row = dict[str, Any]
Key = tuple[str, int]


@dataclass
class Copy:
    """What a course holds of a user."""

    user: Row
    profile: Row | None
    enrollment: Row | None

    @property
    def live(self) -> bool:
        return self.enrollment is not None


@dataclass
class Model:
    """What each registered course should hold."""

    copies: dict[Key, Copy] = field(default_factory=dict)
    carried: bool = False

    def carry(self, portal: psycopg.Connection[Any]) -> None:
        """Have a column of the portal's own carried: of who has left it isn't known any more."""
        self.carried = True
        for held in self.copies.values():
            held.user = held.user | {OWN: None}
        self.follow(portal)

    def follow(self, portal: psycopg.Connection[Any]) -> None:
        """Bring the model up to date after one statement."""
        users = {
            row["id"]: row for row in rows(portal, "public.auth_user", f"{USER_COLUMNS}, {OWN}")
        }
        profiles = {
            row["user_id"]: row for row in rows(portal, "public.auth_userprofile", PROFILE_COLUMNS)
        }
        live: dict[Key, Copy] = {}
        for enrollment in rows(portal, "public.student_courseenrollment", ENROLLMENT_COLUMNS):
            user_id = enrollment["user_id"]
            if enrollment["course_id"] in REGISTERED:
                live[enrollment["course_id"], user_id] = Copy(
                    users[user_id], profiles.get(user_id), enrollment
                )
        for key, held in self.copies.items():
            if key not in live:
                held.enrollment = None
        self.copies |= live
        self._give_way()
        for (course_id, user_id), held in self.copies.items():
            if user_id not in users and held.user["password"] != "!":
                self._scrub(course_id, user_id, held)

    def _give_way(self) -> None:
        for course_id in REGISTERED:
            here = self._held_by(course_id)
            usernames = {held.user["username"] for held in here.values() if held.live}
            profile_ids = {
                held.profile["id"] for held in here.values() if held.live and held.profile
            }
            for user_id, held in here.items():
                if held.live:
                    continue
                if held.user["username"] in usernames:
                    held.user = held.user | {
                        "username": self._free(course_id, user_id, held.user["username"])
                    }
                if held.profile and held.profile["id"] in profile_ids:
                    held.profile = None

    def _scrub(self, course_id: str, user_id: int, held: Copy) -> None:
        username = f"deleted-{user_id}"
        taken = {
            other.user["username"]
            for other_id, other in self._held_by(course_id).items()
            if other_id != user_id
        }
        if username in taken:
            username = self._free(course_id, user_id, username)
        held.profile = None
        held.user = held.user | {
            "username": username,
            "first_name": "",
            "last_name": "",
            "email": "",
            "password": "!",
            "last_login": None,
            "is_active": False,
            "is_staff": False,
            "is_superuser": False,
            OWN: None,
        }

    def _held_by(self, course_id: str) -> dict[int, Copy]:
        return {user_id: held for (each, user_id), held in self.copies.items() if each == course_id}

    def _free(self, course_id: str, user_id: int, username: str) -> str:
        taken = {
            held.user["username"]
            for other_id, held in self._held_by(course_id).items()
            if other_id != user_id
        }
        suffixes = (f"~{user_id}" + (f"~{n}" if n > 1 else "") for n in range(1, 1000))
        candidates = (username[: MAX_USERNAME - len(suffix)] + suffix for suffix in suffixes)
        return next(each for each in candidates if each not in taken)

    def carries(self, course_id: str) -> bool:
        """Return whether a course has the column; one without a database isn't brought anywhere."""
        return self.carried and course_id in REAL

    def expected(self, course_id: str) -> tuple[list[Row], list[Row], list[Row]]:
        carries = self.carries(course_id)
        here = [held for _, held in sorted(self._held_by(course_id).items())]
        return (
            [
                {name: held.user[name] for name in held.user if carries or name != OWN}
                for held in here
            ],
            [held.profile for held in here if held.profile],
            [held.enrollment for held in here if held.enrollment],
        )


def rows(
    connection: psycopg.Connection[Any], table: str, columns: str, course_id: str | None = None
) -> list[Row]:
    """Return a table's rows in the order of their users."""
    order = "id" if table.endswith("auth_user") else "user_id"
    where = "" if course_id is None else "where course_id = %s"
    names = [name.strip() for name in columns.split(",")]
    found = connection.execute(
        f"select {columns} from {table} {where} order by {order}",
        None if course_id is None else (course_id,),
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in found]


def held(
    connection: psycopg.Connection[Any], course_id: str, *, carried: bool
) -> tuple[list[Row], ...]:
    """Return what a course holds: in its database, or on the portal in its fan-out."""
    own = f", {OWN}" if carried else ""
    return tuple(
        rows(connection, f"course.{table}", columns, course_id)
        for table, columns in (
            ("auth_user", f"{USER_COLUMNS}{own}"),
            ("auth_userprofile", PROFILE_COLUMNS),
            ("student_courseenrollment", ENROLLMENT_COLUMNS),
        )
    )


# Statements. Each takes three numbers, which choose among what there is.

Statement = tuple[str, Sequence[Any]]


class Choice:
    """What a statement's three numbers choose."""

    def __init__(self, numbers: tuple[int, int, int], user_ids: list[int]) -> None:
        self.a, self.b, self.c = numbers
        self._user_ids = user_ids or [0]

    @property
    def user(self) -> int:
        return self._user_ids[self.a % len(self._user_ids)]

    @property
    def other(self) -> int:
        return self._user_ids[self.b % len(self._user_ids)]

    @property
    def users(self) -> list[int]:
        return [each for n, each in enumerate(self._user_ids) if (self.a >> n % 3) & 1]

    @property
    def course(self) -> str:
        return COURSES[self.c % len(COURSES)]

    @property
    def other_course(self) -> str:
        return COURSES[self.b % len(COURSES)]

    @property
    def courses(self) -> list[str]:
        return [each for n, each in enumerate(COURSES) if (self.c >> n % 3) & 1]

    @property
    def username(self) -> str:
        # Names that people give up and others take, and the names of frozen and erased copies.
        names = ["ann", "bob", LONG, f"ann~{self.other}", f"deleted-{self.other}", "eve"]
        return names[self.c % len(names)]

    @property
    def value(self) -> str:
        return f"value {self.b} {self.c}"


STATEMENTS = {
    "insert user": lambda x: (
        "insert into auth_user (username, password, email) values (%s, 'x', %s)",
        (x.username, x.value),
    ),
    "insert users": lambda x: (
        "insert into auth_user (username, password) select 'bulk' || n || '-' || %s, ''"
        " from generate_series(1, 3) as n on conflict do nothing",
        (x.c,),
    ),
    "rename": lambda x: ("update auth_user set username = %s where id = %s", (x.username, x.user)),
    "rename all": lambda x: (
        "update auth_user set username = left(%s || username, 150) where id = any(%s)",
        ("x" * (x.b % 3), x.users),
    ),
    "update user": lambda x: (
        "update auth_user set email = %s, first_name = %s, last_login = clock_timestamp(),"
        " is_staff = not is_staff where id = %s",
        (x.value, x.value, x.user),
    ),
    "update users": lambda x: (
        "update auth_user set password = password || %s where id = any(%s)",
        (x.c, x.users),
    ),
    "set own column": lambda x: (
        f"update auth_user set {OWN} = nullif(%s, 0)::text where id = any(%s)",
        (x.b, x.users),
    ),
    "touch users": lambda _: ("update auth_user set email = email, is_staff = is_staff", ()),
    "delete user": lambda x: ("delete from auth_user where id = %s", (x.user,)),
    "delete users": lambda x: ("delete from auth_user where id = any(%s)", (x.users,)),
    "insert profile": lambda x: (
        "insert into auth_userprofile (user_id, name, goals) select id, %s, %s from auth_user"
        " where id = %s",
        (x.value, x.value, x.user),
    ),
    "insert profiles": lambda x: (
        "insert into auth_userprofile (user_id, name) select id, %s from auth_user"
        " on conflict (user_id) do update set name = excluded.name, year_of_birth = %s",
        (x.value, x.b),
    ),
    "update profile": lambda x: (
        "update auth_userprofile set name = %s, gender = 'f', year_of_birth = %s where user_id = %s",
        (x.value, x.b, x.user),
    ),
    "update profiles": lambda x: (
        "update auth_userprofile set mailing_address = %s where user_id = any(%s)",
        (x.value, x.users),
    ),
    "delete profile": lambda x: ("delete from auth_userprofile where user_id = %s", (x.user,)),
    "move profile": lambda x: (
        "update auth_userprofile set user_id = %s, name = %s where user_id = %s",
        (x.other, x.value, x.user),
    ),
    "new profile id": lambda x: (
        "update auth_userprofile set id = default where user_id = any(%s)",
        (x.users,),
    ),
    "truncate profiles": lambda x: (
        "truncate auth_userprofile" + (" restart identity" if x.c % 2 else ""),
        (),
    ),
    "enroll": lambda x: (
        "insert into student_courseenrollment (user_id, course_id)"
        " select id, %s from auth_user where id = %s",
        (x.course, x.user),
    ),
    "enroll many": lambda x: (
        "insert into student_courseenrollment (user_id, course_id)"
        " select id, course from auth_user cross join unnest(%s::text[]) as course"
        " where id = any(%s) on conflict do nothing",
        (x.courses, x.users),
    ),
    "enroll or touch": lambda x: (
        "insert into student_courseenrollment (user_id, course_id)"
        " select id, %s from auth_user on conflict (user_id, course_id)"
        " do update set created = clock_timestamp()",
        (x.course,),
    ),
    "unenroll": lambda x: (
        "delete from student_courseenrollment where user_id = %s and course_id = %s",
        (x.user, x.course),
    ),
    "unenroll many": lambda x: (
        "delete from student_courseenrollment where user_id = any(%s) and course_id = any(%s)",
        (x.users, x.courses),
    ),
    "toggle": lambda x: (
        "merge into student_courseenrollment as enrolled"
        " using (select id from auth_user where id = any(%s)) as member"
        " on enrolled.user_id = member.id and enrolled.course_id = %s"
        " when matched then delete"
        " when not matched then insert (user_id, course_id) values (member.id, %s)",
        (x.users, x.course, x.course),
    ),
    "move to another course": lambda x: (
        "update student_courseenrollment set course_id = %s where user_id = %s and course_id = %s",
        (x.other_course, x.user, x.course),
    ),
    "move all to another course": lambda x: (
        "update student_courseenrollment as moved set course_id = %s where course_id = %s"
        " and not exists (select from student_courseenrollment as there"
        " where there.user_id = moved.user_id and there.course_id = %s)",
        (x.other_course, x.course, x.other_course),
    ),
    "move to another user": lambda x: (
        "update student_courseenrollment set user_id = %s where user_id = %s and course_id = %s",
        (x.other, x.user, x.course),
    ),
    "new enrollment id": lambda x: (
        "update student_courseenrollment set id = default, created = null where user_id = any(%s)",
        (x.users,),
    ),
    "truncate enrollments": lambda x: (
        "truncate student_courseenrollment" + (" restart identity" if x.c % 2 else ""),
        (),
    ),
}

# What brings something comes more often than what clears everything away.
RARE: Final = {"delete users", "truncate profiles", "truncate enrollments"}
FREQUENT: Final = ("insert user", "enroll", "unenroll", "rename", "insert profile", "toggle")
KINDS: Final = [
    *(kind for kind in STATEMENTS if kind not in RARE for _ in range(2)),
    *FREQUENT,
    *FREQUENT,
    *RARE,
]

numbers = st.integers(0, 7)
operations = st.tuples(st.sampled_from(KINDS), st.tuples(numbers, numbers, numbers))
transactions = st.tuples(
    st.lists(operations, min_size=1, max_size=6),
    st.sampled_from(["commit"] * 5 + ["rollback"]),
    st.sampled_from(["read committed"] * 2 + ["repeatable read", "serializable"]),
)
histories = st.lists(transactions, min_size=3, max_size=12)
switches = st.sampled_from([None] * 4 + [(0, 3), (1, 2)])
"""Before which transactions the column is carried, and before which it isn't any more."""


@pytest.fixture
def populated(site: Site) -> Site:
    for course_id in REAL:
        site.add(course_id)
    site.register_only(*FANNED_OUT)
    site.execute(f"alter table public.auth_user add column {OWN} text")
    return site


def switch(site: Site, *, on: bool) -> None:
    """Have the column carried or not; that a course has no database is told at the end."""
    wanted = partial(asked, "auth_user", [OWN], scrub=None, takes_over=True)
    done = (
        columns.add(site.portal, wanted, Silent())
        if on
        else columns.remove(site.portal, "auth_user", OWN, "keep", Silent())
    )
    with pytest.raises(MigrationError, match=r"1 of 3 courses .* course 'C'"):
        deque(done, 0)


def start_over(portal: psycopg.Connection[Any]) -> None:
    """Empty the portal and the courses; some users and enrollments to begin with."""
    portal.execute("delete from auth_user")
    for table in ("student_courseenrollment", "auth_userprofile", "auth_user"):
        portal.execute(f"delete from course.{table}")
    portal.execute(
        "insert into auth_user (username, password, email)"
        " select n, 'x', n || '@example.org' from unnest(array['ann', 'bob', 'eve']) as n"
    )
    portal.execute(
        "insert into auth_userprofile (user_id, name) select id, username from auth_user"
    )
    portal.execute(
        "insert into student_courseenrollment (user_id, course_id)"
        " select id, 'A' from auth_user union all select id, 'C' from auth_user"
    )


def run(
    portal: psycopg.Connection[Any], model: Model, kind: str, choice: Choice, isolation: str
) -> None:
    """Run a statement; one that the portal's own constraints refuse changes nothing."""
    query, arguments = STATEMENTS[kind](choice)  # type: ignore[no-untyped-call]
    try:
        with portal.transaction():
            portal.execute(query, arguments)
    except (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation) as error:
        if error.diag.schema_name != "public":
            raise
        event(f"refused: {kind}")
        return
    except psycopg.errors.ObjectInUse:
        # Foreign keys are checked at commit: until then PostgreSQL truncates no table it wrote to.
        assert kind.startswith("truncate")
        return
    except psycopg.ProgrammingError as error:
        # An old snapshot doesn't see all copies that a TRUNCATE would have to take back.
        if (error.sqlstate, isolation == "read committed") != ("PY003", False):
            raise
        assert kind.startswith("truncate")
        return
    event(kind)
    model.follow(portal)


@pytest.mark.timeout(300)
@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 25,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories, switched=switches)
def test_courses_hold_what_the_portal_says(
    populated: Site,
    history: list[tuple[list[tuple[str, tuple[int, int, int]]], str, str]],
    switched: tuple[int, int] | None,
) -> None:
    site = populated
    with psycopg.connect(site.portal, autocommit=True) as portal:
        start_over(portal)
        model = Model()
        model.follow(portal)
        for number, (statements, outcome, isolation) in enumerate(history):
            if number in (switched or ()):
                switch(site, on=not model.carried)
                model.carried = not model.carried
                if model.carried:
                    model.carry(portal)
                event("switch")
            before = copy.deepcopy(model)
            portal.execute(f"begin isolation level {isolation}")
            for kind, numbers_drawn in statements:
                user_ids = [
                    row[0] for row in portal.execute("select id from auth_user order by id")
                ]
                run(portal, model, kind, Choice(numbers_drawn, user_ids), isolation)
            portal.execute(outcome)
            if outcome == "rollback":
                model = before
            for course_id in REGISTERED:
                assert held(portal, course_id, carried=model.carries(course_id)) == model.expected(
                    course_id
                )
    site.wait()
    for course_id in REAL:
        with psycopg.connect(site.databases[course_id]) as course:
            assert held(course, course_id, carried=model.carries(course_id)) == model.expected(
                course_id
            )
    if model.carried:
        switch(site, on=False)
