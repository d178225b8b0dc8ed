"""Groups of users."""

from collections.abc import Sequence
from typing import NamedTuple

from pysync.db.sessions import Executor, call, call_rows


class Group(NamedTuple):
    """A group with the number of its members."""

    name: str
    description: str
    members: int


class Member(NamedTuple):
    """A user in a group."""

    user_id: int
    username: str
    email: str


def create_group(executor: Executor, name: str, description: str = "") -> int:
    """Create a group.

    :param name: 1 to 32 characters.
    :returns: the group's id.
    :raises InvalidValueError: if the name doesn't fit.
    :raises InUseError: if there is a group of this name.
    """
    return int(call(executor, "create_group", name, description))


def describe_group(executor: Executor, name: str, description: str) -> None:
    """Change a group's description.

    :raises NotFoundError: if there is no group of this name.
    """
    call(executor, "describe_group", name, description)


def add_user_to_group(executor: Executor, user: str, group: str) -> None:
    """Add a user to a group, both by name; once more is no error.

    :raises NotFoundError: if there is no such user or group.
    """
    call(executor, "add_user_to_group", user, group)


def remove_user_from_group(executor: Executor, user: str, group: str) -> None:
    """Remove a user from a group, both by name; that the user isn't in it is no error.

    :raises NotFoundError: if there is no such user or group.
    """
    call(executor, "remove_user_from_group", user, group)


def default_groups(executor: Executor) -> dict[str, str]:
    """Return the descriptions of the groups that are created on first use, by name."""
    return {row.group_name: row.description for row in call_rows(executor, "default_groups")}


def add_user_to_default_group(executor: Executor, user: str, group: str) -> None:
    """Add a user to a group, creating it if it is one of the default groups.

    :raises NotFoundError: if there is no such user, or the group neither exists nor is a default.
    """
    call(executor, "add_user_to_default_group", user, group)


def list_groups(executor: Executor) -> Sequence[Group]:
    """Return all groups, by name."""
    return [Group._make(row) for row in call_rows(executor, "list_groups")]


def group_members(executor: Executor, name: str) -> Sequence[Member]:
    """Return the users in a group, by username.

    :raises NotFoundError: if there is no group of this name.
    """
    return [Member._make(row) for row in call_rows(executor, "group_members", name)]
