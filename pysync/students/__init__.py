"""The student data of the portal from Python: what schema ``student`` offers in SQL, typed.

Functions take the caller's session or connection, and neither open one nor commit. Those that the
module of 2012 had are here under their names; each noun's others are in its own module.
"""

from pysync.students.groups import (
    add_user_to_default_group,
    add_user_to_group,
    create_group,
    default_groups,
    remove_user_from_group,
)
from pysync.students.profiles import get_meta, set_meta
from pysync.students.testcenter import get_testcenter_registrations_for_user_and_course
from pysync.students.users import (
    active_user_count,
    change_email,
    change_name,
    get_user,
    unique_id_for_user,
    user_count,
    user_info,
)
from pysync.students.validation import TestCenterUserForm

__all__ = [
    "TestCenterUserForm",
    "active_user_count",
    "add_user_to_default_group",
    "add_user_to_group",
    "change_email",
    "change_name",
    "create_group",
    "default_groups",
    "get_meta",
    "get_testcenter_registrations_for_user_and_course",
    "get_user",
    "remove_user_from_group",
    "set_meta",
    "unique_id_for_user",
    "user_count",
    "user_info",
]
