"""``pysync wait``."""

from typing import Annotated

import typer

from pysync.cli.parameters import CourseArgument, Portal
from pysync.replication import marks
from pysync.types import course_id


def wait(
    course: CourseArgument,
    portal: Portal,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait.")
    ] = 30,
) -> None:
    """Wait until what the portal committed is in a course.

    That is everything committed on the portal before; it is visible in the course database then.
    Ends with status 1 if it isn't within the timeout.
    """
    marks.wait(portal, course_id(course), timeout)
