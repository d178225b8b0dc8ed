"""What is replicated is declared once: what follows from a new column or table, and what must."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from migrations import revise
from pysync.migrate.places import render
from pysync.models.columns import default_of, type_name
from pysync.models.course import CourseDatabaseBase
from pysync.models.replicated import (
    PUBLISHED,
    REPLICATED,
    Membership,
    ReplicatedTable,
    frozen,
    replicated,
)
from tests.tree import Tree

ROOT = Path(revise.__file__).parents[1]


def test_the_frozen_columns_are_the_declared() -> None:
    tables = CourseDatabaseBase.metadata.tables
    declared = {
        table.name: {
            column.name: (type_name(column), default_of(column))
            for column in tables[f"course.{table.name}"].columns
            if column.name not in table.own
        }
        for table in PUBLISHED
    }
    found = {table: {c: tuple(of) for c, of in has.items()} for table, has in frozen().items()}
    assert found == declared, "run 'make revision'"


# Places in SQL files.


@pytest.mark.parametrize(
    ("place", "filled"),
    [
        ("{enrollment_columns}", "created"),
        ("{copy.mark_columns}", "copy.number, copy.marked_at, copy.predecessors"),
        ("{'mark_columns'}", "'number', 'marked_at', 'predecessors'"),
        ("{old.enrollment_columns as declared}", "old.created::timestamptz as created"),
        ("{mark_guarded_columns}", "id, course_id, number, marked_at, predecessors"),
        ("{kept_user_columns}", "date_joined"),
        (
            "{'replicated_tables'}",
            "'course.auth_user', 'course.auth_userprofile', 'course.student_courseenrollment'",
        ),
    ],
)
def test_places_are_filled(place: str, filled: str) -> None:
    assert render(f"select {place};") == f"select {filled};"


@pytest.mark.parametrize("text", ["'{}'", "'{a,b}'", "[0-9]{4}", '{"a": 1}', "'{\"a\"}'", "{ x }"])
def test_what_is_no_place_stays(text: str) -> None:
    assert render(text) == text


@pytest.mark.parametrize("place", ["{user_column}", "{copy.user}", "{'tables'}", "{x as declared}"])
def test_an_unknown_place_is_an_error(place: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"place {place} isn't known")):
        render(f"select {place}")


def test_lists_go_on_below_their_beginning_and_no_line_gets_long() -> None:
    filled = render("  set (live, {user_columns})\n    = row(true, {excluded.user_columns})\n")
    assert filled.startswith("  set (live, password, last_login,")
    assert "\n       is_active, date_joined)\n    = row(true, excluded.password," in filled
    for lineage in revise.LINEAGES:
        for path, text in revise.living(lineage).items():
            written = (ROOT / "sql" / lineage / path).read_text(encoding="utf-8").splitlines()
            long = [line for line in text.splitlines() if len(line) > 100 and line not in written]
            assert long == [], f"sql/{lineage}/{path}"


def test_a_scrubbed_row_keeps_nothing_that_is_declared_to_go() -> None:
    for table in REPLICATED:
        assert table.scrubbed.keys() <= {*table.values}
        assert table.unique not in table.scrubbed
    # Everything of a user's goes but this: a new column has to be decided on.
    user = replicated("auth_user")
    assert {*user.values} - user.scrubbed.keys() == {"username", "date_joined"}


# Rehearsals: what a change of the declaration changes, and what it still asks for.


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path, ["migrations.revise"])
    yield tree
    tree.stop()


def change(tree: Tree, path: str, old: str, new: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8").count(old) == 1, f"look for {old!r} in {path}"
    tree.edit(path, old, new)


RENDERED = """
import json
from migrations.revise import declare, differences
declare()
print(json.dumps({f"{lineage}/{path}": text for lineage in ("portal", "course")
                  for path, text in differences(lineage)[0].items()}))
"""


def rendered(tree: Tree) -> dict[str, str]:
    """Return which SQL files are other than frozen, with their text."""
    result = tree.run(RENDERED)
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


COLUMNS = "pysync/models/columns.py"


@pytest.mark.parametrize(
    ("before", "files"),
    [
        (
            "    goals: Mapped[str | None] = mapped_column(Text)\n",
            {
                "portal/copy_members.sql",
                "portal/copy_newcomers.sql",
                "portal/copy_profiles.sql",
                "portal/profiles_changed.sql",
                "portal/verification/fan_out_differences.sql",
                "course/refuse_change.sql",
            },
        ),
        (
            "    is_active: Mapped[bool] =",
            {
                "portal/copy_members.sql",
                "portal/copy_newcomers.sql",
                "portal/make_way.sql",
                "portal/refresh_members.sql",
                "portal/user_updated.sql",
                "portal/verification/fan_out_differences.sql",
                "course/refuse_change.sql",
            },
        ),
        (
            "    created: Mapped[datetime | None] =",
            {
                "portal/copy_enrollments.sql",
                "portal/copy_newcomers.sql",
                "portal/verification/fan_out_differences.sql",
                "course/refuse_change.sql",
            },
        ),
    ],
    ids=["profile", "user", "enrollment"],
)
def test_a_new_column_is_declared_in_one_file(tree: Tree, before: str, files: set[str]) -> None:
    nickname = "    nickname: Mapped[str | None] = mapped_column(Text)\n"
    change(tree, COLUMNS, before, nickname + before)
    changed = rendered(tree)
    assert changed.keys() == files
    for path, text in changed.items():
        assert "nickname" in text, path


def test_a_personal_column_is_scrubbed_once_it_is_declared_so(tree: Tree) -> None:
    before = "    is_active: Mapped[bool] ="
    change(
        tree, COLUMNS, before, f"    nickname: Mapped[str | None] = mapped_column(Text)\n{before}"
    )
    declared = '            "email": "\'\'",\n'
    change(
        tree,
        "pysync/models/replicated.py",
        declared,
        f'{declared}            "nickname": "null",\n',
    )
    changed = rendered(tree)
    assert changed.keys() >= {"portal/scrub_members.sql", "portal/keep_scrubbed.sql"}
    assert "null::text as nickname" in changed["portal/verification/fan_out_differences.sql"]


# A fourth table: what is made from the declaration has it, and what isn't is named here.


UNCONCERNED = re.compile(
    # Models declare; the demo has data of its own; schema student is about profiles.
    "pysync/(models|demo|students)/|pysync/migrate/places|sql/portal/(accounts|discussion|testcenter|users)/"
)


def lacking(tables: Sequence[ReplicatedTable]) -> list[str]:
    """Return the files that lack one of the tables with what belongs to users.

    These are its own, by their names, and those that deal with another such table by its name.
    """
    belonging = [table for table in tables if table.membership is Membership.OF_USER]
    texts = {}
    for file in [*(ROOT / "sql").rglob("*.sql"), *(ROOT / "pysync").rglob("*")]:
        path = str(file.relative_to(ROOT))
        if file.suffix in (".py", ".sql") and not UNCONCERNED.match(path):
            texts[path] = file.read_text(encoding="utf-8")
    own = {
        table.name: {
            f"sql/portal/copy_{table.stem}s.sql",
            f"sql/portal/{table.stem}s_changed.sql",
            f"sql/portal/{table.stem}_truncated.sql",
        }
        for table in belonging
    }
    found = {path for paths in own.values() for path in paths if path not in texts}
    for path, text in texts.items():
        named = [
            re.search(rf"\b({table.name}|copy_{table.stem}s)\b", text) is not None
            for table in belonging
        ]
        if any(named) and not all(named) and not any(path in paths for paths in own.values()):
            found.add(path)
    return sorted(found)


def test_each_table_is_dealt_with_wherever_another_is() -> None:
    assert lacking(PUBLISHED) == [], "these deal with one table that is replicated, not with all"


def test_a_fourth_table_is_asked_for_by_name_and_nowhere_in_silence() -> None:
    note = ReplicatedTable("student_note", "note", Membership.OF_USER, unique="")
    assert lacking([*PUBLISHED, note]) == [
        "pysync/lifecycle/queries.sql",
        "sql/course/refuse_change.sql",
        "sql/portal/carry_profiles.sql",
        "sql/portal/copy_members.sql",
        "sql/portal/copy_newcomers.sql",
        "sql/portal/copy_notes.sql",
        "sql/portal/delete_profiles.sql",
        "sql/portal/note_truncated.sql",
        "sql/portal/notes_changed.sql",
        "sql/portal/refresh_members.sql",
        "sql/portal/roles.sql",
        "sql/portal/scrub_members.sql",
        "sql/portal/verification/fan_out_differences.sql",
        "sql/portal/verification/mend_members.sql",
    ]


def test_a_fourth_table_comes_by_itself_where_tables_are_alike(tree: Tree) -> None:
    change(
        tree,
        "pysync/models/course.py",
        "class CourseEnrollment(EnrollmentColumns, CourseDatabaseBase):",
        """class Note(CourseDatabaseBase):
    __tablename__ = "student_note"

    id: Mapped[Id]
    user_id: Mapped[int]
    course_id: Mapped[CourseIdText]
    body: Mapped[str]


class CourseEnrollment(EnrollmentColumns, CourseDatabaseBase):""",
    )
    before = (
        '    ReplicatedTable("student_courseenrollment", "enrollment", Membership.ENROLLMENT),\n'
    )
    note = '    ReplicatedTable("student_note", "note", Membership.OF_USER, unique=""),\n'
    change(tree, "pysync/models/replicated.py", before, note + before)
    changed = rendered(tree)
    assert changed.keys() == {
        "portal/roles.sql",
        "portal/refuse_truncate.sql",
        "portal/row_security.sql",
        "portal/verification/fan_out_differences.sql",
        "course/membership.sql",
        "course/refuse_write.sql",
        "course/lend_table.sql",
        "course/take_back.sql",
        "course/take_over.sql",
        "course/wait_for.sql",
    }
    assert "'course.student_note'" in changed["course/refuse_write.sql"]


def test_no_table_of_a_course_may_be_somebody_elses_but_the_replicated() -> None:
    """The list stands in SQL: connecting to a course must not take SQLAlchemy's time to load."""
    query = (ROOT / "pysync/replication/queries.sql").read_text(encoding="utf-8")
    (listed,) = re.findall(r"c\.relname in \(([^)]+)\)", query)
    replicated_names = {table.name for table in REPLICATED}
    tables = {table.name for table in CourseDatabaseBase.metadata.sorted_tables}
    expected = tables - replicated_names | {"alembic_version", "replication_status"}
    assert set(re.findall(r"'(\w+)'", listed)) == expected
