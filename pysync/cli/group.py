"""``pysync group``."""

from typing import Annotated

import typer

from pysync.cli.output import Format, print_rows, say
from pysync.cli.parameters import FormatOption, Portal, UsernameArgument
from pysync.cli.parameters import group as command_group
from pysync.db.sessions import portal_session
from pysync.students import groups

app = command_group("Create groups, and add and remove users.")

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]
DescriptionArgument = Annotated[
    str, typer.Argument(metavar="DESCRIPTION", help="What the group is for.")
]


@app.command()
def create(group: GroupArgument, portal: Portal, description: DescriptionArgument = "") -> None:
    """Create a group."""
    with portal_session(portal) as session:
        groups.create_group(session, group, description)
    say(f"group '{group}' created")


@app.command()
def describe(group: GroupArgument, description: DescriptionArgument, portal: Portal) -> None:
    """Change what a group is said to be for."""
    with portal_session(portal) as session:
        groups.describe_group(session, group, description)
    say(f"group '{group}' described")


@app.command()
def add(group: GroupArgument, username: UsernameArgument, portal: Portal) -> None:
    """Add a user to a group; default groups are made on first use."""
    with portal_session(portal) as session:
        groups.add_user_to_default_group(session, username, group)
    say(f"user '{username}' is in group '{group}'")


@app.command()
def remove(group: GroupArgument, username: UsernameArgument, portal: Portal) -> None:
    """Remove a user from a group."""
    with portal_session(portal) as session:
        groups.remove_user_from_group(session, username, group)
    say(f"user '{username}' isn't in group '{group}'")


@app.command("list")
def list_groups(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """List the groups and how many users are in them."""
    with portal_session(portal) as session:
        found = groups.list_groups(session)
    print_rows(
        format,
        {"groups": found},
        ("group", "members", "description"),
        [(each.name, each.members, each.description) for each in found],
        right=("members",),
        none="no groups",
    )


@app.command()
def show(group: GroupArgument, portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """Show who is in a group."""
    with portal_session(portal) as session:
        found = groups.group_members(session, group)
    print_rows(
        format,
        {"group": group, "members": found},
        ("id", "username", "e-mail"),
        [(str(each.user_id), each.username, each.email) for each in found],
        right=("id",),
        none=f"nobody is in group '{group}'",
    )
