"""Test-center users and registrations."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

from pysync.adoption import Side
from pysync.migrate.operations import (
    create,
    create_or_adopt,
    drop_or_release,
    execute,
    record_adoption,
    replay,
)

revision = "p0003"
down_revision = "p0002"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0003")

timestamp = sa.DateTime(timezone=True)


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


def fkey(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column],
        [f"public.{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="CASCADE",
        deferrable=True,
        initially="DEFERRED",
    )


def checks(table: str, **rules: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(rule, name=f"{table}_{column}_check") for column, rule in rules.items()
    ]


def indexes(table: str, *columns: str) -> list[sa.Index]:
    return [sa.Index(f"{table}_{column}_idx", column) for column in columns]


def latin1(column: str, more: str = "") -> str:
    return rf"{column} !~ '[^\u0001-\u00ff]'{more}"


def filled(column: str) -> str:
    return f"{column} <> '' and {latin1(column)}"


UPLOAD_STATUS = "upload_status in ('', 'Error', 'Accepted')"

portal = sa.MetaData()
sa.Table("auth_user", portal, sa.Column("id", sa.BigInteger, primary_key=True), schema="public")
USER, REGISTRATION = "student_testcenteruser", "student_testcenterregistration"
TABLES = [
    sa.Table(
        USER,
        portal,
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
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
        fkey(USER, "user_id", "auth_user"),
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
            state=latin1("state", " and (state <> '' or country not in ('USA', 'CAN'))"),
            postal_code=latin1(
                "postal_code", " and (postal_code <> '' or country not in ('USA', 'CAN'))"
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
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("testcenter_user_id", sa.BigInteger, nullable=False),
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
        fkey(REGISTRATION, "testcenter_user_id", USER),
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
ACCOMMODATION_CODE = sa.Table(
    "accommodation_code",
    sa.MetaData(),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("code", name="accommodation_code_pkey"),
    schema="student",
)


def upgrade() -> None:
    adoptions = [(table, create_or_adopt(table, Side.PORTAL)) for table in TABLES]
    create(ACCOMMODATION_CODE)
    for table, adoption in adoptions:
        if adoption is not None:
            record_adoption("pysync", table, adoption)
    replay(FROZEN)


# In the order in which they may go: what uses others is before them.
FUNCTIONS = [
    "testcenter_registrations(bigint, text, text)",
    "create_testcenter_user(bigint, json)",
    "update_testcenter_user(bigint, json)",
    "testcenter_user_needs_update(bigint, json)",
    "testcenter_user_fields(json)",
    "create_testcenter_registration(bigint, text, json, text)",
    "update_testcenter_registration(text, text)",
    "testcenter_registration_errors(text, json, text)",
    "exam_date(text)",
    "require_testcenter_user(text, json)",
    "testcenter_user_errors(json)",
    "require_no_errors(text, json, text)",
    "require_json_object(json)",
    "mask_json_for_errors(json)",
    "mask_json(text)",
    "new_client_id()",
    "set_accommodation_codes(text, text[])",
    "accommodation_names(text)",
    "record_user_upload(text, text, text, timestamp with time zone, integer)",
    "record_registration_upload(text, text, text, timestamp with time zone)",
    "require_upload_status(text, text, text)",
]
PREDICATES = [
    "is_accepted",
    "is_rejected",
    "is_pending_accommodation",
    "is_pending_acknowledgement",
]


def downgrade() -> None:
    for function in FUNCTIONS:
        execute(f"drop function student.{function}")
    for view in ("testcenter_registration", "testcenter_user"):
        execute(f"drop view student.{view}")
    execute("drop function student.contact_of_user(bigint)")
    for predicate in PREDICATES:
        execute(f"drop function student.{predicate}(public.{REGISTRATION})")
    for table in TABLES:
        execute(f"drop trigger pysync_touch_updated_at on public.{table.name}")
    execute("drop function student.touch_updated_at()")
    op.drop_table(ACCOMMODATION_CODE.name, schema=ACCOMMODATION_CODE.schema)
    for table in reversed(TABLES):
        drop_or_release(table)
