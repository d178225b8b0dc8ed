"""``pysync wait``."""

from __future__ import annotations

from typing import Annotated

import typer

from pysync.cli.parameters import CourseArgument, PortalOption, portal_conninfo
from pysync.replication import marks
from pysync.types import course_id


def wait(
    context: typer.Context,
    course: CourseArgument,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait.")
    ] = 30,
    _portal: PortalOption = None,
) -> None:
    """Wait until everything committed on the portal so far is visible in a course database.

    Ends with status 1 if it isn't within the timeout.
    """
    marks.wait(portal_conninfo(context), course_id(course), timeout)
