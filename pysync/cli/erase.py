"""``pysync erase``."""

from typing import Annotated

import typer

from pysync.cli.output import say, say_aside
from pysync.cli.parameters import Portal
from pysync.lifecycle import erase as service
from pysync.texts import Text


def erase(
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="Who is to be forgotten.")],
    portal: Portal,
    yes: Annotated[bool, typer.Option("--yes", help="Delete, don't only show what.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0, max=3600, help="How long a course may take."
        ),
    ] = 10,
) -> None:
    """Delete a user, and see that every course has forgotten it.

    Deletes on the portal; looks into each course that held a copy, after the deletion has arrived
    there. Ends with status 1 while one hasn't confirmed; the same command asks those again, and
    only those.
    """
    known = service.pending(portal, username)
    if known is None:
        if not yes:
            doomed = service.preview(portal, username)
            say(f"user '{username}' (id {doomed.user_id}) would be deleted on the portal, with")
            say(f"  {doomed.profiles} profiles and {doomed.enrollments} enrollments")
            for table, rows in doomed.cascades.items():
                say(f"  {rows} rows of {table}, by its foreign key's rule")
            names = ", ".join(doomed.courses) or "none"
            say(f"  its copies in {len(doomed.courses)} courses: {names}")
            say_aside("pysync: nothing was changed; confirm with --yes")
            raise typer.Exit(1)
        user_ids = [service.erase(portal, username)]
        say(f"user '{username}' (id {user_ids[0]}) deleted on the portal")
    else:
        user_ids = known.user_ids
        say(f"user '{username}' was deleted before; asking the courses that didn't confirm")
        if known.taken:
            say(f"note: somebody else is called '{username}' now, who isn't touched")
    proofs = service.prove(portal, user_ids, timeout)
    for proof in proofs:
        told = Text.plain(f"  {proof.course_id}: {'' if proof.confirmed else 'not '}confirmed")
        say(told + ": " + proof.reason if proof.reason else told)
    if missing := sum(not proof.confirmed for proof in proofs):
        say(f"{missing} of {len(proofs)} courses have not confirmed; run the command again later")
        raise typer.Exit(1)
    say(f"user '{username}' is erased everywhere")
