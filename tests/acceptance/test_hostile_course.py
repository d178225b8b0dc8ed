"""A course site whose tables carry code that wants more rights than their owner has, and gets none."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pysync.errors import AdoptionError, UnsuitableDatabaseError
from pysync.lifecycle import adopt, courses, erase, move, resync
from pysync.migrate import migrate
from pysync.migrate.lineage import COURSE
from pysync.types import CourseId
from pysync.verification import repair, verify
from pysync.watching.doctor import examine
from pysync.watching.status import State, status
from tests.django_site.process import new_site
from tests.support import Cluster, Silent, Site, enroll, eventually, insert_user

pytestmark = pytest.mark.oldest_and_newest(
    "15 applies as a subscription's owner, later as a table's"
)

OWNED = """
create role {role} login;
alter schema public owner to {role};
alter table public.auth_user owner to {role};
alter table public.auth_userprofile owner to {role};
alter table public.student_courseenrollment owner to {role};
alter table public.forum_post owner to {role};
do $$ begin
    execute format('alter database %I owner to {role}', pg_catalog.current_database());
end $$;
insert into public.auth_user (id, username, password, is_superuser, first_name, last_name, email,
                              is_staff, is_active, date_joined)
values (901, 'local', 'x', false, '', '', 'local@example.org', false, true, now()),
       (902, 'pointed at', 'x', false, '', '', 'p@example.org', false, true, now());
insert into public.auth_userprofile (id, user_id, name, meta, courseware, language, location)
values (901, 901, 'old', '', '', '', '');
insert into public.student_courseenrollment (user_id, course_id) values (901, 'A'), (901, 'other');
insert into public.forum_post (text, author_id) values ('mine', 902);
"""

# Every place in which a table's owner can have code of its own run by whoever reads or writes it.
CODE = """
create schema home;
create table home.met (place text, as_whom name);
create table home.trap (armed boolean);
create function home.act(place text) returns boolean language plpgsql as $$
declare
    attempt text;
begin
    foreach attempt in array array[
        $x$select pg_catalog.set_config('role', 'none', false)$x$,
        $x$reset session authorization$x$,
        $x$alter role {role} superuser$x$,
        $x$copy (select) to program 'touch {sign}'$x$]
    loop
        begin
            execute attempt;
        exception when others then null;
        end;
    end loop;
    insert into home.met values (place, current_user);
    return true;
exception when others then return true;
end $$;
-- The planner runs what is immutable, and such a function may call what isn't.
create function home.strike(place text) returns boolean language plpgsql immutable as $$ begin
    return home.act(place);
end $$;
create function home.meet() returns trigger language plpgsql as $$ begin
    perform home.act('trigger');
    if exists (select from home.trap)
       and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        raise exception 'not yet';
    end if;
    return coalesce(new, old);
end $$;
create type home.own as (a text);
create function home.as_text(of_row home.own) returns text language plpgsql as $$ begin
    perform home.act('cast');
    return '';
end $$;
create cast (home.own as text) with function home.as_text(home.own) as implicit;
create function home.same(one home.own, other home.own) returns boolean language plpgsql
    as $$ begin return home.act('operator'); end $$;
create operator home.= (leftarg = home.own, rightarg = home.own, function = home.same);
create domain home.checked as text check (home.strike('domain'));
alter table public.auth_user
    add column defaulted boolean default home.act('default'),
    add column own home.own default row('')::home.own,
    add column checked home.checked default '',
    add column made boolean generated always as (home.strike('generated ' || reputation)) stored,
    add constraint struck check (home.strike('check ' || reputation)),
    add constraint folded check (home.strike('constant'));
create index struck on public.auth_user (home.strike('index ' || username));
create index folded on public.auth_user (id) where home.strike('predicate');
create statistics public.struck on (home.strike('statistics ' || id)), id from public.auth_user;
create trigger met before insert or update or delete on public.auth_user
    for each row execute function home.meet();
alter table public.auth_user enable always trigger met;
create index folded_too on public.forum_post (id) where home.strike('predicate of another');
create policy met on public.auth_user using (home.strike('policy'));
alter table public.auth_user enable row level security;
"""

# A table that points at users may be yet somebody else's.
OF_ANOTHER = """
create role {role}_too;
grant usage on schema home to {role}_too;
grant insert on home.met to {role}_too;
alter table public.forum_post owner to {role}_too;
"""

TAMPER = """
alter table course.auth_user disable trigger user;
update course.auth_user set first_name = 'wrong' where username = 'ann';
insert into course.auth_user (id, course_id, username, password, is_superuser, first_name,
                              last_name, email, is_staff, is_active, date_joined)
values (903, 'A', 'extra', '', false, '', '', '', false, true, now());
alter table course.auth_user enable trigger user;
alter table course.auth_user enable always trigger met;
"""


class Neighbour:
    """The site's role, and what it would have if it broke in."""

    def __init__(self, site: Site, database: str, sign: Path) -> None:
        self.database, self.sign = database, sign
        self.role = f"neighbour_{uuid4().hex[:8]}"
        site.databases["A"] = database
        self._run(database, OWNED)
        self.run(CODE)
        self._run(database, OF_ANOTHER)
        self.met()

    def run(self, statements: str) -> None:
        """Run statements as the role itself: an administrator would already have fallen for it."""
        self._run(make_conninfo(self.database, user=self.role), statements)

    def _run(self, conninfo: str, statements: str) -> None:
        text = statements.replace("{role}", self.role).replace("{sign}", str(self.sign))
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(text.encode())

    def met(self) -> set[str]:
        """Return where its code was run since the last time: always as itself, gaining nothing."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            powers = "select rolsuper from pg_roles where rolname = %s"
            assert connection.execute(powers, (self.role,)).fetchall() == [(False,)]
            workers = connection.execute(
                "select r.rolname from pg_subscription s join pg_roles r on r.oid = s.subowner"
                " where not r.rolsuper"
            ).fetchall()
        assert not self.sign.exists()
        with psycopg.connect(make_conninfo(self.database, user=self.role)) as connection:
            found = connection.execute("delete from home.met returning place, as_whom").fetchall()
        known = {self.role, f"{self.role}_too", *(name for (name,) in workers)}
        assert {whom for _, whom in found} <= known
        return {str(place).partition(" ")[0] for place, _ in found}


@pytest.fixture
def neighbour(site: Site, course_server: Cluster) -> Neighbour:
    """A course site that was there, with users, whose owner has code on its tables."""
    sign = Path(gettempdir()) / f"pysync_sign_{uuid4().hex}"
    database = site.new_database(template=new_site(course_server, forum=True))
    return Neighbour(site, database, sign)


def test_a_hostile_site_gains_nothing_from_any_command(site: Site, neighbour: Neighbour) -> None:
    for name in ("ann", "bob", "cid"):
        enroll(site, insert_user(site, name), "A")
    course_id, silent = CourseId("A"), Silent()
    # It is taken over only without that code.
    with pytest.raises(UnsuitableDatabaseError, match="would run code of others") as refused:
        migrate(neighbour.database, COURSE, "course", course=course_id, merging=True)
    assert "--keep-owner" in str(refused.value.remedy)
    for command in (adopt.preview, partial(courses.add, adopt=True)):
        with pytest.raises(UnsuitableDatabaseError, match="would run code of others") as named:
            command(site.portal, course_id, neighbour.database, silent)
        # What is named beforehand is what the migration would refuse.
        there = f"{refused.value}".replace("course.", "public.")
        found = re.findall(r"\w+ \w+ on table [\w.]+ uses", there)
        assert found
        assert [each for each in found if each not in f"{named.value}"] == []
    assert "trigger" not in neighbour.met()
    outcome = adopt.preview(site.portal, course_id, neighbour.database, silent, keep_owner=True)
    assert [(each.table, each.rows) for each in outcome.foreign_keys if each.rows] == [
        ("public.forum_post", 1)
    ]
    neighbour.met()
    courses.add(site.portal, course_id, neighbour.database, silent, adopt=True, keep_owner=True)
    assert {"trigger", "default", "generated"} <= neighbour.met()
    site.execute("update auth_user set email = 'new@example.org'")
    site.wait()
    assert "trigger" in neighbour.met()

    neighbour.run(TAMPER)
    (verified,) = verify(site.portal, [course_id], silent)
    assert verified.error is None
    assert len(verified.differences) == 2
    neighbour.met()
    repaired = repair(site.portal, course_id, silent)
    assert len(repaired.mended) == 2
    assert repaired.after is not None
    assert repaired.after.differences == []
    assert "trigger" in neighbour.met()
    neighbour.run(TAMPER)
    resync.preview(site.portal, course_id, silent)
    resync.resync(site.portal, course_id, silent, table="auth_user")
    assert "trigger" in neighbour.met()
    resync.resync(site.portal, course_id, silent)
    examine(site.portal)
    neighbour.met()
    user = erase.erase(site.portal, "cid")
    assert [each.confirmed for each in erase.prove(site.portal, [user], 20)] == [True]
    neighbour.met()

    neighbour.run("insert into home.trap values (true)")
    site.execute("update auth_user set email = 'trap@example.org' where username = 'ann'")
    report = eventually(
        lambda: next((each for each in status(site.portal) if each.state is State.STUCK), None)
    )
    assert "not yet" in str(report.cause)
    neighbour.met()
    neighbour.run("truncate home.trap")
    site.wait()

    move.move(site.portal, course_id, site.new_database(), silent, fresh=True)
    neighbour.met()


FORGED = """
create schema course;
create view course.this_course as select 'A'::text as course_id where home.act('forged');
create view course.alembic_version as select 'c0001'::text as version_num where home.act('forged');
"""


def test_a_schema_that_is_somebody_elses_is_not_read(site: Site, neighbour: Neighbour) -> None:
    neighbour.run(FORGED)
    for adopts in (False, True):
        with pytest.raises(
            UnsuitableDatabaseError, match="schema course belongs to role"
        ) as refused:
            courses.add(site.portal, CourseId("A"), neighbour.database, Silent(), adopt=adopts)
    assert str(refused.value.remedy).endswith("alter schema course owner to postgres")
    assert neighbour.met() == set()
    neighbour.run("drop schema course cascade; alter table public.auth_user rename to users")
    neighbour.run(
        "create view public.auth_user as select * from public.users where home.act('view')"
    )
    neighbour.met()
    with pytest.raises(UnsuitableDatabaseError, match="_RETURN on view"):
        courses.add(site.portal, CourseId("A"), neighbour.database, Silent(), adopt=True)
    with pytest.raises(AdoptionError, match="a view"):
        courses.add(
            *(site.portal, CourseId("A"), neighbour.database, Silent()),
            adopt=True,
            keep_owner=True,
        )
    assert neighbour.met() == set()
