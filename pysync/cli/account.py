"""``pysync account``."""

from typing import Annotated

import typer

from pysync.cli.output import Format, print_rows, say
from pysync.cli.parameters import FormatOption, Portal, UsernameArgument, group
from pysync.db.sessions import portal_session
from pysync.students import accounts

app = group("Register accounts, activate them, approve their changes.")

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key that was sent.")]


@app.command()
def register(username: UsernameArgument, portal: Portal) -> None:
    """Give a user an activation key and print it."""
    with portal_session(portal) as session:
        key = accounts.register(session, accounts.find_user(session, username))
    say(key)


@app.command()
def activate(key: KeyArgument, portal: Portal) -> None:
    """Activate the account that an activation key belongs to."""
    with portal_session(portal) as session:
        user_id = accounts.activate(session, key)
    say(f"user {user_id} is active")


@app.command()
def pending(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """List the changes of name and e-mail to be approved."""
    with portal_session(portal) as session:
        names = accounts.pending_name_changes(session)
        emails = accounts.pending_email_changes(session)
    print_rows(
        format,
        {"name_changes": names, "email_changes": emails},
        ("username", "change", "to", "rationale"),
        [(each.username, "name", each.new_name, each.rationale) for each in names]
        + [(each.username, "e-mail", each.new_email, "") for each in emails],
        none="no changes are pending",
    )


@app.command("request-name")
def request_name(
    username: UsernameArgument,
    new_name: Annotated[str, typer.Argument(metavar="NAME", help="The name asked for.")],
    portal: Portal,
    rationale: Annotated[str, typer.Option("--rationale", help="Why.")] = "",
) -> None:
    """Ask for another name; a pending request is replaced."""
    with portal_session(portal) as session:
        user_id = accounts.find_user(session, username)
        accounts.request_name_change(session, user_id, new_name, rationale)
    say(f"name change of user '{username}' is pending")


@app.command("approve-name")
def approve_name(username: UsernameArgument, portal: Portal) -> None:
    """Give a user the name asked for."""
    with portal_session(portal) as session:
        name = accounts.approve_name_change(session, accounts.find_user(session, username))
    say(f"user '{username}' is now called '{name}'")


@app.command("reject-name")
def reject_name(username: UsernameArgument, portal: Portal) -> None:
    """Drop the name change that a user asked for."""
    with portal_session(portal) as session:
        accounts.reject_name_change(session, accounts.find_user(session, username))
    say(f"name change of user '{username}' rejected")


@app.command("request-email")
def request_email(
    username: UsernameArgument,
    new_email: Annotated[str, typer.Argument(metavar="EMAIL", help="The address asked for.")],
    portal: Portal,
) -> None:
    """Ask for another e-mail address; print the key to send."""
    with portal_session(portal) as session:
        user_id = accounts.find_user(session, username)
        key = accounts.request_email_change(session, user_id, new_email)
    say(key)


@app.command("approve-email")
def approve_email(key: KeyArgument, portal: Portal) -> None:
    """Give a user the address that the key was sent to."""
    with portal_session(portal) as session:
        user_id = accounts.approve_email_change(session, key)
    say(f"user {user_id} has the new e-mail address")


@app.command("reject-email")
def reject_email(username: UsernameArgument, portal: Portal) -> None:
    """Drop the e-mail change that a user asked for."""
    with portal_session(portal) as session:
        accounts.reject_email_change(session, accounts.find_user(session, username))
    say(f"e-mail change of user '{username}' rejected")
