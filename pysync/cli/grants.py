"""``pysync grants``."""

from enum import StrEnum
from typing import Annotated

import typer

from pysync.cli.output import Format, print_json, print_raw
from pysync.cli.parameters import FormatOption
from pysync.diagnosis.grants import GRANTS, owners_statement
from pysync.types import SUPPORTED_MAJORS


class Side(StrEnum):
    """Which kind of database the role works in."""

    PORTAL = "portal"
    COURSE = "course"


def grants(
    side: Annotated[Side, typer.Argument(help="Which kind of database: portal or course.")],
    role: Annotated[str, typer.Argument(help="The role that pysync is to connect as.")],
    database: Annotated[
        str, typer.Option("--database", metavar="NAME", help="Its name, if not that of its kind.")
    ] = "",
    format: FormatOption = Format.TABLE,
) -> None:
    """Print what a role needs, for a superuser to run once.

    It is SQL, for the database in question; nothing is run. With it pysync works as that role, and
    needs no superuser; on PostgreSQL 15 subscriptions still do.
    """
    name = database or side.value
    needed = [
        {
            "right": each.right,
            "why": each.why,
            "since": each.since,
            "statement": each.to(role, name),
        }
        for each in GRANTS[side]
    ]
    owners = owners_statement(side.value, role)
    if format is Format.JSON:
        print_json({"grants": needed, "owners": owners})
        return
    lines = [
        f"-- In the {side.value} database, once, as a superuser or a provider's administrator.",
        "set search_path = pg_catalog, pg_temp;",
    ]
    for each in needed:
        always = each["since"] == SUPPORTED_MAJORS[0]
        since = "" if always else f" (PostgreSQL {each['since']} and later)"
        lines += ["", f"-- It {each['why']}{since}.", f"{each['statement']};"]
    lines += ["", "-- It works on tables with their owners' rights, and no more.", f"{owners};"]
    print_raw("\n".join(lines) + "\n")
