"""What on a course's subscription breaks what pysync guarantees; the rest is the operator's."""

from collections.abc import Iterator

from pysync.db.catalog import quoted_name
from pysync.findings import IN_COURSE, Finding, run
from pysync.replication import slots
from pysync.replication.registry import Course
from pysync.texts import Text, word


def subscription_findings(
    course: Course,
    *,
    slot_name: str | None,
    publications: list[str],
    of_superuser: bool,
    synchronous_commit: str,
    runs_as_owner: bool | None,
    origin: str | None,
) -> Iterator[Finding]:
    """Return what keeps a subscription from bringing all of its course's changes, and no more.

    :param runs_as_owner: ``None`` where a server has no choice.
    """
    name, argument = course.replication_name, word(course.course_id)
    subject = f"subscription '{name}'"
    resync = f"pysync resync {argument}"

    def alter(action: str) -> Text:
        return run(f"alter subscription {quoted_name(name)} {action}", IN_COURSE)

    if publications != [name]:
        others = ", ".join(f"'{each}'" for each in publications)
        yield Finding(
            subject,
            f"follows publication {others} rather than its own {IN_COURSE}: changes are missing",
            alter(f"set publication {quoted_name(name)} with (refresh = false)")
            + Text(f"; then '{resync}' for what was missed"),
        )
    # The latter is that of a merge, until it takes its place.
    if slot_name not in (None, name, slots.merged(name)):
        cause = (
            f"follows slot '{slot_name}' rather than its own {IN_COURSE}: changes may be missing"
        )
        yield Finding(subject, cause, f"run '{resync}'")
    if origin == "none":
        cause = f"leaves out what others replicate into the portal {IN_COURSE} (origin is none)"
        mend = alter("set (origin = any)") + Text(f"; then '{resync}' for what was missed")
        yield Finding(subject, cause, mend)
    # Up to 15 it has no choice.
    if of_superuser if runs_as_owner is None else runs_as_owner:
        yield Finding(
            subject,
            f"applies rows with the rights of its own owner {IN_COURSE}: so would whatever owners "
            "of tables hang on them",
            Text(f"run 'pysync course pause {argument}', then 'pysync course resume {argument}'"),
        )
    if course.durable and synchronous_commit == "off":
        cause = "confirms changes before they are flushed, though the course is to be durable"
        yield Finding(subject, f"{cause} {IN_COURSE}", alter("set (synchronous_commit = 'on')"))
