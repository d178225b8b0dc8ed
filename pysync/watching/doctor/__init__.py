"""Look for what stops replication, or will, and for what would make it better."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.replication import registry
from pysync.replication.polling import ask_each, server_of
from pysync.types import CourseId
from pysync.watching.doctor.course import examine_course
from pysync.watching.doctor.portal import examine_portal
from pysync.watching.status.portal import read_clock

__all__ = ["Diagnosis", "examine"]

PORTAL = "portal"


@dataclass(frozen=True)
class Diagnosis:
    """A finding, where it was made, and whether it must be mended.

    :param course_id: the course in whose database (or on whose server) it is; ``None`` for the
        portal. Of courses that share a server the first.
    """

    course_id: str | None
    must: bool
    finding: Finding


def examine(portal_conninfo: str, course_id: CourseId | None = None) -> list[Diagnosis]:
    """Examine the portal, and one course's database and server or all.

    :returns: what must be mended first, then what should.
    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        registered = registry.courses(portal)
        wanted = [registry.get(portal, course_id)] if course_id else registered
        found = [
            Diagnosis(None, must, finding)
            for must, finding in examine_portal(portal, registered, wanted)
        ]
        clock = read_clock(portal)
    answers = ask_each(wanted, partial(examine_course, clock=clock))
    told: set[tuple[object, ...]] = set()
    for course, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, PysyncError):
            finding = Finding(
                "course database",
                f"can't be examined: {answer.message}",
                answer.remedy or "look after its server and the network",
            )
            found.append(Diagnosis(course.course_id, must=True, finding=finding))
            continue
        for of_server, must, finding in answer:
            key = (server_of(course.conninfo), finding)
            if of_server and key in told:
                continue
            told.add(key)
            found.append(Diagnosis(course.course_id, must, finding))
    return _sorted(found)


def _sorted(found: Sequence[Diagnosis]) -> list[Diagnosis]:
    return sorted(found, key=lambda each: (not each.must, each.course_id or ""))
