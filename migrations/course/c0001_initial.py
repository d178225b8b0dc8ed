"""Replicated tables with their write guard, what waits for marks, what monitoring reads."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from pysync.migrate.operations import (
    attribute,
    create,
    create_or_adopt,
    drop_or_release,
    execute,
    record_adoption,
    replay,
)
from pysync.types import RELAY_PREFIX, Side

revision = "c0001"
down_revision = None
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("c0001")

timestamp = sa.DateTime(timezone=True)


def keys(*more: str) -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in more],
    ]


def user_id_fkey(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id"],
        ["course.auth_user.id"],
        name=f"{table}_user_id_fkey",
        deferrable=True,
        initially="DEFERRED",
    )


def of_relay(table: sa.Table) -> sa.Table:
    """Return a replicated table as a relay has it: rows of many courses, for nobody to look at."""
    columns = [sa.Column(c.name, c.type, nullable=c.nullable) for c in table.columns]
    key = sa.PrimaryKeyConstraint("course_id", "id", name=f"{table.name}_pkey")
    return sa.Table(table.name, sa.MetaData(), *columns, key, schema="course")


def indexes(table: str, *columns: str) -> list[sa.Index]:
    return [sa.Index(f"{table}_{column}_idx", column) for column in columns]


metadata = sa.MetaData()
REPLICATED_TABLES = [
    sa.Table(
        "auth_user",
        metadata,
        *keys(),
        sa.Column("password", sa.String(128), nullable=False),
        sa.Column("last_login", timestamp),
        sa.Column("is_superuser", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("username", sa.String(150), nullable=False),
        sa.Column("first_name", sa.String(150), nullable=False, server_default=sa.text("''")),
        sa.Column("last_name", sa.String(150), nullable=False, server_default=sa.text("''")),
        sa.Column("email", sa.String(254), nullable=False, server_default=sa.text("''")),
        sa.Column("is_staff", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("date_joined", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="auth_user_pkey"),
        sa.UniqueConstraint("username", name="auth_user_username_key"),
        schema="course",
    ),
    sa.Table(
        "auth_userprofile",
        metadata,
        *keys("user_id"),
        sa.Column("name", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.Column("meta", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column(
            "courseware", sa.String(255), nullable=False, server_default=sa.text("'course.xml'")
        ),
        sa.Column("language", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.Column("location", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.Column("year_of_birth", sa.Integer),
        sa.Column("gender", sa.String(6)),
        sa.Column("level_of_education", sa.String(6)),
        sa.Column("mailing_address", sa.Text),
        sa.Column("goals", sa.Text),
        sa.PrimaryKeyConstraint("id", name="auth_userprofile_pkey"),
        sa.UniqueConstraint("user_id", name="auth_userprofile_user_id_key"),
        user_id_fkey("auth_userprofile"),
        *indexes(
            "auth_userprofile",
            "name",
            "language",
            "location",
            "year_of_birth",
            "gender",
            "level_of_education",
        ),
        schema="course",
    ),
    sa.Table(
        "student_courseenrollment",
        metadata,
        *keys("user_id"),
        sa.Column("created", timestamp, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="student_courseenrollment_pkey"),
        sa.UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        user_id_fkey("student_courseenrollment"),
        *indexes("student_courseenrollment", "user_id", "course_id", "created"),
        schema="course",
    ),
]
OWN_TABLES = [
    sa.Table(
        "mark",
        metadata,
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("marked_at", timestamp, nullable=False),
        sa.Column(
            "predecessors",
            postgresql.JSONB,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="what this mark follows: each row's number at the time, by the row's id",
        ),
        sa.Column(
            "position",
            sa.BigInteger,
            comment="of this server's WAL, in bytes, when it arrived; null if a merge brought it",
        ),
        sa.PrimaryKeyConstraint("id", name="mark_pkey"),
        schema="course",
    ),
    sa.Table(
        "missing_mark",
        metadata,
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column(
            "lost_after",
            timestamp,
            comment="when the newest mark was sent that was here; null if none was",
        ),
        sa.Column(
            "lost_before",
            timestamp,
            nullable=False,
            comment="when the mark was sent that came instead",
        ),
        sa.Column("found_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", "number", name="missing_mark_pkey"),
        schema="course",
    ),
    sa.Table(
        "this_course",
        metadata,
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column("portal_id", sa.Uuid),
        sa.Column("system_identifier", sa.BigInteger, comment="of the server"),
        sa.Column("database_oid", postgresql.OID),
        sa.PrimaryKeyConstraint("singleton", name="this_course_pkey"),
        sa.CheckConstraint("singleton", name="this_course_singleton_check"),
        schema="course",
    ),
    sa.Table(
        "installed",
        metadata,
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column(
            "relation",
            sa.Text,
            nullable=False,
            comment="the table that it is on; empty for what is on none",
        ),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("facts", postgresql.JSONB, nullable=False, comment="in every major the same"),
        sa.Column("definition", sa.Text, comment="as the server spells it"),
        sa.Column("major", sa.Integer, nullable=False, comment="of the server that spelled it"),
        sa.PrimaryKeyConstraint("kind", "relation", "name", name="installed_pkey"),
        schema="course",
    ),
    sa.Table(
        "carried_column",
        metadata,
        sa.Column("table_name", sa.String(63), nullable=False),
        sa.Column("column_name", sa.String(63), nullable=False),
        sa.Column("type", sa.Text, nullable=False, comment="as the portal's catalog writes it"),
        sa.Column("collation_name", sa.Text, comment="if it isn't the type's own"),
        sa.Column("not_null", sa.Boolean, nullable=False),
        sa.Column("scrub", sa.Text, comment="what it is, as text, for whom the portal doesn't say"),
        sa.Column(
            "takes_over",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether courses may have had a column of that name before",
        ),
        sa.Column("made", sa.Boolean, nullable=False, comment="whether pysync added it here"),
        sa.PrimaryKeyConstraint("table_name", "column_name", name="carried_column_pkey"),
        schema="course",
    ),
    sa.Table(
        "adoption",
        metadata,
        sa.Column("table_name", sa.String(63), nullable=False),
        sa.Column(
            "undo",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            comment="statements that take back what adoption did, as far as the data allows",
        ),
        sa.Column("owner", sa.Text, comment="the role that had it"),
        sa.Column(
            "keeps_owner",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether that role goes on owning it",
        ),
        sa.Column(
            "revoked",
            postgresql.JSONB,
            nullable=False,
            server_default=sa.text("'[]'"),
            comment="rights of others on it, which they have again when it is given back",
        ),
        sa.PrimaryKeyConstraint("table_name", name="adoption_pkey"),
        schema="course",
    ),
    sa.Table(
        "loan",
        metadata,
        sa.Column("table_name", sa.String(63), nullable=False),
        sa.Column("relation", postgresql.OID, nullable=False),
        sa.Column("borrower", sa.Text, nullable=False),
        sa.Column("may_create", sa.Boolean, nullable=False, comment="in this schema, before"),
        sa.Column(
            "write_guard",
            postgresql.ARRAY(sa.Text),
            comment="how it was, and has to be again",
        ),
        sa.PrimaryKeyConstraint("table_name", name="loan_pkey"),
        schema="course",
    ),
]

# Whoever could use a moved table, or columns of it, goes on doing so.
GRANT_USAGE = """
do $$
declare
    role_name text;
begin
    for role_name in
        select grantee.rolname
          from course.adoption
          join pg_catalog.pg_class as moved
            on moved.oid = format('course.%I', adoption.table_name)::regclass
          cross join lateral (
              select grantee
                from aclexplode(coalesce(moved.relacl, acldefault('r', moved.relowner)))
              union
              select on_column.grantee
                from pg_catalog.pg_attribute as moved_column
                cross join aclexplode(moved_column.attacl) as on_column
               where moved_column.attrelid = moved.oid
          ) as granted
          join pg_catalog.pg_roles as grantee on grantee.oid = granted.grantee
         group by grantee.rolname
    loop
        execute format('grant usage on schema course to %I', role_name);
    end loop;
end
$$
"""

RECORD_OWNERS = """
update course.adoption
   set owner = pg_catalog.pg_get_userbyid(moved.relowner),
       keeps_owner = {keeps_owner}
  from pg_catalog.pg_class as moved
 where moved.oid = format('course.%I', adoption.table_name)::regclass
"""


def upgrade() -> None:
    course_id = str(attribute("course_id"))
    if course_id.startswith(RELAY_PREFIX):
        adoptions = []
        made = [of_relay(table) for table in [*REPLICATED_TABLES, *OWN_TABLES[:1]]] + OWN_TABLES[1:]
    else:
        adoptions = [(table, create_or_adopt(table, Side.COURSE)) for table in REPLICATED_TABLES]
        made = OWN_TABLES
    for table in made:
        create(table)
    for table, adoption in adoptions:
        if adoption is not None:
            record_adoption("course", table, adoption)
    course_id = course_id.replace("'", "''")
    execute(f"insert into course.this_course (course_id) values ('{course_id}')")
    execute(GRANT_USAGE)
    execute(RECORD_OWNERS.format(keeps_owner="true" if attribute("keep_owner") else "false"))
    replay(FROZEN)
    execute("call course.take_over()")


# Takes back what membership.sql made.
LEAVE_COURSE = """
do $$
declare
    replicated record;
begin
    for replicated in
        select attrelid::regclass as relation, attcollation::regcollation as collation,
               atttypid = to_regtype('course.this_course_id') as is_ours
          from pg_catalog.pg_attribute
         where attrelid = any (array['course.auth_user', 'course.auth_userprofile',
                                     'course.student_courseenrollment']::regclass[])
           and attname = 'course_id'
    loop
        execute format('alter table %s drop constraint if exists pysync_this_course',
                       replicated.relation);
        if replicated.is_ours then
            execute format('alter table %s alter column course_id type varchar(255) collate %s',
                           replicated.relation, replicated.collation);
        end if;
    end loop;
    drop domain if exists course.this_course_id;
end
$$
"""

# Takes back what search_path.sql added.
RESET_SEARCH_PATH = """
do $$
declare
    others text;
begin
    select nullif(string_agg(entry, ', ' order by position), '"$user", public')
      into others
      from pg_catalog.pg_db_role_setting as per_database
      join pg_catalog.pg_database as this_database on this_database.oid = per_database.setdatabase
      cross join unnest(per_database.setconfig) as setting
      cross join regexp_split_to_table(substr(setting, length('search_path=') + 1), '\\s*,\\s*')
                 with ordinality as split (entry, position)
     where this_database.datname = current_database()
       and per_database.setrole = 0
       and setting like 'search_path=%'
       and trim(both '"' from entry) <> 'course';
    if others is null then
        execute format('alter database %I reset search_path', current_database());
    else
        execute format('alter database %I set search_path = %s', current_database(), others);
    end if;
end
$$
"""

ROUTINES = [
    "refuse_change()",
    "refuse_write()",
    "note_missing_marks()",
    "wait_for(bigint, interval)",
    "take_back()",
    "lend_table(text)",
    "take_over()",
    "give_back()",
    "own_table(regclass)",
    "hand_over(regclass, name)",
    "code_of_others(regclass)",
    "write_guard(regclass)",
]


def downgrade() -> None:
    execute(
        "do $$ begin if exists (select from pg_catalog.pg_subscription_rel "
        "where srrelid = 'course.auth_user'::regclass) then "
        "raise exception using errcode = 'PY006', "
        "message = 'the database is subscribed to a portal', "
        "hint = 'Run \"pysync course remove\" first'; end if; end $$"
    )
    execute("call course.give_back()")
    execute(RESET_SEARCH_PATH)
    execute("drop view course.replication_status")
    for table in OWN_TABLES:
        op.drop_table(table.name, schema="course")
    execute(LEAVE_COURSE)
    for table in REPLICATED_TABLES:
        for trigger in ("rows", "columns", "truncate"):
            execute(f"drop trigger pysync_refuse_{trigger} on course.{table.name}")
        # Set when a course is removed.
        execute(f"alter table course.{table.name} alter column course_id drop default")
    for table in reversed(REPLICATED_TABLES):
        drop_or_release(table)
    for routine in ROUTINES:
        execute(f"drop routine course.{routine}")
    # Other course databases of this cluster may need the role still.
    execute("revoke usage on schema course from pysync_course")
    execute(
        "do $$ begin drop role pysync_course; "
        "exception when dependent_objects_still_exist or insufficient_privilege then null; "
        "end $$"
    )
