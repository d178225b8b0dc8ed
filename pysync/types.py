"""The values that travel between layers."""

import hashlib
import re
from enum import Enum
from typing import Final, NewType, Protocol

from pysync.errors import InvalidCourseIdError

CourseId = NewType("CourseId", str)
"""A checked course id; make one with :func:`course_id`."""

RELAY_PREFIX: Final = "relay:"
"""How the ids of relays begin: they are registered beside courses, whose ids never do."""

MAX_COURSE_ID_LENGTH: Final = 255
"""Characters, the width of ``student_courseenrollment.course_id``."""

SUPPORTED_MAJORS: Final = (15, 16, 17, 18)
"""The major versions of PostgreSQL that pysync is tested on; 15 is the first with row filters."""

JSON_VERSION: Final = 1
"""The ``version`` key of every JSON document; it changes when a key changes its meaning."""

_NAME_PREFIX: Final = "pysync"
_READABLE_LENGTH: Final = 40


def course_id(text: str) -> CourseId:
    """Check a course id.

    :param text: any text of 1 to 255 characters but ``default``, which the portal's applications
        use for "no course database".
    :raises InvalidCourseIdError: if it is anything else, or can't be stored as UTF-8 text.
    """
    if not text:
        raise InvalidCourseIdError("course id '' is empty", "give the course an id")
    if text == "default":
        raise InvalidCourseIdError(
            "course id 'default' is reserved: enrollments in it go nowhere by definition",
            "choose another id",
        )
    if text.startswith(RELAY_PREFIX):
        raise InvalidCourseIdError(
            f"course id '{text}' is a relay's: those begin with '{RELAY_PREFIX}'",
            "choose another id",
        )
    if len(text) > MAX_COURSE_ID_LENGTH:
        raise InvalidCourseIdError(
            f"course id '{text[:20]}…' is too long: {len(text)} characters, "
            f"at most {MAX_COURSE_ID_LENGTH} fit",
            "choose a shorter id",
        )
    if "\0" in text or not _encodable(text):
        raise InvalidCourseIdError(
            f"course id {text!r} can't be stored: it holds a NUL or isn't valid Unicode",
            "choose another id",
        )
    return CourseId(text)


def relay_id(name: str) -> CourseId:
    """Return the id under which a relay is registered.

    :param name: of the relay, with or without what relays' ids begin with.
    :raises InvalidCourseIdError: unless it is 1 to 40 of ``a-z``, ``0-9`` and ``_``.
    """
    name = name.removeprefix(RELAY_PREFIX)
    if not re.fullmatch(r"[a-z0-9_]{1,40}", name):
        raise InvalidCourseIdError(
            f"relay name '{name}' isn't one: up to 40 of a-z, 0-9 and _ are", "choose another name"
        )
    return CourseId(RELAY_PREFIX + name)


def subject(subscriber: CourseId) -> str:
    """Return what messages call a course or a relay."""
    kind = "relay" if subscriber.startswith(RELAY_PREFIX) else "course"
    return f"{kind} '{subscriber.removeprefix(RELAY_PREFIX)}'"


def subscriber_id(text: str) -> CourseId:
    """Check the id of a course, or of a relay, which begins with ``relay:``."""
    return relay_id(text) if text.startswith(RELAY_PREFIX) else course_id(text)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def replication_name(portal_database: str, course: CourseId) -> str:
    """Return the name that a course's publication, slot and subscription share.

    Slots are a cluster's, not a database's, and take only ``[a-z0-9_]`` and 63 bytes. The readable
    part is the course id as far as it fits; eight hexadecimal digits of a hash over portal database
    and course id keep apart what the readable part runs together.

    :param portal_database: the portal database's name.
    :param course: the course.
    :returns: for instance ``pysync_mitx_6_002x_2012_fall_4f0c9d21``.
    """
    readable = re.sub(r"[^a-z0-9]+", "_", course.lower()).strip("_")[:_READABLE_LENGTH].strip("_")
    digest = hashlib.sha256(f"{portal_database}\0{course}".encode()).hexdigest()[:8]
    return "_".join(part for part in (_NAME_PREFIX, readable, digest) if part)


class Side(Enum):
    """Which database a table is in: for adoption it decides in which direction types must fit.

    The portal's values must fit into the copies; the copies' into the course's columns.
    """

    PORTAL = "portal"
    COURSE = "course"


FAN_OUT_ROLE: Final = "pysync_fan_out"
"""Runs the portal's triggers."""

PORTAL_ROLES: Final = (FAN_OUT_ROLE, "pysync_owner")
"""Roles of pysync's own on a portal, which own its functions; nobody logs in as them."""

COURSE_ROLE: Final = "pysync_course"
"""Owns the replicated tables of course databases; nobody logs in as it."""


class Progress(Protocol):
    """What a long piece of work tells about itself; the command line draws it."""

    def step(self, description: str, total: int | None = None) -> None:
        """Begin a step of `total` units (users, tables), or of unknown length."""

    def advance(self, done: int) -> None:
        """Tell how many units of the step are done altogether."""

    def warn(self, message: str) -> None:
        """Pass on a warning."""


class Unwatched:
    """Progress that nobody watches."""

    def step(self, description: str, total: int | None = None) -> None:
        """Say nothing."""

    def advance(self, done: int) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""
