"""Course ids, and the names derived from them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pysync.errors import InvalidCourseIdError
from pysync.types import MAX_COURSE_ID_LENGTH, CourseId, course_id, replication_name

NAME = re.compile(r"pysync(_[a-z0-9_]*[a-z0-9])?_[0-9a-f]{8}")

ids = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=255)


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "MITx/6.002x/2012_Fall",
        'it\'s "quoted"',
        " ",
        "Default",
        "default ",
        "курс",
        "💥" * MAX_COURSE_ID_LENGTH,
        "-rf",
        "%s {0} $1 \\",
        "'; drop table auth_user; --",
        "line\nbreak",
    ],
)
def test_any_other_text_is_a_course_id(text: str) -> None:
    assert course_id(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("default", "'default' is reserved"),
        ("x" * (MAX_COURSE_ID_LENGTH + 1), "256 characters, at most 255"),
        ("a\0b", "NUL"),
        ("a\udcffb", "Unicode"),
    ],
)
def test_what_is_no_course_id_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(InvalidCourseIdError, match=words) as error:
        course_id(text)
    assert error.value.remedy
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 200


@settings(database=None, derandomize=True, deadline=None)
@given(database=st.text(min_size=1, max_size=63), course=ids)
def test_names_are_valid_for_slots_and_stable(database: str, course: str) -> None:
    try:
        name = replication_name(database, CourseId(course))
    except UnicodeEncodeError:
        assert any("\ud800" <= character <= "\udfff" for character in database)
        return
    assert NAME.fullmatch(name)
    assert len(name) <= 63
    assert name == replication_name(database, CourseId(course))


@pytest.mark.parametrize(
    ("course", "readable"),
    [
        ("MITx/6.002x/2012_Fall", "mitx_6_002x_2012_fall"),
        ("AAA/2013J", "aaa_2013j"),
        ("--A--B--", "a_b"),
        ("'; drop table auth_user; --", "drop_table_auth_user"),
        ("x" * 255, "x" * 40),
    ],
)
def test_names_can_be_read(course: str, readable: str) -> None:
    name = replication_name("portal", CourseId(course))
    assert re.fullmatch(f"pysync_{readable}_[0-9a-f]{{8}}", name)


def test_names_without_a_readable_character_are_valid() -> None:
    assert re.fullmatch(r"pysync_[0-9a-f]{8}", replication_name("portal", CourseId("курс")))


def test_ids_that_read_alike_have_names_of_their_own() -> None:
    alike = [
        "A/B",
        "A.B",
        "A_B",
        "a/b",
        "a b",
        " a b",
        "A//B",
        "A/B/",
        "Ä/B",
        "a\tb",
        "x" * 41,
        "x" * 42,
    ]
    names = {replication_name("portal", CourseId(each)) for each in alike}
    assert len(names) == len(alike)


def test_portals_of_one_server_have_names_of_their_own() -> None:
    course = CourseId("A")
    assert replication_name("portal", course) != replication_name("staging", course)
    # The two are joined for the hash: where one ends and the other begins must count.
    assert replication_name("a", CourseId("bc")) != replication_name("ab", CourseId("c"))
