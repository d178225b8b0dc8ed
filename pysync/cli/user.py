"""``pysync user``: look at users, change and count them."""

import os
from typing import Annotated, Final

import typer

from pysync.cli.output import Format, plain, print_json, print_rows, say
from pysync.cli.parameters import FormatOption, Portal, group
from pysync.db.sessions import portal_session
from pysync.errors import PysyncError
from pysync.students import users

SECRET_KEY: Final = "PYSYNC_SECRET_KEY"  # noqa: S105 - the variable's name

app = group("Look at users and change them.")

EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")]


@app.command()
def info(email: EmailArgument, portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """Show the user with an e-mail address."""
    with portal_session(portal) as session:
        found = plain(users.user_info(session, email))
    labels = ("User id", "Username", "E-mail", "Name", "Location", "Language")
    values = map(str, found.values())
    print_rows(format, found, ("", ""), list(zip(labels, values, strict=True)))


@app.command("change-email")
def change_email(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The address as it is.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The address to be.")],
    portal: Portal,
) -> None:
    """Give a user another e-mail address, unless it is taken.

    The change reaches the courses that the user is enrolled in.
    """
    with portal_session(portal) as session:
        user_id = users.change_email(session, old, new)
    say(f"user {user_id}: e-mail is '{new}' now")


@app.command("change-name")
def change_name(
    email: EmailArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to be.")],
    portal: Portal,
) -> None:
    """Change the name in a user's profile.

    The change reaches the courses that the user is enrolled in.
    """
    with portal_session(portal) as session:
        user_id = users.change_name(session, email, name)
    say(f"user {user_id}: name is '{name}' now")


@app.command()
def count(
    portal: Portal,
    active: Annotated[bool, typer.Option("--active", help="Count active users only.")] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Print how many users there are."""
    with portal_session(portal) as session:
        number = users.active_user_count(session) if active else users.user_count(session)
    if format is Format.JSON:
        print_json({"active_users" if active else "users": number})
    else:
        say(str(number))


@app.command("unique-id")
def unique_id(
    portal: Portal,
    username: Annotated[
        str | None, typer.Argument(metavar="USERNAME", help="The user's name.")
    ] = None,
    email: Annotated[
        str | None, typer.Option("--email", help="The user's address, instead.")
    ] = None,
    format: FormatOption = Format.TABLE,
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
    with portal_session(portal) as session:
        if username is not None:
            user_id = users.user_id_by_username(session, username)
        else:
            user_id = users.user_id_by_email(session, email or "")
    unique = users.unique_id_for_user(user_id, secret_key)
    if format is Format.JSON:
        print_json({"user_id": user_id, "unique_id": unique})
    else:
        say(unique)
