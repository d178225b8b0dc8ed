"""Test-center users' data, fine and bad, for whoever has to tell one from the other."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from pysync.models.testcenter import USER_PROVIDED_FIELDS
from pysync.students.validation import RULES

Row = dict[str, Any]

GOOD: Final[dict[str, Any]] = {
    "first_name": "Zoë",
    "last_name": "Lovelace",
    "address_1": "12 St James's Square",
    "city": "London",
    "country": "GBR",
    "phone": "20 7946 0000",
    "phone_country_code": "044",
}
"""Data of a test-center user with nothing wrong, and nothing that could be left out."""

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

FULL = GOOD | {"state": "x", "postal_code": "y", "fax": "1", "fax_country_code": "001"}
STARTS = [{}, GOOD, GOOD, GOOD, FULL, FULL | {"country": "USA"}, FULL | {"country": "CAN"}]


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
    made: Row = dict(random.choice(STARTS))
    for name in random.choices([*USER_PROVIDED_FIELDS, *SPECIAL], k=random.choice([0, 1, 1, 2, 6])):
        made[name] = value(random, name)
    if random.random() < 0.4:
        made.pop(random.choice([*made, "city"]), None)
    if random.random() < 0.2:
        made[random.choice(ODD_KEYS)] = random.choice([None, "x", "\0", {"\0": ["\udfff"]}, [1]])
    return made
