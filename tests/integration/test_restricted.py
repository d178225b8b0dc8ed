"""Code that a table's owner hung on it runs with the owner's rights, whatever session meets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pysync.db.connections import Connection, connect
from pysync.db.restricted import restricted
from tests.support import Cluster

pytestmark = pytest.mark.every_major("what is refused in a security-restricted operation grew")

ATTEMPTS = [
    "select pg_catalog.set_config('role', 'none', false)",
    "select pg_catalog.set_config('session_authorization', 'default', false)",
    "reset role",
    "alter role {role} superuser",
    "copy (select) to program 'true'",
    "create temporary table mine (a int)",
    "declare mine cursor with hold for select home.strike()",
    "select pg_catalog.set_config('search_path', 'home', false)",
    "select pg_catalog.set_config('lock_timeout', '1h', false)",
    # On the view that runs this, and on our temporary tables.
    "do $x$ declare v regclass; begin"
    " select oid into v from pg_class where relkind = 'm' order by oid desc limit 1;"
    " execute format('create statistics home.s%s on (home.strike() || affected::text),"
    " (affected + 1) from %s', v::oid, v); end $x$",
    "do $x$ declare v regclass; begin"
    " select oid into v from pg_class where relkind = 'm' order by oid desc limit 1;"
    " execute format('alter materialized view %s rename to gone', v); end $x$",
    "do $x$ declare v regclass; begin"
    " select oid into v from pg_class where relkind = 'm' order by oid desc limit 1;"
    " execute format('alter materialized view %s set schema home', v); end $x$",
    "do $x$ declare s name; begin"
    " select nspname into s from pg_namespace where nspname ~ '^pysync_' limit 1;"
    " execute format('create or replace function %I.run(statements text[]) returns bigint"
    " language sql as ''select home.strike()::bigint''', s); end $x$",
    "create trigger mine before insert on pg_temp.pysync_affected"
    " for each row execute function home.meet()",
    "create index on pg_temp.pysync_affected ((home.strike()))",
    "alter table pg_temp.pysync_affected owner to {role}",
]

HOSTILE = """
create schema home authorization {role};
set role {role};
create table home.rows (id int primary key, name text);
create table home.met (attempt text, said text);
create function home.strike() returns text language plpgsql immutable as $$
begin
    if pg_catalog.has_table_privilege(current_user, 'pg_catalog.pg_authid', 'update') then
        perform home.promote();
    end if;
    return '1';
end $$;
create function home.promote() returns void language plpgsql as $$ begin
    alter role {role} superuser;
end $$;
create function home.meet() returns trigger language plpgsql as $$
declare
    attempt text;
begin
    foreach attempt in array {attempts}::text[] loop
        begin
            execute attempt;
            insert into home.met values (attempt, 'done as ' || current_user);
        exception when others then
            insert into home.met values (attempt, sqlerrm);
        end;
    end loop;
    perform home.strike();
    return new;
end $$;
create trigger met before insert on home.rows for each row execute function home.meet();
create constraint trigger late after insert on home.rows deferrable initially deferred
    for each row execute function home.meet();
alter table home.rows enable row level security;
alter table home.rows force row level security;
create policy met on home.rows using (home.strike() = '1');
create index on home.rows ((home.strike()));
reset role;
"""


@pytest.fixture
def neighbour(portal_server: Cluster) -> Iterator[tuple[Connection, str]]:
    """A superuser's session in a database where a role owns a table, its code and its schema."""
    role = f"neighbour_{uuid4().hex[:8]}"
    database = portal_server.create()
    with closing(connect(database)) as session:
        session.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        attempts = sql.Literal([each.format(role=role) for each in ATTEMPTS])
        text = HOSTILE.replace("{role}", role).replace("{attempts}", attempts.as_string(session))
        session.execute(text.encode())
        # Whoever owns the database may make and rename schemas.
        session.execute(
            sql.SQL(
                "do $$ begin execute format('alter database %I owner to {}',"
                " pg_catalog.current_database()); end $$"
            ).format(sql.Identifier(role))
        )
        yield session, role
    portal_server.drop(database)
    with psycopg.connect(portal_server.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def insert_restricted(neighbour: tuple[Connection, str]) -> None:
    session, role = neighbour
    with restricted(session, role) as owner:
        owner.execute("insert into home.rows values (1, 'a')")


def settings(session: Connection) -> list[tuple[object, ...]]:
    return session.execute(
        "select current_user, session_user, current_setting('search_path'),"
        " current_setting('lock_timeout')"
    ).fetchall()


def test_an_owners_code_gains_nothing_from_a_session_that_writes_there(
    neighbour: tuple[Connection, str],
) -> None:
    session, role = neighbour
    before = settings(session)
    with restricted(session, role) as owner:
        assert owner.execute("insert into home.rows values (1, %s), (2, 'b')", ["it's % a"]) == 2
        assert owner.execute("update home.rows set name = 'c' where id = %(id)s", {"id": 2}) == 1
        query = "select id, name from home.rows order by id"
        assert owner.fetch(query, "id bigint, name text") == [(1, "it's % a"), (2, "c")]
    assert settings(session) == before
    met = session.execute(
        "select attempt, said from home.met where said like 'done as %' order by 1"
    ).fetchall()
    # Some of it is done, as the owner: it changes nothing for anybody else.
    assert {said for _, said in met} == {f"done as {role}"}
    assert session.execute(
        "select rolsuper from pg_catalog.pg_roles where rolname = %s", [role]
    ).fetchall() == [(False,)]
    left = "select relname from pg_catalog.pg_class where relname in ('run', 'pysync_affected', 'pysync_rows')"
    assert session.execute(left).fetchall() == []


def test_what_an_owners_code_defers_is_refused(neighbour: tuple[Connection, str]) -> None:
    """It would run at the end of the transaction, with the session's rights before 18."""
    session, _ = neighbour
    session.execute(
        "create or replace function home.meet() returns trigger language plpgsql as $$ begin"
        " set constraints all deferred; return new; end $$"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="deferred trigger"):
        insert_restricted(neighbour)


def test_the_same_session_by_set_role_would_have_lost(neighbour: tuple[Connection, str]) -> None:
    """The attempts are worth something: what they come to where there is no restriction."""
    session, role = neighbour
    with session.transaction():
        session.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        session.execute("insert into home.rows values (1, 'a')")
    assert session.execute(
        "select rolsuper from pg_catalog.pg_roles where rolname = %s", [role]
    ).fetchall() == [(True,)]


def test_an_error_keeps_its_sqlstate_and_leaves_nothing(neighbour: tuple[Connection, str]) -> None:
    session, role = neighbour
    with pytest.raises(psycopg.errors.UniqueViolation) as raised:  # noqa: SIM117
        with restricted(session, role) as owner:
            owner.execute("insert into home.rows values (1, 'a'), (1, 'b')")
    assert raised.value.diag.constraint_name == "rows_pkey"
    assert session.execute("select count(*) from home.rows").fetchone() == (0,)


def test_a_superusers_own_tables_need_no_restriction(neighbour: tuple[Connection, str]) -> None:
    session, _ = neighbour
    with restricted(session, str(session.info.user)) as owner:
        owner.execute("create temporary table mine (id int)")
        assert owner.execute("insert into pg_temp.mine values (1), (2)") == 2
        assert owner.fetch("select * from pg_temp.mine", "id int") == [(1,), (2,)]
