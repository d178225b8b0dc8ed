"""``pysync group``."""

from __future__ import annotations

from typing import Annotated

import typer

from pysync.cli.output import Format, escape, new_table, print_json, print_table, say
from pysync.cli.parameters import FormatOption, PortalOption, portal_conninfo
from pysync.db.sessions import portal_session
from pysync.students import groups

app = typer.Typer(
    help="Create groups, and add and remove users.", no_args_is_help=True, rich_markup_mode=None
)

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]
UserArgument = Annotated[str, typer.Argument(metavar="USERNAME", help="The user's name.")]
DescriptionArgument = Annotated[
    str, typer.Argument(metavar="DESCRIPTION", help="What the group is for.")
]


@app.command()
def create(
    context: typer.Context,
    group: GroupArgument,
    description: DescriptionArgument = "",
    _portal: PortalOption = None,
) -> None:
    """Create a group."""
    with portal_session(portal_conninfo(context)) as session:
        groups.create_group(session, group, description)
    say(f"group '{group}' created")


@app.command()
def describe(
    context: typer.Context,
    group: GroupArgument,
    description: DescriptionArgument,
    _portal: PortalOption = None,
) -> None:
    """Change what a group is said to be for."""
    with portal_session(portal_conninfo(context)) as session:
        groups.describe_group(session, group, description)
    say(f"group '{group}' described")


@app.command()
def add(
    context: typer.Context,
    group: GroupArgument,
    username: UserArgument,
    _portal: PortalOption = None,
) -> None:
    """Add a user to a group; the default groups are created on first use."""
    with portal_session(portal_conninfo(context)) as session:
        groups.add_user_to_default_group(session, username, group)
    say(f"user '{username}' is in group '{group}'")


@app.command()
def remove(
    context: typer.Context,
    group: GroupArgument,
    username: UserArgument,
    _portal: PortalOption = None,
) -> None:
    """Remove a user from a group."""
    with portal_session(portal_conninfo(context)) as session:
        groups.remove_user_from_group(session, username, group)
    say(f"user '{username}' isn't in group '{group}'")


@app.command("list")
def list_groups(
    context: typer.Context, format: FormatOption = Format.TABLE, _portal: PortalOption = None
) -> None:
    """List the groups and how many users are in them."""
    with portal_session(portal_conninfo(context)) as session:
        found = groups.list_groups(session)
    if format is Format.JSON:
        print_json({"groups": [each._asdict() for each in found]})
        return
    if not found:
        say("no groups")
        return
    table = new_table("group", "members", "description", right=("members",))
    for each in found:
        table.add_row(escape(each.name), f"{each.members:,}", escape(each.description))
    print_table(table)


@app.command()
def show(
    context: typer.Context,
    group: GroupArgument,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Show who is in a group."""
    with portal_session(portal_conninfo(context)) as session:
        found = groups.group_members(session, group)
    if format is Format.JSON:
        print_json({"group": group, "members": [each._asdict() for each in found]})
        return
    if not found:
        say(f"nobody is in group '{group}'")
        return
    table = new_table("id", "username", "e-mail", right=("id",))
    for each in found:
        table.add_row(str(each.user_id), escape(each.username), escape(each.email))
    print_table(table)
