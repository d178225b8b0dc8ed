"""Who owns and may call what, as the catalogs have it: whatever comes next obeys it, too."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support import Site

pytestmark = pytest.mark.every_major("privileges and what may be granted grew with each version")

ROUTINES = """
with routine as (
    select p.oid::regprocedure::text as name, p.*, p.proowner::regrole::text as owner,
           n.nspname as schema, p.prorettype = 'trigger'::regtype as is_trigger,
           array(select case grantee when 0 then 'public' else grantee::regrole::text end
                   from aclexplode(coalesce(proacl, acldefault('f', proowner)))
                  where grantee <> proowner) as callers,
           array(select t.tgrelid::regclass::text from pg_trigger t
                  where t.tgfoid = p.oid and not t.tgisinternal) as fired_by
      from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace
     where n.nspname in ('pysync', 'course', 'student')
)
"""

EVERYWHERE = [
    (
        "add 'set search_path = pg_catalog, pg_temp'",
        # With settings they couldn't be part of the statements that call them.
        "not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig),"
        " proname in ('as_text', 'counts', 'unless_gone'))",
    ),
    ("add 'revoke all on function … from public'", "'public' = any (callers)"),
    (
        "a trigger needs no right to fire, only whoever makes one: revoke it",
        "is_trigger and callers <> '{}'",
    ),
    (
        "in schema student all functions are granted at once: move it to pysync or course",
        "schema = 'student' and (is_trigger or prosecdef)",
    ),
    (
        "begin it with 'if tg_relid <> …': it runs as its owner on whatever table it is hung",
        "is_trigger and prosecdef and prosrc !~ '\\mbegin\\s+if tg_relid <> '",
    ),
]

PORTAL = [
    *EVERYWHERE,
    (
        "security definer is for triggers on applications' tables, as pysync_fan_out, and for"
        " functions in pysync that touch pysync's own tables only, as pysync_owner",
        "prosecdef and not (owner = 'pysync_fan_out' and is_trigger and schema in ('course', 'pysync')"
        " or owner = 'pysync_owner' and not is_trigger and schema = 'pysync'"
        " and prosrc !~ '\\mpublic\\.')",
    ),
    (
        "pysync_fan_out meets others' code: what anybody else calls or fires is not its own",
        "owner = 'pysync_fan_out' and (callers <> '{}' or exists ("
        "    select from unnest(fired_by) as relation"
        # This table is written by the role's own functions alone.
        "     where relation ~ '\\.' and relation <> 'pysync.profile_change'))",
    ),
    (
        "it calls what pysync_fan_out may alter: give it to that role, or grant it to that role alone",
        "owner <> 'pysync_fan_out' and not (not prosecdef and callers = '{pysync_fan_out}')"
        " and exists (select from routine as theirs"
        "    where theirs.owner = 'pysync_fan_out' and routine.prosrc ~ ('\\m' || theirs.schema"
        "        || '\\.' || theirs.proname || '\\('))",
    ),
    (
        "add 'set row_security = on': else it fails in sessions where that is off, as where a dump is"
        " restored",
        "prosecdef and (is_trigger or prosrc ~ '\\m(from|join|into|update) course\\.')"
        " and not coalesce('row_security=on' = any (proconfig), false)",
    ),
    (
        "only the roles of roles.sql, and who migrates, own functions",
        "owner not in ('pysync_fan_out', 'pysync_owner')"
        " and proowner <> (select relowner from pg_class where oid = 'pysync.installed'::regclass)",
    ),
]

COURSE = [
    *EVERYWHERE,
    (
        "only what sites call, what takes back what they borrow, and the trigger on marks are"
        " security definer",
        "prosecdef and proname not in ('wait_for', 'lend_table', 'take_back', 'note_missing_marks')",
    ),
    ("it belongs to who migrates: pysync_course owns tables only", "owner = 'pysync_course'"),
]

OTHERS = {
    "an object of a role that owns functions only: give it to who migrates": """
        select refobjid::regrole::text, classid::regclass::text, objid
          from pg_shdepend
         where dbid = (select oid from pg_database where datname = current_database())
           and deptype = 'o' and classid <> 'pg_proc'::regclass
           and refobjid::regrole::text in ('pysync_fan_out', 'pysync_owner')""",
    "pysync_owner touches pysync's own tables only: revoke it": """
        select c.oid::regclass::text
          from pg_class c
          left join pg_attribute a on a.attrelid = c.oid and a.attacl is not null
         cross join aclexplode(array_cat(c.relacl, a.attacl)) as granted
         where granted.grantee = 'pysync_owner'::regrole
           and c.relnamespace::regnamespace::text not in ('pysync', 'course')""",
    "a view reads applications' tables as its owner: add 'security_invoker'": """
        select distinct v.oid::regclass::text
          from pg_class v
          join pg_rewrite r on r.ev_class = v.oid
          join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
          join pg_class t on d.refclassid = 'pg_class'::regclass and t.oid = d.refobjid
         where v.relnamespace::regnamespace::text in ('pysync', 'course', 'student')
           and t.relnamespace = 'public'::regnamespace
           and not coalesce('security_invoker=true' = any (v.reloptions), false)""",
    "what others read calls a function of pysync_fan_out": """
        select d.classid::regclass::text, d.objid
          from pg_depend d
          join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
         where p.proowner = to_regrole('pysync_fan_out')
           and d.classid not in ('pg_proc'::regclass, 'pg_trigger'::regclass)""",
    "a policy of pysync's tables that sql/portal/row_security.sql doesn't make": """
        select polname, polrelid::regclass::text
          from pg_policy
         where polrelid::regclass::text ~ '^(pysync|course)\\.'
           and polname not in ('pysync_own_course', 'pysync_fan_out')""",
    "the role may become another, or another it": """
        select roleid::regrole::text, member::regrole::text
          from pg_auth_members
         where ('pysync_fan_out' in (roleid::regrole::text, member::regrole::text)
                or 'pysync_owner' in (roleid::regrole::text, member::regrole::text))
           -- Who migrates portals without being a superuser, in other tests.
           and member::regrole::text <> 'granted'""",
}


BREACHES = [
    "alter function pysync.mark(text) reset row_security",
    "alter function pysync.mark(text) set search_path = ''",
    "grant execute on function pysync.mark(text) to public",
    "grant execute on function course.user_updated() to pysync_owner",
    "alter function student.find_user(text) security definer",
    "alter function pysync.mark(text) owner to pysync_fan_out",
    "alter function pysync.queue_all_users() security definer",
    "alter function pysync.feature_is_on(text) owner to pg_monitor",
    "create or replace function course.user_deleted() returns trigger language plpgsql security"
    " definer set search_path = pg_catalog, pg_temp as $$ begin return null; end $$",
    "create function pysync.more() returns void language plpgsql set search_path = pg_catalog,"
    " pg_temp as $$ begin perform course.claim_members('{}'); end $$;"
    " revoke all on function pysync.more() from public",
    "create trigger t after update on pysync.course for each row"
    " execute function course.user_updated()",
    "alter table course.auth_user owner to pysync_fan_out",
    "grant select (id) on public.auth_user to pysync_owner",
    "alter view student.testcenter_user set (security_invoker = false)",
    "create view pysync.more as select course.free_username('', '', 1)",
    "create policy open on course.auth_user using (true)",
    "grant pysync_owner to pysync_fan_out",
]


def broken(session: psycopg.Connection[Any], rules: list[tuple[str, str]]) -> list[str]:
    """Return what breaks rules, each with how to mend it."""
    found = []
    for remedy, condition in rules:
        query = f"{ROUTINES} select name from routine where {condition} order by 1"
        found += [f"{name}: {remedy}" for (name,) in session.execute(query.encode())]
    return found


def broken_on_portal(session: psycopg.Connection[Any]) -> list[str]:
    found = broken(session, PORTAL)
    for remedy, query in OTHERS.items():
        found += [f"{' '.join(map(str, row))}: {remedy}" for row in session.execute(query.encode())]
    return found


def test_a_portal_obeys_the_rules(site: Site) -> None:
    session = site.connect()
    assert broken_on_portal(session) == []
    # The rules speak of something.
    ((fan_out, owner, triggers),) = session.execute(
        f"{ROUTINES} select count(*) filter (where owner = 'pysync_fan_out'),"
        " count(*) filter (where owner = 'pysync_owner'),"
        " count(*) filter (where is_trigger and prosecdef) from routine".encode()
    ).fetchall()
    assert fan_out > 20
    assert owner > 8
    assert triggers > 10


def test_a_course_database_obeys_the_rules(site: Site) -> None:
    site.add("A")
    with site.course("A") as course:
        assert broken(course, COURSE) == []


@pytest.mark.newest("what is tested is the test above")
def test_a_breach_is_found(site: Site) -> None:
    session = site.connect()
    for breach in BREACHES:
        with session.transaction(force_rollback=True):
            session.execute(breach.encode())
            assert broken_on_portal(session), breach
