"""The samples on the pages: SQL and Python are run, settings are a server's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.pages import Block, Page, page, pages
from tests.support import Cluster, Site, insert_user

COURSE = "MITx/6.002x/2012_Fall"
ROLES = ("web", "monitor", "site_migrations", "dba")
APPLICATION_TABLES = ("auth_user", "auth_userprofile", "student_courseenrollment")

# The first ones grant what the others need.
IN_ORDER = ["migrations/README.md", "README.md", "sql/README.md"]

_WHERE = re.compile(r"-- (on the portal|in the course database)(.*)")
_AS = re.compile(r"\bas (\w+)")


@pytest.fixture
def stage(site: Site, portal_server: Cluster, course_server: Cluster) -> Iterator[Site]:
    """A portal with the course and the user that samples speak of, and the roles they act as."""
    site.add(COURSE)
    insert_user(site, "grace", id=7)
    servers = (site.portal, site.databases[COURSE])
    before = [roles_of(conninfo) for conninfo in servers]
    for cluster in (portal_server, course_server):
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            for role in ROLES:
                connection.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    for table in APPLICATION_TABLES:
        site.execute(f"grant select, insert, update, delete on {table} to web")
        site.execute(f"grant usage on sequence {table}_id_seq to web")
    yield site
    site.close_connections()
    # Also those that samples create: servers are other tests' as well.
    for conninfo, there in zip(servers, before, strict=True):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for role in roles_of(conninfo) - there:
                name = sql.Identifier(role)
                connection.execute(sql.SQL("drop owned by {}").format(name))
                connection.execute(sql.SQL("drop role {}").format(name))


def roles_of(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        return {name for (name,) in connection.execute("select rolname from pg_roles")}


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each statement of a block with the last comment that says where it is run."""
    where, statement = "", ""
    for line in block.lines:
        if _WHERE.match(line):
            assert not statement.strip(), f"no semicolon before '{line}'"
            where = line
            continue
        statement += line + "\n"
        if re.sub(r"\s--\s.*", "", line).rstrip().endswith(";"):
            yield where, statement
            statement = ""
    assert not statement.strip(), f"no semicolon after '{statement}'"


def run(site: Site, where: str, statement: str) -> None:
    """Run a statement; it gives what ``-- →`` says after it, and fails where that is said."""
    found = _WHERE.match(where)
    assert found is not None
    if found[1] == "on the portal":
        conninfo = site.portal
    else:
        site.wait()
        conninfo = site.databases[COURSE]
    role = _AS.search(found[2])
    fails = re.search(r"-- fails with (\w{5})", statement)
    with site.connect(conninfo, **({"user": role[1]} if role else {})) as connection:
        if fails:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(statement.encode())
            assert caught.value.sqlstate == fails[1]
            return
        cursor = connection.execute(statement.encode())
        if expected := re.search(r"-- → (.*)", statement):
            assert [str(*row) for row in cursor.fetchall()] == [expected[1].strip()]


def run_sql(site: Site, each: Page) -> None:
    for block in each.blocks("sql"):
        if block.not_run:
            continue
        for where, statement in steps(block):
            try:
                run(site, where, statement)
            except (AssertionError, psycopg.Error) as error:
                pytest.fail(f"{each}:{block.line}: {statement.strip()}\n{error}")


def run_python(site: Site, each: Page) -> None:
    parameters = conninfo_to_dict(site.portal)
    url = "{user}@{host}:{port}/{dbname}".format(**parameters)
    for block in each.blocks("python"):
        if block.not_run:
            continue
        names: dict[str, Any] = {}
        exec(compile(block.text.replace("…", url), f"{each}:{block.line}", "exec"), names)
        names["engine"].dispose()


@pytest.mark.oldest_and_newest("what samples show is tested on all elsewhere")
def test_samples_do_what_is_said(stage: Site) -> None:
    rest = [each for each in pages() if str(each) not in IN_ORDER]
    for each in [*map(page, IN_ORDER), *rest]:
        run_sql(stage, each)
        run_python(stage, each)


def objects(site: Site) -> set[str]:
    """Return the names of functions, tables, views and types of our schemas on both sides."""
    query = (
        "select format('%s.%s', nspname, proname) from pg_proc"
        "  join pg_namespace n on n.oid = pronamespace"
        " where nspname in ('pysync', 'course', 'student')"
        " union select format('%s.%s', nspname, relname) from pg_class"
        "  join pg_namespace n on n.oid = relnamespace"
        " where nspname in ('pysync', 'course', 'student') and relkind in ('r', 'v')"
        " union select format('%s.%s', nspname, typname) from pg_type"
        "  join pg_namespace n on n.oid = typnamespace"
        " where nspname in ('pysync', 'course', 'student') and typtype in ('c', 'd')"
    )
    found: set[str] = set()
    for conninfo in (site.portal, site.databases[COURSE]):
        with psycopg.connect(conninfo) as connection:
            found |= {name for (name,) in connection.execute(query).fetchall()}
    return found


def importable(name: str) -> bool:
    """Tell whether a dotted name leads to a module or to something in one."""
    module, attributes = name.split("."), list[str]()
    while module:
        try:
            found: Any = import_module(".".join(module))
        except ImportError:
            attributes.insert(0, module.pop())
            continue
        for attribute in attributes:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.newest("names are the same on all")
def test_names_are_those_of_functions_views_and_modules(site: Site) -> None:
    site.add(COURSE)
    known = objects(site)
    columns = {"course.auth_user", "course.auth_userprofile", "course.student_courseenrollment"}
    assert columns <= known
    unknown = []
    for each in pages():
        for number, span in each.spans:
            for name in re.findall(r"^(?:pysync|students?|course)(?:\.\w+)+", span):
                python = re.sub(r"^students\.", "pysync.students.", name)
                if name.endswith("_") or name in known or importable(python):
                    continue
                unknown.append(f"{each}:{number}: {name}")
    for number, span in page("sql/README.md").spans:
        if page("sql/README.md").sections[number] == "Student data":
            called = re.match(r"([a-z_]+)\(", span)
            if called and f"student.{called[1]}" not in known:
                unknown.append(f"sql/README.md:{number}: student.{called[1]}")
    assert unknown == []


@pytest.mark.every_major("settings come and go")
def test_settings_are_the_servers(portal_server: Cluster) -> None:
    with psycopg.connect(portal_server.conninfo()) as connection:
        known = {name for (name,) in connection.execute("select name from pg_settings").fetchall()}
        for each in pages():
            for block in each.blocks("ini"):
                for line in block.lines:
                    setting, _, rest = line.partition("=")
                    since = re.search(r"# from PostgreSQL (\d+) on", rest)
                    if since and portal_server.major < int(since[1]):
                        assert setting.strip() not in known
                    else:
                        assert setting.strip() in known, f"{each}:{block.line}: {line}"
