"""Look users up by e-mail address, change and count them: the shell helpers of 2012."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from pysync.db.sessions import Executor, call, call_rows, translated_calls
from pysync.errors import InvalidValueError, NotFoundError
from pysync.models.portal import User, UserProfile


@dataclass(frozen=True)
class UserInfo:
    """What ``user_info`` shows of a user."""

    id: int
    username: str
    email: str
    name: str
    location: str
    language: str


def get_user(session: Session, email: str) -> tuple[User, UserProfile]:
    """Return the user with an e-mail address, and the user's profile.

    :raises NotFoundError: if nobody has the address, or who has it has no profile.
    :raises InvalidValueError: if several users have it.
    """
    user_id = call(session, "user_id_by_email", email)
    row = session.execute(
        select(User, UserProfile)
        .join(UserProfile, UserProfile.user_id == User.id)
        .where(User.id == user_id)
        # The database is right where a function of it has changed what the session holds.
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise NotFoundError(
            f"profile of user '{user_id}' not found: no profile has this user_id",
            "insert the profile into auth_userprofile first",
        )
    user, profile = row
    return user, profile


def user_info(executor: Executor, email: str) -> UserInfo:
    """Return what there is to know of the user with an e-mail address.

    :raises NotFoundError: if nobody has the address, or who has it has no profile.
    :raises InvalidValueError: if several users have it.
    """
    return UserInfo(*tuple(call_rows(executor, "user_info", email)[0]))


def change_email(executor: Executor, old_email: str, new_email: str) -> int:
    """Change the e-mail address of the user who has the old one.

    :returns: the user's id.
    :raises NotFoundError: if nobody has the old address.
    :raises InvalidValueError: if several users have it, or the new one isn't an address.
    :raises InUseError: if another user has the new one, in whatever case.
    """
    return int(call(executor, "change_email", old_email, new_email))


def change_name(executor: Executor, email: str, new_name: str) -> int:
    """Change the name in the profile of the user with an e-mail address.

    :returns: the user's id.
    :raises NotFoundError: if nobody has the address, or who has it has no profile.
    :raises InvalidValueError: if several users have it, or the name is longer than 255 characters.
    """
    return int(call(executor, "change_name", email, new_name))


def user_count(executor: Executor) -> int:
    """Return how many users there are."""
    return int(call(executor, "user_count"))


def active_user_count(executor: Executor) -> int:
    """Return how many users are active."""
    return int(call(executor, "active_user_count"))


def user_id_by_email(executor: Executor, email: str) -> int:
    """Return the id of the only user with an e-mail address.

    :raises NotFoundError: if nobody has it.
    :raises InvalidValueError: if several users have it.
    """
    return int(call(executor, "user_id_by_email", email))


def user_id_by_username(executor: Executor, username: str) -> int:
    """Return the id of the user with a username.

    :raises NotFoundError: if nobody has it.
    """
    with translated_calls():
        user_id = executor.scalar(select(User.id).where(User.username == username))
    if user_id is None:
        raise NotFoundError(
            f"user '{username}' not found: no user has this username",
            "look for it in auth_user; upper and lower case count",
        )
    return int(user_id)


def unique_id_for_user(user_id: int, secret_key: str | bytes) -> str:
    """Return the id that stands for a user in survey links: md5 of secret key and id.

    :param secret_key: the installation's; text counts as its UTF-8 bytes.
    :raises InvalidValueError: if the key is empty: anybody could compute such ids.
    """
    key = secret_key.encode() if isinstance(secret_key, str) else secret_key
    if not key:
        raise InvalidValueError(
            "secret key '' refused: anybody could compute ids without one",
            "pass the key that the links of old were made with",
        )
    return hashlib.md5(key + str(user_id).encode(), usedforsecurity=False).hexdigest()
