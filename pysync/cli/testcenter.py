"""``pysync testcenter``."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from pysync.cli.output import Format, plain, print_rows, say
from pysync.cli.parameters import CourseArgument, FormatOption, Portal, UsernameArgument, group
from pysync.cli.rows import Report, format_of, opened, with_progress
from pysync.db.sessions import portal_session
from pysync.errors import InvalidValueError
from pysync.students import accounts, testcenter
from pysync.students.rows import InputFormat, read_rows
from pysync.students.validation import RULES, FieldError, row_errors, testcenter_user_errors

app = group("Check, create and register test-center users.")

AuthorizationArgument = Annotated[
    str,
    typer.Argument(metavar="AUTHORIZATION_ID", help="The registration's client_authorization_id."),
]
DataArgument = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="A JSON object with the fields; - is standard input."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A field, before what FILE says of it."),
]


@app.command()
def check(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A .json file (an array of up to 64 MiB, or an object per line) or a .csv file "
            "with a header; - is standard input.",
        ),
    ],
    input_format: Annotated[
        InputFormat | None,
        typer.Option("--input-format", help="What FILE holds, if its name doesn't say."),
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Check a file of data, without a database.

    Prints all errors of each row. Rows count from 1, a CSV file's header not among them. Ends with
    status 1 if any row has errors. Lines and CSV files of any size take the same memory; an array,
    and the errors for --format json, are held in memory.
    """
    kind = input_format or format_of(file)
    report = Report(format)
    with opened(file) as stream:
        try:
            for row in with_progress(stream, read_rows(stream, kind, frozenset(RULES))):
                report.add(row_errors(row))
        except InvalidValueError:
            report.end(complete=False)
            raise
    report.end(complete=True)
    if report.with_errors:
        raise typer.Exit(1)


@app.command()
def create(
    username: UsernameArgument, portal: Portal, file: DataArgument = None, values: SetOption = None
) -> None:
    """Make a user a test-center user.

    The user gets a fresh client_candidate_id, which is printed.
    """
    data = _fields(file, values)
    _require_no_errors(username, testcenter_user_errors(data))
    with portal_session(portal) as session:
        user_id = accounts.find_user(session, username)
        testcenter.create(session, user_id, data)
        created = testcenter.get_testcenter_user(session, user_id)
    say(f"test-center user '{username}' created as {created.client_candidate_id}")


@app.command()
def update(
    username: UsernameArgument, portal: Portal, file: DataArgument = None, values: SetOption = None
) -> None:
    """Change fields of a test-center user.

    Fields that aren't named stay as they are; if none differs, nothing is changed.
    """
    changes = _fields(file, values)
    with portal_session(portal) as session:
        user_id = accounts.find_user(session, username)
        present = testcenter.get_testcenter_user(session, user_id)._asdict()
        data = {name: changes.get(name, present[name]) for name in RULES}
        _require_no_errors(username, testcenter_user_errors(data))
        changed = testcenter.update(session, user_id, data)
    say(f"test-center user '{username}' {'updated' if changed else 'is so already'}")


@app.command()
def register(
    username: UsernameArgument,
    course: CourseArgument,
    *,
    series: Annotated[str, typer.Option("--series", metavar="CODE", help="The exam series.")],
    first: Annotated[
        str, typer.Option("--first", metavar="YYYY-MM-DD", help="The first day to take the exam.")
    ],
    last: Annotated[
        str, typer.Option("--last", metavar="YYYY-MM-DD", help="The last day to take the exam.")
    ],
    portal: Portal,
    accommodation_request: Annotated[
        str, typer.Option("--accommodation-request", metavar="TEXT", help="What the user asks for.")
    ] = "",
) -> None:
    """Register a test-center user for a course's exam."""
    exam = {
        "Exam_Series_Code": series,
        "First_Eligible_Appointment_Date": first,
        "Last_Eligible_Appointment_Date": last,
    }
    with portal_session(portal) as session:
        user_id = accounts.find_user(session, username)
        _require_no_errors(
            f"{username}' in course '{course}",
            testcenter.registration_errors(session, course, exam, accommodation_request),
        )
        registered = testcenter.register(session, user_id, course, exam, accommodation_request)
    say(f"test-center user '{username}' registered for course '{course}' as {registered}")


@app.command()
def accommodate(
    registration: AuthorizationArgument,
    codes: Annotated[
        list[str], typer.Argument(metavar="CODE", help="Accommodation codes, see 'codes'.")
    ],
    portal: Portal,
) -> None:
    """Set the accommodation codes of a registration."""
    with portal_session(portal) as session:
        testcenter.set_accommodation_codes(session, registration, codes)
    say(f"registration '{registration}' has accommodation codes {', '.join(codes)}")


@app.command()
def accept(registration: AuthorizationArgument, portal: Portal) -> None:
    """Record that the test center accepted a registration."""
    with portal_session(portal) as session:
        testcenter.record_registration_upload(session, registration, "Accepted")
    say(f"registration '{registration}' accepted")


@app.command()
def reject(
    registration: AuthorizationArgument,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="What the test center said.")],
    portal: Portal,
) -> None:
    """Record that the test center rejected a registration."""
    with portal_session(portal) as session:
        testcenter.record_registration_upload(session, registration, "Error", reason)
    say(f"registration '{registration}' rejected")


@app.command()
def codes(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """List the accommodation codes."""
    with portal_session(portal) as session:
        known = testcenter.accommodation_codes(session)
    print_rows(
        format, {"accommodation_codes": known}, ("code", "accommodation"), list(known.items())
    )


@app.command()
def show(username: UsernameArgument, portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """Show a test-center user and their registrations."""
    with portal_session(portal) as session:
        user_id = accounts.find_user(session, username)
        user = plain(testcenter.get_testcenter_user(session, user_id))
        registrations = plain(testcenter.get_testcenter_registrations(session, user_id))
    filled = [(name, str(value)) for name, value in user.items() if value not in (None, "")]
    print_rows(format, {"user": user, "registrations": registrations}, ("field", "value"), filled)
    if format is Format.JSON:
        return
    columns = {
        "registration": "client_authorization_id",
        "course": "course_id",
        "series": "exam_series_code",
        "first": "eligibility_appointment_date_first",
        "last": "eligibility_appointment_date_last",
        "accommodation": "accommodation_code",
        "state": "state",
    }
    rows = [[str(each[name] or "-") for name in columns.values()] for each in registrations]
    print_rows(format, {}, list(columns), rows, none="no registrations")


def _require_no_errors(name: str, errors: Sequence[FieldError]) -> None:
    if errors:
        listed = "; ".join(f"{field}: {message}" for field, message in errors)
        raise InvalidValueError(f"test-center user '{name}' refused: {listed}", "correct this")


def _fields(file: str | None, values: list[str] | None) -> dict[str, Any]:
    fields = {}
    if file is not None:
        with opened(file) as stream:
            rows = list(islice(read_rows(stream, InputFormat.JSON, frozenset(RULES)), 2))
        if len(rows) != 1 or not isinstance(rows[0], dict):
            raise InvalidValueError(f"file '{file}' refused: not one JSON object", "give one")
        fields = rows[0]
    for each in values or ():
        name, separator, value = each.partition("=")
        if not separator or name not in RULES:
            raise InvalidValueError(
                f"--set '{each}' refused: it names no field",
                f"write FIELD=VALUE with one of: {', '.join(RULES)}",
            )
        fields[name] = value
    return fields
