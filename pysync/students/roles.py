"""Roles in courses' discussions; enrolling gives them, by a trigger."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select

from pysync.db.sessions import Executor, translated_calls
from pysync.models.accounts import Role, RoleMember
from pysync.models.portal import User


class CourseRole(NamedTuple):
    """A role in a course's discussions."""

    course_id: str
    name: str


def roles_of(executor: Executor, user_id: int) -> Sequence[CourseRole]:
    """Return the roles that a user has, by course and name."""
    query = (
        select(Role.course_id, Role.name)
        .join(RoleMember, RoleMember.role_id == Role.id)
        .where(RoleMember.user_id == user_id)
        .order_by(Role.course_id, Role.name)
    )
    with translated_calls():
        return [CourseRole._make(row) for row in executor.execute(query)]


def role_members(executor: Executor, course_id: str, name: str) -> Sequence[str]:
    """Return the usernames of those who have a role in a course, in order."""
    query = (
        select(User.username)
        .join(RoleMember, RoleMember.user_id == User.id)
        .join(Role, Role.id == RoleMember.role_id)
        .where(Role.course_id == course_id, Role.name == name)
        .order_by(User.username)
    )
    with translated_calls():
        return executor.execute(query).scalars().all()
