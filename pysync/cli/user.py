"""``pysync user``: look at users, change and count them."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Final

import typer

from pysync.cli.output import Format, escape, new_table, print_json, print_table, say
from pysync.cli.parameters import FormatOption, PortalOption, portal_conninfo
from pysync.db.sessions import portal_session
from pysync.errors import PysyncError
from pysync.students import users

SECRET_KEY: Final = "PYSYNC_SECRET_KEY"  # noqa: S105 - the variable's name

app = typer.Typer(
    help="Look at users and change them.", no_args_is_help=True, rich_markup_mode=None
)


EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")]


@app.command()
def info(
    context: typer.Context,
    email: EmailArgument,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Show the user with an e-mail address."""
    with portal_session(portal_conninfo(context)) as session:
        found = users.user_info(session, email)
    if format is Format.JSON:
        print_json(asdict(found))
        return
    table = new_table("", "")
    for label, value in (
        ("User id", str(found.id)),
        ("Username", found.username),
        ("E-mail", found.email),
        ("Name", found.name),
        ("Location", found.location),
        ("Language", found.language),
    ):
        table.add_row(label, escape(value))
    table.show_header = False
    print_table(table)


@app.command("change-email")
def change_email(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The address as it is.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The address to be.")],
    _portal: PortalOption = None,
) -> None:
    """Give a user another e-mail address, unless another user has it.

    The change reaches the courses that the user is enrolled in.
    """
    with portal_session(portal_conninfo(context)) as session:
        user_id = users.change_email(session, old, new)
    say(f"user {user_id}: e-mail is '{new}' now")


@app.command("change-name")
def change_name(
    context: typer.Context,
    email: EmailArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to be.")],
    _portal: PortalOption = None,
) -> None:
    """Change the name in a user's profile.

    The change reaches the courses that the user is enrolled in.
    """
    with portal_session(portal_conninfo(context)) as session:
        user_id = users.change_name(session, email, name)
    say(f"user {user_id}: name is '{name}' now")


@app.command()
def count(
    context: typer.Context,
    active: Annotated[bool, typer.Option("--active", help="Count active users only.")] = False,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Print how many users there are."""
    with portal_session(portal_conninfo(context)) as session:
        number = users.active_user_count(session) if active else users.user_count(session)
    if format is Format.JSON:
        print_json({"active_users" if active else "users": number})
    else:
        say(str(number))


@app.command("unique-id")
def unique_id(
    context: typer.Context,
    username: Annotated[
        str | None,
        typer.Argument(metavar="USERNAME", help="The user's name."),
    ] = None,
    email: Annotated[
        str | None,
        typer.Option("--email", help="The user's address, instead."),
    ] = None,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Print the id that stands for a user in survey links.

    The secret key comes from the environment variable PYSYNC_SECRET_KEY and doesn't leave this
    process.
    """
    if (username is None) == (email is None):
        raise typer.BadParameter("give either USERNAME or --email")
    secret_key = os.fsencode(os.environ.get(SECRET_KEY, ""))
    if not secret_key:
        raise PysyncError("secret key isn't known", f"set {SECRET_KEY}")
    with portal_session(portal_conninfo(context)) as session:
        if username is not None:
            user_id = users.user_id_by_username(session, username)
        else:
            user_id = users.user_id_by_email(session, email or "")
    unique = users.unique_id_for_user(user_id, secret_key)
    if format is Format.JSON:
        print_json({"user_id": user_id, "unique_id": unique})
    else:
        say(unique)
