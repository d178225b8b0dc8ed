"""``pysync testcenter``: files that are checked, and one candidate from data to acceptance."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_cli_process import assert_refused, cli, in_terminal, read_json, succeed
from tests.support import Site, insert_user
from tests.testcenter_rows import GOOD

pytestmark = pytest.mark.newest("what the command line makes of its input, whatever the server")

ROWS: list[Any] = [
    GOOD,
    GOOD | {"country": "USA"},
    GOOD | {"city": "Łódź", "fax": "555"},
    5,
    GOOD | {"postal_code": "12 345 678 901 234"},
]
ERRORS = [
    (2, "state", "Required if country is USA or CAN."),
    (2, "postal_code", "Required if country is USA or CAN."),
    (3, "city", "Must only use characters in Latin-1 encoding"),
    (3, "fax_country_code", "Required if fax is specified."),
    (4, None, "Must be an object."),
    (5, "postal_code", "Ensure this value has at most 16 characters (it has 18)."),
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same rows in each form that a file may have."""
    array, lines, table = (tmp_path / f"rows.{suffix}" for suffix in ("json", "jsonl", "csv"))
    array.write_text(json.dumps(ROWS))
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        names = list(GOOD | ROWS[2] | ROWS[4])
        writer.writerow(names)
        for row in ROWS:
            filled = row if isinstance(row, dict) else GOOD
            more = [] if isinstance(row, dict) else ["x"]
            writer.writerow([filled.get(name, "") for name in names] + more)
    return {"json": array, "jsonl": lines, "csv": table}


def test_check_lists_all_errors_of_each_row(files: dict[str, Path]) -> None:
    for name, file in files.items():
        result = cli("testcenter", "check", str(file))
        assert (result.returncode, result.stderr) == (1, "")
        expected = [
            (
                number,
                field or "-",
                message if field or name != "csv" else "Has more cells than the header.",
            )
            for number, field, message in ERRORS
        ]
        head, *listed, counts = result.stdout.splitlines()
        assert head.split() == ["row", "field", "error"]
        assert [tuple(line.split(maxsplit=2)) for line in listed] == [
            (str(number), field, message) for number, field, message in expected
        ]
        assert counts == "5 rows checked, 4 with errors"


def test_check_writes_one_json_document(files: dict[str, Path]) -> None:
    result = cli("testcenter", "check", str(files["jsonl"]), "--format", "json")
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "version": 1,
        "errors": [
            {"row": number, "field": field, "message": message} for number, field, message in ERRORS
        ],
        "rows": 5,
        "rows_with_errors": 4,
        "complete": True,
    }


def test_check_of_good_rows_ends_well(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_text(json.dumps([GOOD] * 3))
    arguments = ("testcenter", "check", str(file), "--input-format", "json")
    assert succeed(*arguments) == "3 rows checked, 0 with errors\n"
    assert json.loads(succeed(*arguments, "--format", "json")) == {
        "version": 1,
        "errors": [],
        "rows": 3,
        "rows_with_errors": 0,
        "complete": True,
    }
    file.write_text("[]")
    assert succeed(*arguments) == "0 rows checked, 0 with errors\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", b"", ["isn't JSON", "line 1 column 1"]),
        ("rows.json", b"first_name,city\n", ["isn't JSON", "--input-format"]),
        ("rows.json", b'[{"city": "x"}', ["isn't JSON", "line 1 column 15"]),
        ("rows.csv", b'{"city": "x"}', ["no header", "address_1"]),
        ("rows.csv", b"city\n\xff\n", ["isn't UTF-8", "0xff"]),
        ("rows.txt", b"[]", ["rows.txt", ".json", ".csv", "--input-format"]),
        ("rows.json", None, ["rows.json", "No such file"]),
    ],
)
def test_check_refuses_a_file_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, words: list[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for printed in ("table", "json"):
        result = cli("testcenter", "check", str(tmp_path / name), "--format", printed)
        assert_refused(result, *words)


def test_check_of_a_file_that_breaks_off_says_so(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS[:3])[:-2])
    result = cli("testcenter", "check", str(file), "--format", "json")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "pysync: input isn't JSON: Expecting ',' delimiter, after row 2;"
    )
    document = json.loads(result.stdout)
    assert document["complete"] is False
    assert (document["rows"], document["rows_with_errors"]) == (2, 1)


def test_check_shows_progress_on_a_terminal_only(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n" * 20_000 + "{}\n")
    status, shown = in_terminal("testcenter", "check", str(file))
    assert status == 1
    assert "Checking" in shown
    assert "100%" in shown
    assert "20001  first_name          This field is required." in shown
    assert "20,001 rows checked, 1 with errors" in shown


def test_one_candidate_from_data_to_acceptance(site: Site, tmp_path: Path) -> None:
    insert_user(site, "ada", email="ada@example.org")
    data = tmp_path / "ada.json"
    data.write_text(json.dumps(GOOD | {"ignored": "\0"}))
    created = succeed(
        "testcenter", "create", "ada", str(data), "--set", "suffix=a=b", portal=site.portal
    )
    match = re.fullmatch(r"test-center user 'ada' created as (edX[1-9]\d*)\n", created)
    assert match

    again = ("testcenter", "update", "ada", "--set", "suffix=", "--set", "city=Zürich")
    assert succeed(*again, portal=site.portal) == "test-center user 'ada' updated\n"
    assert succeed(*again, portal=site.portal) == "test-center user 'ada' is so already\n"

    exam = ("--series", "6002x", "--first", "2012-12-15", "--last", "2012-12-30")
    registered = succeed(
        "testcenter",
        "register",
        "ada",
        "MITx/6.002x",
        *exam,
        "--accommodation-request",
        "more time",
        portal=site.portal,
    )
    (registration,) = re.findall(r"for course 'MITx/6\.002x' as (edX\d+)\n", registered)

    def state() -> str:
        document = read_json("testcenter", "show", "ada", portal=site.portal)
        assert document["version"] == 1
        assert document["user"]["client_candidate_id"] == match[1]
        assert document["user"]["email"] == "ada@example.org"
        assert (document["user"]["suffix"], document["user"]["city"]) == ("", "Zürich")
        (found,) = document["registrations"]
        assert found["client_authorization_id"] == registration
        assert found["eligibility_appointment_date_first"] == "2012-12-15"
        return str(found["state"])

    assert state() == "pending accommodation"
    assert "ET12ET" in read_json("testcenter", "codes", portal=site.portal)["accommodation_codes"]
    succeed("testcenter", "accommodate", registration, "ET12ET", "SEPRMM", portal=site.portal)
    assert state() == "pending acknowledgement"
    succeed("testcenter", "reject", registration, "no such exam", portal=site.portal)
    assert state() == "rejected"
    succeed("testcenter", "accept", registration, portal=site.portal)
    assert state() == "accepted"
    shown = succeed("testcenter", "show", "ada", portal=site.portal)
    assert match[1] in shown
    assert re.search(rf"{registration} +MITx/6\.002x +6002x .* ET12ET\*SEPRMM +accepted", shown)
    assert "Separate Room & Reader" in succeed("testcenter", "codes", portal=site.portal)


def test_mistakes_are_told_in_one_line(site: Site, tmp_path: Path) -> None:
    insert_user(site, "ada")
    insert_user(site, "bob")
    file = tmp_path / "data.json"
    file.write_text(json.dumps(GOOD))

    def refused(*arguments: str, words: tuple[str, ...]) -> None:
        assert_refused(cli("testcenter", *arguments, portal=site.portal), *words)

    exam = ("--series", "", "--first", "2012-12-15", "--last", "2012-12-14")
    refused(
        "create",
        "ada",
        "--set",
        "city=Łódź",
        "--set",
        "country=USA",
        words=(
            "test-center user 'ada' refused: first_name: This field is required.;",
            "city: Must only use characters in Latin-1 encoding;",
            "state: Required if country is USA or CAN.",
        ),
    )
    refused("create", "nobody", str(file), words=("user 'nobody' unknown",))
    refused("create", "ada", "--set", "town=Rome", words=("--set 'town=Rome'", "city"))
    refused("create", "ada", str(tmp_path / "none.json"), words=("none.json", "No such file"))
    refused("update", "ada", "--set", "city=Rome", words=("doesn't exist", "testcenter create"))
    refused("show", "ada", words=("doesn't exist",))
    refused(
        "register",
        "ada",
        "A",
        *exam[2:],
        "--series",
        "1",
        "--last",
        "2012-12-15",
        words=("doesn't exist",),
    )
    succeed("testcenter", "create", "ada", str(file), portal=site.portal)
    assert "no registrations" in succeed("testcenter", "show", "ada", portal=site.portal)
    refused("create", "ada", str(file), words=("'ada' exists already",))
    refused("update", "ada", "--set", "city=", words=("city: This field is required.",))
    refused(
        "register",
        "ada",
        "A",
        *exam,
        words=(
            "'ada' in course 'A' refused: Exam_Series_Code: This field is required.;",
            "Last_Eligible_Appointment_Date: Must not be before",
        ),
    )
    refused("accept", "edX0", words=("registration 'edX0' doesn't exist",))
    refused("accommodate", "edX0", "NONE", words=("not in the list: 'NONE'",))
    refused("show", "\udcff", words=("isn't valid Unicode",))
    file.write_text("[1]")
    refused("create", "bob", str(file), words=("not one JSON object",))


def test_data_may_come_through_a_pipe(site: Site) -> None:
    import subprocess
    import sys

    process = subprocess.run(
        [sys.executable, "-m", "pysync", "testcenter", "check", "-", "--input-format", "csv"],
        input="city\nRome\n",
        capture_output=True,
        check=False,
        text=True,
    )
    assert process.returncode == 1
    assert "1 rows checked, 1 with errors" in process.stdout
