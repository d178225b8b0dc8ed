"""Have a course's server flush each change before it confirms it, or not."""

from contextlib import closing

from pysync.replication import registry, subscriptions
from pysync.replication.databases import connect_course
from pysync.types import CourseId


def switch(portal_conninfo: str, course_id: CourseId, *, on: bool) -> None:
    """Make a course durable: nothing is lost if its server crashes. Or end that.

    :raises UnknownCourseError: if the course isn't registered.
    :raises ReplicationError: if it is incomplete, or its subscription is missing.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        course = registry.get_ready(portal, course_id)
        with closing(connect_course(course.conninfo)) as database:
            subscriptions.get(database, course)
            # Whoever is interrupted here is told of the rest as drift.
            record = "update pysync.course set durable = %s where course_id = %s"
            portal.execute(record, (on, course_id))
            subscriptions.choose(database, course, "synchronous_commit", "on" if on else "off")
