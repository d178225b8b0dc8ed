"""Fan-out tables with their triggers, the registry of courses, and student data."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from pysync.migrate.operations import (
    create,
    create_or_adopt,
    drop_or_release,
    execute,
    is_adopted,
    record_adoption,
    replay,
)
from pysync.types import Side

revision = "p0001"
down_revision = None
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0001")

timestamp = sa.DateTime(timezone=True)


def id_column() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False)


def reference(column: str) -> sa.Column[Any]:
    return sa.Column(column, sa.BigInteger, nullable=False)


def foreign_key(
    table: str, column: str, target: str = "auth_user", schema: str = "public"
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column],
        [f"{schema}.{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="CASCADE",
        deferrable=True,
        initially="DEFERRED",
    )


def unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"{table}_{'_'.join(columns)}_key")


def indexes(table: str, *columns: str) -> list[sa.Index]:
    return [sa.Index(f"{table}_{column}_idx", column) for column in columns]


def checks(table: str, **rules: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(rule, name=f"{table}_{column}_check") for column, rule in rules.items()
    ]


def user_columns() -> list[sa.Column[Any]]:
    return [
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
    ]


def profile_columns() -> list[sa.Column[Any]]:
    return [
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
    ]


def created() -> sa.Column[Any]:
    return sa.Column("created", timestamp, server_default=sa.text("now()"))


def copy_keys(*more: str) -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in more],
    ]


def blank(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=False, server_default=sa.text("''"))


def required(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=False)


def times() -> list[sa.Column[Any]]:
    return [
        sa.Column(name, timestamp, nullable=False, server_default=sa.text("now()"))
        for name in ("created_at", "updated_at", "user_updated_at")
    ]


def upload() -> list[sa.Column[Any]]:
    return [
        blank("upload_status", 20),
        sa.Column("uploaded_at", timestamp),
        blank("upload_error_message", 512),
    ]


def latin1(column: str, more: str = "") -> str:
    return rf"{column} !~ '[^\u0001-\u00ff]'{more}"


def filled(column: str) -> str:
    return f"{column} <> '' and {latin1(column)}"


def choice_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("code", sa.String(6), nullable=False),
        sa.Column("display_name", sa.String(255), nullable=False),
        sa.Column("position", sa.Integer, nullable=False, comment="where forms list it, from 1"),
    ]


portal = sa.MetaData()
PORTAL_TABLES = [
    sa.Table(
        "auth_user",
        portal,
        id_column(),
        *user_columns(),
        sa.PrimaryKeyConstraint("id", name="auth_user_pkey"),
        sa.UniqueConstraint("username", name="auth_user_username_key"),
        schema="public",
    ),
    sa.Table(
        "auth_userprofile",
        portal,
        id_column(),
        reference("user_id"),
        *profile_columns(),
        sa.PrimaryKeyConstraint("id", name="auth_userprofile_pkey"),
        sa.UniqueConstraint("user_id", name="auth_userprofile_user_id_key"),
        foreign_key("auth_userprofile", "user_id"),
        *indexes(
            "auth_userprofile",
            "name",
            "language",
            "location",
            "year_of_birth",
            "gender",
            "level_of_education",
        ),
        schema="public",
    ),
    sa.Table(
        "student_courseenrollment",
        portal,
        id_column(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        created(),
        sa.PrimaryKeyConstraint("id", name="student_courseenrollment_pkey"),
        sa.UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        foreign_key("student_courseenrollment", "user_id"),
        *indexes("student_courseenrollment", "user_id", "course_id", "created"),
        schema="public",
    ),
]

ours = sa.MetaData()
FAN_OUT_TABLES = [
    sa.Table(
        "auth_user",
        ours,
        *copy_keys(),
        sa.Column(
            "live",
            sa.Boolean,
            nullable=False,
            comment="whether the user is enrolled; never published",
        ),
        *user_columns(),
        sa.PrimaryKeyConstraint("id", "course_id", name="auth_user_pkey"),
        sa.UniqueConstraint("course_id", "username", name="auth_user_course_id_username_key"),
        schema="course",
        postgresql_with={"fillfactor": "90"},
    ),
    sa.Table(
        "auth_userprofile",
        ours,
        *copy_keys("user_id"),
        *profile_columns(),
        sa.PrimaryKeyConstraint("id", "course_id", name="auth_userprofile_pkey"),
        sa.UniqueConstraint("user_id", "course_id", name="auth_userprofile_user_id_course_id_key"),
        schema="course",
        postgresql_with={"fillfactor": "90"},
    ),
    sa.Table(
        "student_courseenrollment",
        ours,
        *copy_keys("user_id"),
        created(),
        sa.PrimaryKeyConstraint("id", "course_id", name="student_courseenrollment_pkey"),
        sa.UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        schema="course",
    ),
    sa.Table(
        "mark",
        ours,
        sa.Column("course_id", sa.String(255), nullable=False),
        id_column(),
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
            comment="of the WAL, in bytes: its predecessors were committed before; never published",
        ),
        sa.PrimaryKeyConstraint("course_id", "id", name="mark_pkey"),
        schema="course",
    ),
]
REGISTRY_TABLES = [
    sa.Table(
        "course",
        ours,
        sa.Column(
            "course_id",
            sa.String(255),
            nullable=False,
            comment="as in student_courseenrollment.course_id",
        ),
        sa.Column(
            "replication_name",
            sa.String(63),
            nullable=False,
            comment="of the publication, the slot and the subscription",
        ),
        sa.Column(
            "conninfo",
            sa.Text,
            nullable=False,
            comment="how pysync reaches the course database; never holds a password",
        ),
        sa.Column(
            "portal_conninfo",
            sa.Text,
            nullable=False,
            comment="how the course's server reaches the portal; never holds a password",
        ),
        sa.Column(
            "replication_role",
            sa.String(63),
            nullable=False,
            comment="the role the course's subscription has on the portal",
        ),
        sa.Column(
            "fans_out",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("true"),
            comment="whether triggers copy its members; false once removal has begun",
        ),
        sa.Column(
            "course_system_identifier",
            sa.BigInteger,
            comment="of the course's server: part of its synchronization slots' names",
        ),
        sa.Column(
            "course_database_oid",
            postgresql.OID,
            comment="of the course database: tells it from others of its server",
        ),
        sa.Column(
            "subscription_oid",
            postgresql.OID,
            comment="in the course database: part of its synchronization slots' names",
        ),
        sa.Column("ready_at", timestamp, comment="when the first copy was complete"),
        sa.Column("added_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column(
            "adopts",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether its database held users before: it is filled by a merge",
        ),
        sa.Column(
            "sacrificed_at",
            timestamp,
            comment="when its slot was dropped to save the portal's disk",
        ),
        sa.Column(
            "unfilled",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="columns that its publication has, but whose earlier values aren't streamed",
        ),
        sa.Column(
            "withdrawn",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether columns have left its publication that it may still be sent",
        ),
        sa.Column(
            "paused_position",
            sa.BigInteger,
            comment="of the WAL, in bytes: what its slot had confirmed when it was paused",
        ),
        sa.Column(
            "lost_at",
            timestamp,
            comment="when a report first saw that it lacks changes, until a merge has brought them",
        ),
        sa.Column(
            "server_started_at",
            timestamp,
            comment="of the course's server, when the course was last known to be whole",
        ),
        sa.Column(
            "missed_changes",
            sa.BigInteger,
            comment="changes of rows that weren't there, as its server had counted them then",
        ),
        sa.Column(
            "durable",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether its subscription flushes each change before it confirms it",
        ),
        sa.Column(
            "relay",
            sa.String(255),
            comment="the relay that it streams from; null if it streams from the portal",
        ),
        sa.Column(
            "carries",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="the courses whose rows its publication has beside its own, if it is a relay",
        ),
        sa.Column(
            "catalog_fingerprint",
            sa.Text,
            comment="of its database's, when a report last saw nothing in it that differs",
        ),
        sa.Column(
            "awaits",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="those of them whose rows it hasn't got until its next merge",
        ),
        sa.PrimaryKeyConstraint("course_id", name="course_pkey"),
        sa.UniqueConstraint("replication_name", name="course_replication_name_key"),
        sa.ForeignKeyConstraint(["relay"], ["pysync.course.course_id"], name="course_relay_fkey"),
        sa.CheckConstraint(
            "course_id <> '' and course_id <> 'default'", name="course_course_id_check"
        ),
        schema="pysync",
    ),
    sa.Table(
        "erasure",
        ours,
        sa.Column("user_id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column("requested_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column(
            "username_digest",
            sa.String(64),
            nullable=False,
            comment="SHA-256 of '<user_id>:<username>', to find it by the same command",
        ),
        sa.PrimaryKeyConstraint("user_id", "course_id", name="erasure_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "turn",
        ours,
        sa.Column(
            "name",
            sa.String(255),
            nullable=False,
            comment="a course's id; empty for a migration of all",
        ),
        sa.Column(
            "ticket",
            sa.BigInteger,
            nullable=False,
            comment="key of the advisory lock that the session holds: random, so nobody else's",
        ),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("role_name", sa.Text, nullable=False),
        sa.Column("application_name", sa.Text, nullable=False),
        sa.Column("taken_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("name", name="turn_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "this_portal",
        ours,
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column(
            "portal_id", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")
        ),
        sa.Column("system_identifier", sa.BigInteger, nullable=False, comment="of the server"),
        sa.Column("database_oid", postgresql.OID, nullable=False),
        sa.Column("claimed_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("singleton", name="this_portal_pkey"),
        sa.CheckConstraint("singleton", name="this_portal_singleton_check"),
        schema="pysync",
    ),
    sa.Table(
        "registry_change",
        ours,
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("changed_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("singleton", name="registry_change_pkey"),
        sa.CheckConstraint("singleton", name="registry_change_singleton_check"),
        schema="pysync",
    ),
    sa.Table(
        "member_change",
        ours,
        sa.Column("user_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="member_change_pkey"),
        schema="pysync",
        prefixes=["UNLOGGED"],
        postgresql_with={"fillfactor": "50"},
    ),
    sa.Table(
        "profile_change",
        ours,
        sa.Column(
            "transaction_id",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("(pg_current_xact_id()::text)::bigint"),
        ),
        id_column(),
        sa.Column("user_ids", postgresql.ARRAY(sa.BigInteger), nullable=False),
        sa.PrimaryKeyConstraint("transaction_id", "id", name="profile_change_pkey"),
        schema="pysync",
        prefixes=["UNLOGGED"],
    ),
    sa.Table(
        "installed",
        ours,
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
        schema="pysync",
    ),
    sa.Table(
        "carried_column",
        ours,
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
        sa.Column("added_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column(
            "removal",
            sa.String(8),
            comment="what becomes of it in courses once it has begun to be removed",
        ),
        sa.PrimaryKeyConstraint("table_name", "column_name", name="carried_column_pkey"),
        sa.CheckConstraint(
            "removal = 'keep' or removal = 'drop'", name="carried_column_removal_check"
        ),
        schema="pysync",
    ),
    sa.Table(
        "membership",
        ours,
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column(
            "column_name",
            sa.String(63),
            comment="those whose column of this name is true; all, if it is null",
        ),
        sa.Column("decided_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("singleton", name="membership_pkey"),
        sa.CheckConstraint("singleton", name="membership_singleton_check"),
        schema="pysync",
    ),
    sa.Table(
        "adoption",
        ours,
        sa.Column("table_name", sa.String(63), nullable=False),
        sa.Column(
            "undo",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            comment="statements that take back what adoption did, as far as the data allows",
        ),
        sa.PrimaryKeyConstraint("table_name", name="adoption_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "verification",
        ours,
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column(
            "verified_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when that began: of what began before, nothing is recorded any more",
        ),
        sa.Column(
            "differences",
            sa.BigInteger,
            comment="rows that differed on either side, or couldn't be settled; null after a merge",
        ),
        sa.PrimaryKeyConstraint("course_id", name="verification_pkey"),
        sa.ForeignKeyConstraint(
            ["course_id"],
            ["pysync.course.course_id"],
            name="verification_course_id_fkey",
            ondelete="CASCADE",
        ),
        schema="pysync",
    ),
    sa.Table(
        "look",
        ours,
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("course_id", name="look_pkey"),
        sa.ForeignKeyConstraint(
            ["course_id"],
            ["pysync.course.course_id"],
            name="look_course_id_fkey",
            ondelete="CASCADE",
        ),
        schema="pysync",
        prefixes=["UNLOGGED"],
    ),
]
ACCOUNT_TABLES = [
    sa.Table(
        "auth_registration",
        portal,
        id_column(),
        reference("user_id"),
        sa.Column("activation_key", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="auth_registration_pkey"),
        unique("auth_registration", "user_id"),
        unique("auth_registration", "activation_key"),
        foreign_key("auth_registration", "user_id"),
        schema="public",
    ),
    sa.Table(
        "student_pendingnamechange",
        portal,
        id_column(),
        reference("user_id"),
        sa.Column("new_name", sa.String(255), nullable=False),
        sa.Column("rationale", sa.String(1024), nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("id", name="student_pendingnamechange_pkey"),
        unique("student_pendingnamechange", "user_id"),
        foreign_key("student_pendingnamechange", "user_id"),
        schema="public",
    ),
    sa.Table(
        "student_pendingemailchange",
        portal,
        id_column(),
        reference("user_id"),
        sa.Column("new_email", sa.String(255), nullable=False),
        sa.Column("activation_key", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="student_pendingemailchange_pkey"),
        unique("student_pendingemailchange", "user_id"),
        unique("student_pendingemailchange", "activation_key"),
        foreign_key("student_pendingemailchange", "user_id"),
        *indexes("student_pendingemailchange", "new_email"),
        schema="public",
    ),
    sa.Table(
        "student_usertestgroup",
        portal,
        id_column(),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("id", name="student_usertestgroup_pkey"),
        unique("student_usertestgroup", "name"),
        sa.CheckConstraint("name <> ''", name="student_usertestgroup_name_check"),
        schema="public",
    ),
    sa.Table(
        "student_usertestgroup_users",
        portal,
        id_column(),
        reference("usertestgroup_id"),
        reference("user_id"),
        sa.PrimaryKeyConstraint("id", name="student_usertestgroup_users_pkey"),
        unique("student_usertestgroup_users", "usertestgroup_id", "user_id"),
        foreign_key("student_usertestgroup_users", "usertestgroup_id", "student_usertestgroup"),
        foreign_key("student_usertestgroup_users", "user_id"),
        *indexes("student_usertestgroup_users", "usertestgroup_id", "user_id"),
        schema="public",
    ),
    sa.Table(
        "django_comment_client_role",
        portal,
        id_column(),
        sa.Column("name", sa.String(30), nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("id", name="django_comment_client_role_pkey"),
        unique("django_comment_client_role", "course_id", "name"),
        *indexes("django_comment_client_role", "course_id"),
        schema="public",
    ),
    sa.Table(
        "django_comment_client_role_users",
        portal,
        id_column(),
        reference("role_id"),
        reference("user_id"),
        sa.PrimaryKeyConstraint("id", name="django_comment_client_role_users_pkey"),
        unique("django_comment_client_role_users", "role_id", "user_id"),
        foreign_key("django_comment_client_role_users", "role_id", "django_comment_client_role"),
        foreign_key("django_comment_client_role_users", "user_id"),
        *indexes("django_comment_client_role_users", "role_id", "user_id"),
        schema="public",
    ),
]
UPLOAD_STATUS = "upload_status::text in ('', 'Error', 'Accepted')"

USER, REGISTRATION = "student_testcenteruser", "student_testcenterregistration"
TESTCENTER_TABLES = [
    sa.Table(
        USER,
        portal,
        id_column(),
        reference("user_id"),
        *times(),
        sa.Column("candidate_id", sa.Integer),
        required("client_candidate_id", 50),
        required("first_name", 30),
        required("last_name", 50),
        blank("middle_name", 30),
        blank("suffix", 255),
        blank("salutation", 50),
        required("address_1", 40),
        blank("address_2", 40),
        blank("address_3", 40),
        required("city", 32),
        blank("state", 20),
        blank("postal_code", 16),
        required("country", 3),
        required("phone", 35),
        blank("extension", 8),
        required("phone_country_code", 3),
        blank("fax", 35),
        blank("fax_country_code", 3),
        blank("company_name", 50),
        *upload(),
        sa.PrimaryKeyConstraint("id", name=f"{USER}_pkey"),
        sa.UniqueConstraint("user_id", name=f"{USER}_user_id_key"),
        sa.UniqueConstraint("client_candidate_id", name=f"{USER}_client_candidate_id_key"),
        foreign_key(USER, "user_id"),
        *checks(
            USER,
            first_name=filled("first_name"),
            middle_name=latin1("middle_name"),
            last_name=filled("last_name"),
            suffix=latin1("suffix"),
            salutation=latin1("salutation"),
            address_1=filled("address_1"),
            address_2=latin1("address_2"),
            address_3=latin1("address_3"),
            city=filled("city"),
            state=latin1("state", " and (state <> '' or country::text not in ('USA', 'CAN'))"),
            postal_code=latin1(
                "postal_code", " and (postal_code <> '' or country::text not in ('USA', 'CAN'))"
            ),
            country=latin1("country", " and length(country) = 3"),
            phone=filled("phone"),
            extension=latin1("extension"),
            phone_country_code=latin1("phone_country_code", " and length(phone_country_code) = 3"),
            fax=latin1("fax"),
            fax_country_code=latin1(
                "fax_country_code",
                " and length(fax_country_code) in (0, 3) and (fax_country_code <> '' or fax = '')",
            ),
            company_name=latin1("company_name"),
            client_candidate_id="client_candidate_id <> ''",
            upload_status=UPLOAD_STATUS,
        ),
        *indexes(
            USER,
            "created_at",
            "updated_at",
            "user_updated_at",
            "candidate_id",
            "first_name",
            "last_name",
            "city",
            "state",
            "postal_code",
            "country",
            "extension",
            "phone_country_code",
            "company_name",
            "upload_status",
            "uploaded_at",
        ),
        schema="public",
    ),
    sa.Table(
        REGISTRATION,
        portal,
        id_column(),
        reference("testcenter_user_id"),
        required("course_id", 128),
        *times(),
        required("client_authorization_id", 20),
        required("exam_series_code", 15),
        sa.Column("eligibility_appointment_date_first", sa.Date, nullable=False),
        sa.Column("eligibility_appointment_date_last", sa.Date, nullable=False),
        blank("accommodation_code", 64),
        blank("accommodation_request", 1024),
        *upload(),
        sa.PrimaryKeyConstraint("id", name=f"{REGISTRATION}_pkey"),
        sa.UniqueConstraint(
            "client_authorization_id", name=f"{REGISTRATION}_client_authorization_id_key"
        ),
        foreign_key(REGISTRATION, "testcenter_user_id", USER),
        *checks(
            REGISTRATION,
            course_id="course_id <> ''",
            client_authorization_id="client_authorization_id <> ''",
            exam_series_code=filled("exam_series_code"),
            dates=("eligibility_appointment_date_last >= eligibility_appointment_date_first"),
            accommodation_code=(
                "string_to_array(accommodation_code, '*') <@ array['EQPMNT', 'ET12ET', 'ET30MN', "
                "'ETDBTM', 'SEPRMM', 'SRREAD', 'SRRERC', 'SRRECR', 'SRSEAN', 'SRSGNR']"
            ),
            upload_status=UPLOAD_STATUS,
        ),
        *indexes(
            REGISTRATION,
            "testcenter_user_id",
            "course_id",
            "created_at",
            "updated_at",
            "user_updated_at",
            "exam_series_code",
            "uploaded_at",
        ),
        sa.Index(f"{REGISTRATION}_first_idx", "eligibility_appointment_date_first"),
        sa.Index(f"{REGISTRATION}_last_idx", "eligibility_appointment_date_last"),
        schema="public",
    ),
]
STUDENT_TABLES = [
    sa.Table(
        "gender",
        ours,
        *choice_columns(),
        sa.PrimaryKeyConstraint("code", name="gender_pkey"),
        sa.UniqueConstraint("position", name="gender_position_key"),
        schema="student",
    ),
    sa.Table(
        "level_of_education",
        ours,
        *choice_columns(),
        sa.PrimaryKeyConstraint("code", name="level_of_education_pkey"),
        sa.UniqueConstraint("position", name="level_of_education_position_key"),
        schema="student",
    ),
    sa.Table(
        "email_claim",
        ours,
        sa.Column("email", sa.Text, nullable=False, comment="in lower case"),
        sa.PrimaryKeyConstraint("email", name="email_claim_pkey"),
        schema="student",
    ),
    sa.Table(
        "setting",
        ours,
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.PrimaryKeyConstraint("name", name="setting_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "discussion_change",
        ours,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("changed_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="discussion_change_pkey"),
        sa.Index("discussion_change_user_id_idx", "user_id"),
        schema="pysync",
    ),
    sa.Table(
        "discussion_outbox",
        ours,
        sa.Column("user_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column(
            "version",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("1"),
            comment="counts changes: a delivery that was overtaken by one isn't the last",
        ),
        sa.Column("queued_at", timestamp, nullable=False),
        sa.Column(
            "attempts",
            sa.Integer,
            nullable=False,
            server_default=sa.text("0"),
            comment="that failed, one after the other",
        ),
        sa.Column(
            "next_attempt_at",
            timestamp,
            nullable=False,
            comment="while it is claimed: when the claim runs out",
        ),
        sa.Column("claimed_until", timestamp, comment="whose claim it is: of no two the same"),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("user_id", name="discussion_outbox_pkey"),
        sa.Index("discussion_outbox_next_attempt_at_idx", "next_attempt_at"),
        schema="pysync",
    ),
    sa.Table(
        "accommodation_code",
        ours,
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("code", name="accommodation_code_pkey"),
        schema="student",
    ),
]

# Its constraints would have rows of an adopted table fail: those are only checked from now on.
PROFILE_CHECKS = {
    "gender": "gender::text in ('', 'm', 'f', 'o')",
    "level_of_education": (
        "level_of_education::text in "
        "('', 'p_se', 'p_oth', 'm', 'b', 'hs', 'jhs', 'el', 'none', 'other')"
    ),
}
PROFILE = "public.auth_userprofile"
APPLICATION_TABLES = [*PORTAL_TABLES, *ACCOUNT_TABLES, *TESTCENTER_TABLES]


def upgrade() -> None:
    execute("create schema course")
    execute("create schema student")
    execute("create type course.absent as ()")
    execute(
        "comment on type course.absent is "
        "'What a carried column is once the portal''s table has lost it: no value has this type.'"
    )
    adoptions = [(table, create_or_adopt(table, Side.PORTAL)) for table in APPLICATION_TABLES]
    execute("create index auth_user_email_lower_idx on public.auth_user (lower(email))")
    not_valid = " not valid" if is_adopted("auth_userprofile") else ""
    for column, condition in PROFILE_CHECKS.items():
        name = f"auth_userprofile_{column}_check"
        execute(f"alter table {PROFILE} add constraint {name} check ({condition}){not_valid}")
    for table in [*FAN_OUT_TABLES, *REGISTRY_TABLES, *STUDENT_TABLES]:
        create(table)
    for table, adoption in adoptions:
        if adoption is not None:
            record_adoption("pysync", table, adoption)
    execute("insert into pysync.registry_change default values")
    execute(
        "insert into pysync.this_portal (system_identifier, database_oid) "
        "select server.system_identifier, pg_database.oid "
        "from pg_catalog.pg_control_system() as server, pg_catalog.pg_database "
        "where pg_database.datname = current_database()"
    )
    replay(FROZEN)


# Functions take their triggers on the applications' tables with them. Alembic still writes into its
# table, so the schema that has it goes last.
DROP_FUNCTIONS_AND_TABLES = """
do $$
declare
    ours text;
begin
    for ours in
        select pg_catalog.format('drop routine if exists %s cascade', oid::regprocedure)
          from pg_catalog.pg_proc
         where pronamespace = 'pysync'::regnamespace
         union all
        select pg_catalog.format('drop %s if exists %s cascade',
                                 case relkind when 'v' then 'view' else 'table' end, oid::regclass)
          from pg_catalog.pg_class
         where relnamespace = 'pysync'::regnamespace
           and relkind in ('r', 'v')
           and relname <> 'alembic_version'
    loop
        execute ours;
    end loop;
end
$$
"""


def downgrade() -> None:
    execute(
        "do $$ begin if exists (select from pysync.course) then "
        "raise exception using errcode = 'PY006', "
        "message = 'courses are registered: the downgrade would leave their slots behind', "
        "hint = 'Run \"pysync course remove\" for each of them first'; "
        "end if; end $$"
    )
    execute("drop schema student cascade")
    execute("drop schema course cascade")
    execute(DROP_FUNCTIONS_AND_TABLES)
    for column in PROFILE_CHECKS:
        execute(f"alter table {PROFILE} drop constraint auth_userprofile_{column}_check")
    op.drop_index("auth_user_email_lower_idx", "auth_user", schema="public")
    for table in reversed(APPLICATION_TABLES):
        drop_or_release(table)
    # What is left to the roles in this database are their grants. They go even where other portals
    # of this cluster need the roles still: else nobody could ever drop them.
    execute("drop owned by pysync_fan_out, pysync_owner")
    for role in ("pysync_fan_out", "pysync_owner"):
        execute(
            f"do $$ begin drop role {role}; "
            "exception when dependent_objects_still_exist or insufficient_privilege then null; "
            "end $$"
        )
