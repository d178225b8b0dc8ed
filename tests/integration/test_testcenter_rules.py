"""The form's rules: Python, SQL and the table's constraints agree on whatever comes."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pysync.models.testcenter import USER_PROVIDED_FIELDS
from pysync.students.validation import RULES, testcenter_user_errors
from tests.integration.fan_out import App
from tests.testcenter import GOOD

Row = dict[str, Any]

CHARACTERS = "aZ9 *é\\\"/'\n\x01\x02\x7f\x80ÿĀ\0\ufdd0\ufdd1\ufffd☎😀\ud800\udbff\udc00\udfff"
"""Surrogates are among them: JSON carries these, and so do Python's strings."""

SPECIAL = {
    "country": ["USA", "CAN", "USA", "CAN", "usa", "US\0", "USĀ", "GB", "\x01SA"],
    "phone_country_code": ["1", "☎☎☎"],
    "fax": ["555", "☎", "\0", "5" * 36],
    "fax_country_code": ["", "001", "01"],
}
NO_TEXT = [0, 1.5, True, False, [], ["USA"], {}, {"a": "\0"}, 10**30]
ODD_KEYS = ["", "fa\x01", "\0", "\ud800", "country\0", "Country", "user_id"]


def text(random: Random, limit: int) -> str:
    """Return text that is short, or about as long as a field takes."""
    length = random.choice([0, 1, 2, 3, 3, 4, limit - 1, limit, limit, limit + 1, limit + 2])
    alphabet = random.choice(["a", " ", "aé", "a" * 30 + CHARACTERS, CHARACTERS])
    return "".join(random.choices(alphabet, k=length))


def value(random: Random, name: str) -> Any:
    kind = random.random()
    if kind < 0.08:
        return random.choice(NO_TEXT)
    if kind < 0.2:
        return random.choice([None, ""])
    if name in SPECIAL and kind < 0.7:
        return random.choice(SPECIAL[name])
    return text(random, RULES[name].limit)


def row(random: Random) -> Row:
    """Return data that are mostly fine, so that the rules between fields are reached."""
    made: Row = dict(GOOD) if random.random() < 0.8 else {}
    for name in random.choices([*USER_PROVIDED_FIELDS, *SPECIAL], k=random.choice([0, 1, 1, 2, 6])):
        made[name] = value(random, name)
    if random.random() < 0.2:
        made.pop(random.choice(USER_PROVIDED_FIELDS), None)
    if random.random() < 0.2:
        made[random.choice(ODD_KEYS)] = random.choice([None, "x", "\0", {"\0": ["\udfff"]}, [1]])
    return made


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
    return [list(error) for error in testcenter_user_errors(data)]


@thorough
@given(rows)
def test_python_and_sql_find_the_same_errors(app: App, batch: list[Row]) -> None:
    found = app.one(ERRORS_OF_ROWS, [json.dumps(data) for data in batch])
    for data, in_sql in zip(batch, found, strict=True):
        assert as_lists(data) == in_sql, data
