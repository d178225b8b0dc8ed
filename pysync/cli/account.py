"""``pysync account``."""

from __future__ import annotations

from typing import Annotated

import typer

from pysync.cli.output import Format, escape, new_table, print_json, print_table, say
from pysync.cli.parameters import FormatOption, PortalOption, portal_conninfo
from pysync.db.sessions import portal_session
from pysync.students import accounts

app = typer.Typer(
    help="Register accounts and activate them, approve changes of name and e-mail.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

UserArgument = Annotated[str, typer.Argument(metavar="USERNAME", help="The user's name.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key that was sent.")]


@app.command()
def register(context: typer.Context, username: UserArgument, _portal: PortalOption = None) -> None:
    """Give a user an activation key and print it."""
    with portal_session(portal_conninfo(context)) as session:
        key = accounts.register(session, accounts.find_user(session, username))
    say(key)


@app.command()
def activate(context: typer.Context, key: KeyArgument, _portal: PortalOption = None) -> None:
    """Activate the account that an activation key belongs to."""
    with portal_session(portal_conninfo(context)) as session:
        user_id = accounts.activate(session, key)
    say(f"user {user_id} is active")


@app.command()
def pending(
    context: typer.Context, format: FormatOption = Format.TABLE, _portal: PortalOption = None
) -> None:
    """List the changes of name and e-mail that wait for approval."""
    with portal_session(portal_conninfo(context)) as session:
        names = accounts.pending_name_changes(session)
        emails = accounts.pending_email_changes(session)
    if format is Format.JSON:
        print_json(
            {
                "name_changes": [each._asdict() for each in names],
                "email_changes": [each._asdict() for each in emails],
            }
        )
        return
    if not names and not emails:
        say("no changes are pending")
        return
    table = new_table("username", "change", "to", "rationale")
    for name in names:
        table.add_row(escape(name.username), "name", escape(name.new_name), escape(name.rationale))
    for email in emails:
        table.add_row(escape(email.username), "e-mail", escape(email.new_email), "")
    print_table(table)


@app.command("request-name")
def request_name(
    context: typer.Context,
    username: UserArgument,
    new_name: Annotated[str, typer.Argument(metavar="NAME", help="The name asked for.")],
    rationale: Annotated[str, typer.Option("--rationale", help="Why.")] = "",
    _portal: PortalOption = None,
) -> None:
    """Ask for another name; a pending request is replaced."""
    with portal_session(portal_conninfo(context)) as session:
        user_id = accounts.find_user(session, username)
        accounts.request_name_change(session, user_id, new_name, rationale)
    say(f"name change of user '{username}' is pending")


@app.command("approve-name")
def approve_name(
    context: typer.Context, username: UserArgument, _portal: PortalOption = None
) -> None:
    """Give a user the name asked for."""
    with portal_session(portal_conninfo(context)) as session:
        name = accounts.approve_name_change(session, accounts.find_user(session, username))
    say(f"user '{username}' is now called '{name}'")


@app.command("reject-name")
def reject_name(
    context: typer.Context, username: UserArgument, _portal: PortalOption = None
) -> None:
    """Drop the name change that a user asked for."""
    with portal_session(portal_conninfo(context)) as session:
        accounts.reject_name_change(session, accounts.find_user(session, username))
    say(f"name change of user '{username}' rejected")


@app.command("request-email")
def request_email(
    context: typer.Context,
    username: UserArgument,
    new_email: Annotated[str, typer.Argument(metavar="EMAIL", help="The address asked for.")],
    _portal: PortalOption = None,
) -> None:
    """Ask for another e-mail address and print the key to send there."""
    with portal_session(portal_conninfo(context)) as session:
        user_id = accounts.find_user(session, username)
        key = accounts.request_email_change(session, user_id, new_email)
    say(key)


@app.command("approve-email")
def approve_email(context: typer.Context, key: KeyArgument, _portal: PortalOption = None) -> None:
    """Give a user the e-mail address that the key was sent to."""
    with portal_session(portal_conninfo(context)) as session:
        user_id = accounts.approve_email_change(session, key)
    say(f"user {user_id} has the new e-mail address")


@app.command("reject-email")
def reject_email(
    context: typer.Context, username: UserArgument, _portal: PortalOption = None
) -> None:
    """Drop the e-mail change that a user asked for."""
    with portal_session(portal_conninfo(context)) as session:
        accounts.reject_email_change(session, accounts.find_user(session, username))
    say(f"e-mail change of user '{username}' rejected")
