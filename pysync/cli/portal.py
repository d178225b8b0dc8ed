"""``pysync portal``."""

import sys
from typing import Annotated, Final

import typer

from pysync.cli.output import say, say_aside, steps
from pysync.cli.parameters import Portal, group
from pysync.lifecycle import claim as claiming

app = group("Claim a database as the portal, after a move or a copy.")

_MOVED: Final = (
    "This database will be the portal, and act on the registered courses. Do so if the portal was "
    "moved or restored here and the original is gone for good: two portals with one identity would "
    "each take the courses from the other. Courses whose slots weren't taken along go on with "
    "'pysync resync'."
)
_COPY: Final = (
    "This database will be a portal of its own, with a new identity. The registered courses are "
    "the original's: they are forgotten here, and go on there. 'pysync course add' adds others."
)


@app.command()
def claim(
    portal: Portal,
    *,
    copy: Annotated[
        bool, typer.Option("--copy", help="The original lives on, as for tests: leave it alone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Have a copied or moved database be a portal.

    A portal that finds itself on another server, or in another database, than it was claimed in
    reports, and acts on no course until this is run. Without --copy it takes the original's place.
    """
    if not copy and claiming.is_claimed(portal):
        say("the portal is claimed already: nothing to do")
        return
    say_aside(_COPY if copy else _MOVED)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("confirm with --yes", param_hint="--yes")
        typer.confirm("Claim it?", abort=True)
    if not copy:
        claiming.claim(portal)
        say("claimed: this database is the portal")
        return
    with steps() as progress:
        forgotten = claiming.claim_copy(portal, progress)
    say(f"claimed as a portal of its own: {forgotten} courses of the original forgotten")


@app.callback()
def _portal() -> None:
    """Keep ``claim`` a command of a group though it is the only one."""
