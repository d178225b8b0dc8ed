"""Files of courses: each line that can't be used is named, with what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from pysync.cli.many import SHOWN, read_courses
from pysync.errors import PysyncError

WAY = "host=portal user=streams password=secret"


def written(folder: Path, content: str | bytes) -> str:
    file = folder / "courses.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def test_courses_are_read_whatever_their_ids_are(tmp_path: Path) -> None:
    content = (
        "\ufeffconninfo,course_id,portal_conninfo\r\n"
        'host=a dbname=x,"MITx/6.002x, ""2012""\nFall",\r\n'
        "\r\n"
        "postgresql://b/y, курс ,host=elsewhere\r\n"
    )
    first, second = read_courses(written(tmp_path, content), WAY)
    assert (first.course_id, first.conninfo) == ('MITx/6.002x, "2012"\nFall', "host=a dbname=x")
    assert first.portal_conninfo_for_course == WAY
    assert second.course_id == " курс "
    # The password goes with a way of its own, too.
    assert second.portal_conninfo_for_course is not None
    assert conninfo_to_dict(second.portal_conninfo_for_course) == {
        "host": "elsewhere",
        "password": "secret",
    }


def test_each_line_that_is_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {
        2: ("A,host=a dbname=x", None),
        3: ("B", "has 1 value"),
        4: ("A,host=a dbname=y", "'A' is in line 2 already"),
        5: ("C,host=a dbname=x", "'host=a dbname=x' is in line 2 already"),
        6: ("default,host=b", "is reserved"),
        7: ("D,", "has no conninfo"),
        8: ("E,host=a password=hunter2", "has a password"),
        9: ("F,postgresql://u:hunter2@a/x", "has a password"),
        10: ("G,=", "can't be parsed"),
    }
    content = "course_id,conninfo\n" + "\n".join(line for line, _ in lines.values())
    file = written(tmp_path, content)
    with pytest.raises(PysyncError, match="8 lines can't be used; nothing was changed"):
        read_courses(file, None)
    said = capsys.readouterr().err
    assert "hunter2" not in said
    for number, (_, wrong) in lines.items():
        told = [line for line in said.splitlines() if line.startswith(f"{file}:{number}: ")]
        assert len(told) == bool(wrong)
        assert (wrong or "") in "".join(told)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "not the names of its columns"),
        ("course_id\nA\n", "not the names of its columns"),
        ("course_id,conninfo,adopt\nA,host=a,yes\n", "not the names of its columns"),
        ("course_id,course_id,conninfo\n", "not the names of its columns"),
        ("course_id,conninfo\n", "no courses"),
        ('course_id,conninfo\nA,"host=a\n', "line 3 can't be read"),
        (b"course_id,conninfo\n\xe9,host=a\n", "can't be read"),
        ("course_id,conninfo\n" + "A\n" * 2000, "2,000 lines can't be used"),
    ],
)
def test_files_that_are_none_of_courses(
    tmp_path: Path, content: str | bytes, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PysyncError, match=wrong):
        read_courses(written(tmp_path, content), None)
    assert len(capsys.readouterr().err.splitlines()) <= SHOWN
