"""SQL as trees: equal where only the spelling differs, different where the meaning does."""

from __future__ import annotations

import pytest

from pysync.diagnosis.drift import trees


@pytest.mark.parametrize(
    ("ours", "servers"),
    [
        ("course_id = 'A'", "((course_id)::text = 'A'::text)"),
        (
            "(old.a, old.b) is distinct from (new.a, new.b)",
            "((old.a IS DISTINCT FROM new.a) OR (old.b IS DISTINCT FROM new.b))",
        ),
        ("x in (1, 2)", "(x = ANY (ARRAY[1, 2]))"),
        ("x not in (1, 2)", "(x <> ALL (ARRAY[1, 2]))"),
        ("a or b or c", "((a OR b) OR c)"),
    ],
)
def test_what_the_server_spells_out_is_equal(ours: str, servers: str) -> None:
    assert trees.expression(ours) == trees.expression(servers)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("course_id = 'A'", "course_id = 'B'"),
        ("course_id = 'A'", "course_id = 'A' or true"),
        ("course_id = 'A'", "course_id <> 'A'"),
        ("old.a is distinct from new.a", "new.a is distinct from new.a"),
        ("x in (1, 2)", "x not in (1, 2)"),
        ("x = 1", "x = 1 and y = 2"),
    ],
)
def test_what_means_something_else_is_different(one: str, other: str) -> None:
    assert trees.expression(one) != trees.expression(other)
