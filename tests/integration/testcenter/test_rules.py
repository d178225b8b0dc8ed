"""The form's rules: Python, SQL and the table's constraints agree on whatever comes."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.models.testcenter import USER_PROVIDED_FIELDS
from pysync.students.validation import RULES
from pysync.students.validation import testcenter_user_errors as errors_in_python
from tests.integration.fan_out import App
from tests.support import Cluster
from tests.testcenter_rows import GOOD, Row, row

pytestmark = pytest.mark.oldest_and_newest(
    "SQL on ordinary tables: what the oldest and the newest agree on, those between do as well"
)

rows = st.integers(0, 2**64).map(lambda seed: [row(Random(seed + n)) for n in range(200)])
"""Hypothesis finds the seeds: drawing each character by itself takes it a hundred times longer."""

thorough = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ERRORS_OF_ROWS = """
select json_agg(coalesce(errors, '[]') order by position)
  from (select position,
               json_agg(json_build_array(field, message) order by number)
                   filter (where field is not null) as errors
          from unnest(%s::json[]) with ordinality as given (data, position)
          left join student.testcenter_user_errors(data) with ordinality
                   as error (field, message, number) on true
         group by position) as found
"""


def as_lists(data: Row) -> list[list[str]]:
    return [list(error) for error in errors_in_python(data)]


@thorough
@given(rows)
def test_python_and_sql_find_the_same_errors(app: App, batch: list[Row]) -> None:
    found = app.one(ERRORS_OF_ROWS, [json.dumps(data) for data in batch])
    for data, in_sql in zip(batch, found, strict=True):
        assert as_lists(data) == in_sql, data


INSERT_ROWS = f"""
create function pg_temp.insert_rows(rows json[])
returns setof text
language plpgsql
as $$
declare
    data json;
begin
    foreach data in array rows loop
        begin
            insert into public.student_testcenteruser
                   (user_id, client_candidate_id, {", ".join(USER_PROVIDED_FIELDS)})
            values (1, 'edX1', {", ".join(f"coalesce(data->>'{f}', '')" for f in USER_PROVIDED_FIELDS)});
            raise exception using errcode = 'PT000';
        exception
            when others then
                return next sqlstate;
        end;
    end loop;
end
$$
"""


def as_stored(data: Row) -> Row:
    """Return what a column makes of a value: SQL cuts off blanks beyond a varchar's length."""
    stored = {}
    for name, text in data.items():
        limit = RULES[name].limit
        stored[name] = text[:limit] if text and not text[limit:].strip(" ") else text
    return stored


@thorough
@given(rows)
def test_the_table_takes_a_row_if_and_only_if_it_has_no_errors(app: App, batch: list[Row]) -> None:
    texts = [
        {name: data[name] for name in RULES if isinstance(data.get(name, 0), str | None)}
        for data in batch
    ]
    # As JSON has them: surrogates in pairs are one character.
    texts = [json.loads(json.dumps(data)) for data in texts]
    app.execute(INSERT_ROWS.replace("create function", "create or replace function"))
    outcomes = app.execute(
        "select * from pg_temp.insert_rows(%s::json[])", [json.dumps(data) for data in texts]
    )
    for data, (sqlstate,) in zip(texts, outcomes, strict=True):
        if errors_in_python(as_stored(data)):
            assert sqlstate[:2] in ("22", "23"), data
        else:
            assert sqlstate == "PT000", data
    assert app.one("select count(*) from student_testcenteruser") == 0


def test_the_rows_reach_every_rule(app: App) -> None:
    """What is generated isn't all refused for the same reason, nor all fine."""
    found = Counter(
        (field, message.split("(")[0])
        for seed in range(3000)
        for field, message in errors_in_python(row(Random(seed)))
    )
    for field in RULES:
        assert found[field, "Must be text."]
        assert found[field, "Null characters are not allowed."]
        assert found[field, "Must only use characters in Latin-1 encoding"]
    for field in ("country", "phone_country_code", "fax_country_code"):
        assert found[field, "Must be three characters "]
    assert found["state", "Required if country is USA or CAN."]
    assert found["postal_code", "Required if country is USA or CAN."]
    assert found["fax_country_code", "Required if fax is specified."]
    clean = sum(not errors_in_python(row(Random(seed))) for seed in range(1000))
    assert 100 < clean < 900


def test_the_rules_are_as_wide_as_the_columns(app: App) -> None:
    widths = app.execute(
        "select attname, atttypmod - 4 from pg_attribute"
        " where attrelid = 'student_testcenteruser'::regclass and attname = any(%s)",
        list(RULES),
    )
    assert dict(widths) == {name: rule.limit for name, rule in RULES.items()}
    assert list(RULES) == list(USER_PROVIDED_FIELDS)


def city(escaped: str) -> str:
    return f'{{"city": "{escaped}"}}'


@pytest.mark.newest("encodings are as old as PostgreSQL")
def test_a_portal_in_latin1_says_the_same(portal_server: Cluster) -> None:
    """There even \\u0100 is nothing that a json function could read."""
    name = "portal_in_latin1"
    with psycopg.connect(portal_server.conninfo(), autocommit=True) as connection:
        connection.execute(
            f"create database {name} encoding 'LATIN1' locale 'C' template template0"
        )
    portal = portal_server.conninfo(name)
    try:
        migrate(portal, PORTAL, "portal")
        batch = [row(Random(seed)) for seed in range(1000)]
        with psycopg.connect(portal) as connection:
            found = connection.execute(ERRORS_OF_ROWS, ([json.dumps(data) for data in batch],))
            for data, in_sql in zip(batch, found.fetchall()[0][0], strict=True):
                assert as_lists(data) == in_sql, data
            (user,) = connection.execute(
                "insert into auth_user (username, password) values ('ada', '') returning id"
            ).fetchall()[0]
            connection.execute(
                "select student.create_testcenter_user(%s, %s)",
                (user, json.dumps(GOOD | {"unknown": "Ω"})),
            )
            assert connection.execute(
                "select first_name from student.testcenter_user"
            ).fetchall() == [("Zoë",)]
    finally:
        portal_server.drop(portal)


RAW = {
    r'{"city": "\\u0000"}': None,
    r'{"city": "\\\u0000"}': "Null characters are not allowed.",
    r'{"city": "\\\\u0000"}': None,
    r'{"city": "\"\u0000"}': "Null characters are not allowed.",
    r'{"city": "\ufdd0"}': "Must only use characters in Latin-1 encoding",
    r'{"city": "\uFDD0\u0000"}': "Null characters are not allowed.",
    '{"city": "\ufdd0"}': "Must only use characters in Latin-1 encoding",
    r'{"city": "\u0001\u0002"}': None,
    r'{"city": "\ud800"}': "Must only use characters in Latin-1 encoding",
    r'{"city": "\udc00\ud800"}': "Must only use characters in Latin-1 encoding",
    r'{"city": "\\ud800"}': None,
    city(r"\uD83d\uDe00" * 32): "Must only use characters in Latin-1 encoding",
    city(r"\uD83d\uDe00" * 33): "Ensure this value has at most 32 characters (it has 33).",
    city(r"\ude00\ud83d" * 16): "Must only use characters in Latin-1 encoding",
    r'{"\u0063ity": "\u00e9"}': None,
    r'{"city": "", "city": "x"}': None,
    r'{"city": "x", "city": ""}': "This field is required.",
    r'{"city": "x", "city": null}': "This field is required.",
    r'{"city": "x", "": "\u0000", "\u0000": {"\ud800": 1e999999}}': None,
    r'{"city": "x", "cit\u0001": 1, "fa\u0001": "5"}': None,
    r'{"city": 1e999999}': "Must be text.",
    r'{"city": [[["\u0000"]]]}': "Must be text.",
}
"""JSON as it might come over the wire, and what is wrong with the city in it."""


@pytest.mark.parametrize("data", RAW)
def test_whatever_json_says_is_reported(app: App, data: str) -> None:
    rows: Any = app.execute("select * from student.testcenter_user_errors(%s::json)", data)
    found: dict[str, str] = dict(rows)
    assert found.get("city") == RAW[data]
    assert found == dict(errors_in_python(json.loads(data)))
    assert "fax_country_code" not in found


@pytest.mark.parametrize("data", ["[]", "5", '"x"', "null", None])
def test_what_is_no_object_is_refused(app: App, data: str | None) -> None:
    user = app.user("ada")
    app.execute("select student.create_testcenter_user(%s, %s)", user, json.dumps(GOOD))
    for call in (
        "testcenter_user_errors(%(data)s)",
        "create_testcenter_user(%(user)s, %(data)s)",
        "testcenter_user_needs_update(%(user)s, %(data)s)",
        "update_testcenter_user(%(user)s, %(data)s)",
        "testcenter_registration_errors('A', %(data)s, '')",
        "create_testcenter_registration(%(user)s, 'A', %(data)s)",
    ):
        with pytest.raises(psycopg.Error, match="not a JSON object") as caught:
            app.connection.execute(f"select student.{call}", {"user": user, "data": data})
        assert caught.value.sqlstate == "PY011", call
