"""Look for what stops replication, or will, and for what would make it better."""

from contextlib import closing
from dataclasses import dataclass

from pysync.db.addresses import written_out
from pysync.db.connections import Connection
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.replication import registry
from pysync.replication.polling import ask_each, server_of
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.doctor.addresses import our_way, written_down
from pysync.watching.doctor.course import examine_course
from pysync.watching.doctor.portal import examine_portal
from pysync.watching.doctor.publisher import examine_publisher
from pysync.watching.doctor.standbys import standby_findings
from pysync.watching.status.portal import read_clock

__all__ = ["Diagnosis", "examine"]

Found = tuple[list[Finding], list[Finding]]
"""What concerns all courses of a server, and what concerns one alone."""


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

    Relays are examined as courses are, and as what their courses stream from.

    :returns: what must be mended first, then what should.
    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        registered = registry.subscribers(portal)
        wanted = [registry.get(portal, course_id)] if course_id else registered
        direct = [each for each in wanted if each.relay is None]
        way = written_out(portal, portal_conninfo)
        found = [Diagnosis(None, each) for each in examine_portal(portal, registered, wanted)]
        found += [Diagnosis(None, each) for each in our_way(way)]
        slots = [each for each in registered if each.relay is None]
        of_standbys = standby_findings(portal, portal_conninfo, slots, direct)
        found += [Diagnosis(None, each) for each in of_standbys]
        clock = read_clock(portal)
    relays = {each.course_id: each for each in registered if each.is_relay}
    also = {each.relay for each in wanted if each.relay} - {each.course_id for each in wanted}
    examined = [*wanted, *(relays[each] for each in sorted(also))]

    def examine_one(database: Connection, course: Course) -> Found:
        if course.course_id in also:
            return [], list(examine_publisher(database, course, registered, wanted))
        publisher = relays[course.relay].conninfo if course.relay else way
        found = examine_course(database, course, clock=clock, publisher_conninfo=publisher)
        if course.is_relay:
            found[1].extend(examine_publisher(database, course, registered, registered))
        return found

    answers = ask_each(examined, examine_one)
    told: set[tuple[object, ...]] = set()
    for course, answer in zip(examined, answers, strict=True):
        found += [Diagnosis(course.course_id, each) for each in written_down(course)]
        if isinstance(answer, PysyncError):
            finding = Finding(
                "relay database" if course.is_relay else "course database",
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
