"""Look for what stops replication, or will, and for what would make it better."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial

from pysync.db.addresses import written_out
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.replication import registry
from pysync.replication.polling import ask_each, server_of
from pysync.types import CourseId
from pysync.watching.doctor.addresses import our_way, written_down
from pysync.watching.doctor.course import examine_course
from pysync.watching.doctor.portal import examine_portal
from pysync.watching.doctor.standbys import standby_findings
from pysync.watching.status.portal import read_clock

__all__ = ["Diagnosis", "examine"]


@dataclass(frozen=True)
class Diagnosis:
    """A finding, and where it was made.

    :param course_id: the course in whose database (or on whose server) it is; ``None`` for the
        portal. Of courses that share a server the first.
    """

    course_id: str | None
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
        way = written_out(portal, portal_conninfo)
        found = [Diagnosis(None, each) for each in examine_portal(portal, registered, wanted)]
        found += [Diagnosis(None, each) for each in our_way(way)]
        of_standbys = standby_findings(portal, portal_conninfo, registered, wanted)
        found += [Diagnosis(None, each) for each in of_standbys]
        clock = read_clock(portal)
    answers = ask_each(wanted, partial(examine_course, clock=clock, portal_conninfo=way))
    told: set[tuple[object, ...]] = set()
    for course, answer in zip(wanted, answers, strict=True):
        found += [Diagnosis(course.course_id, each) for each in written_down(course)]
        if isinstance(answer, PysyncError):
            finding = Finding(
                "course database",
                f"can't be examined: {answer.message}",
                answer.remedy or "look after its server and the network",
            )
            found.append(Diagnosis(course.course_id, finding))
            continue
        of_server, of_database = answer
        server = server_of(course.conninfo)
        news = [each for each in of_server if (server, each) not in told]
        told.update((server, each) for each in news)
        found.extend(Diagnosis(course.course_id, each) for each in (*news, *of_database))
    return sorted(found, key=lambda each: (not each.finding.must, each.course_id or ""))
