"""Accounts: activation keys, and changes of name and e-mail that wait for an approval."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select

from pysync.db.sessions import Executor, call, translated_calls
from pysync.models.accounts import PendingEmailChange, PendingNameChange
from pysync.models.portal import User


class NameChange(NamedTuple):
    """A name that a user asks for."""

    username: str
    new_name: str
    rationale: str


class EmailChange(NamedTuple):
    """An e-mail address that a user asks for."""

    username: str
    new_email: str


def find_user(executor: Executor, username: str) -> int:
    """Return a user's id.

    :raises NotFoundError: if there is no user of this name.
    """
    return int(call(executor, "find_user", username))


def register(executor: Executor, user_id: int) -> str:
    """Give a user an activation key.

    :returns: the key to send: 32 hexadecimal digits, 128 of their bits random.
    :raises NotFoundError: if there is no such user.
    :raises InUseError: if the user has a key already.
    """
    return str(call(executor, "register", user_id))


def activate(executor: Executor, activation_key: str) -> int:
    """Activate the account that a key belongs to; once more is no error.

    :returns: the user's id.
    :raises NotFoundError: if nobody is registered with the key.
    """
    return int(call(executor, "activate", activation_key))


def request_name_change(
    executor: Executor, user_id: int, new_name: str, rationale: str = ""
) -> None:
    """Ask for another name; a request that is pending is replaced.

    :param new_name: 1 to 255 characters, not all of them white space.
    :param rationale: at most 1024 characters.
    :raises NotFoundError: if there is no such user.
    :raises InvalidValueError: if a text doesn't fit.
    """
    call(executor, "request_name_change", user_id, new_name, rationale)


def approve_name_change(executor: Executor, user_id: int) -> str:
    """Write the name that a user asked for into the profile.

    :returns: the name.
    :raises NotFoundError: if no change is pending, or the user has no profile.
    """
    return str(call(executor, "approve_name_change", user_id))


def reject_name_change(executor: Executor, user_id: int) -> None:
    """Drop the name change that a user asked for.

    :raises NotFoundError: if no change is pending.
    """
    call(executor, "reject_name_change", user_id)


def request_email_change(executor: Executor, user_id: int, new_email: str) -> str:
    """Ask for another e-mail address; a request that is pending is replaced, and its key with it.

    :param new_email: at most 254 characters.
    :returns: the key to send to the new address.
    :raises NotFoundError: if there is no such user.
    :raises InvalidValueError: if it isn't an address.
    :raises InUseError: if another user has the address, in whatever case of letters.
    """
    return str(call(executor, "request_email_change", user_id, new_email))


def approve_email_change(executor: Executor, activation_key: str) -> int:
    """Write the address of a pending change to its user.

    :returns: the user's id.
    :raises NotFoundError: if no change is pending under the key.
    :raises InUseError: if another user has taken the address meanwhile.
    """
    return int(call(executor, "approve_email_change", activation_key))


def reject_email_change(executor: Executor, user_id: int) -> None:
    """Drop the e-mail change that a user asked for.

    :raises NotFoundError: if no change is pending.
    """
    call(executor, "reject_email_change", user_id)


def pending_name_changes(executor: Executor) -> Sequence[NameChange]:
    """Return the pending name changes, oldest first."""
    query = (
        select(User.username, PendingNameChange.new_name, PendingNameChange.rationale)
        .join(PendingNameChange.user)
        .order_by(PendingNameChange.id)
    )
    with translated_calls():
        return [NameChange._make(row) for row in executor.execute(query)]


def pending_email_changes(executor: Executor) -> Sequence[EmailChange]:
    """Return the pending e-mail changes, oldest first."""
    query = (
        select(User.username, PendingEmailChange.new_email)
        .join(PendingEmailChange.user)
        .order_by(PendingEmailChange.id)
    )
    with translated_calls():
        return [EmailChange._make(row) for row in executor.execute(query)]
