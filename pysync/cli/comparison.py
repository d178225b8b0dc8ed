"""What a merge did or would do, as a table or as JSON."""

from collections.abc import Mapping
from dataclasses import astuple

from pysync.cli.output import Format, plain, print_rows, say
from pysync.db.addresses import files
from pysync.replication.merge import Outcome


def taken_over(tables: Mapping[str, str]) -> list[str]:
    """Return what is to be told of tables that become pysync's."""
    return [
        f"{table}: becomes pysync's; role '{role}' goes on reading and writing it, and borrows it "
        "to alter it, unless you give --keep-owner"
        for table, role in tables.items()
    ]


def way_back(portal_conninfo: str) -> str:
    """Return what is to be told of how a course's server reaches the portal."""
    there = f"; {', '.join(named)}: on that server" if (named := files(portal_conninfo)) else ""
    return f"its server reaches the portal by: {portal_conninfo}{there}"


def print_move(
    found: Outcome | None, format: Format, *, course: str, dry_run: bool, via: str | None = None
) -> None:
    """Print what a move did, or would do; ``None`` if the course was there.

    :param via: where it is to stream from, if that is what was moved.
    """
    ending = "dry run: nothing was changed" if dry_run else f"course '{course}' moved"
    if found is not None:
        print_comparison(found, format, course=course, done=not dry_run, ending=ending)
    elif format is Format.JSON:
        print_comparison(Outcome([]), format, course=course, done=False, ending=ending)
    else:
        there = "is in that database" if via is None else f"streams from '{via}'"
        say(f"course '{course}' hasn't moved: it {there} already")


def print_comparison(
    found: Outcome, format: Format, *, course: str, done: bool, ending: str
) -> None:
    """Print rows by table, and the course's own foreign keys that are concerned.

    :param done: whether the merge was made, or only tried.
    :param ending: what people are told in the end.
    """
    words = (
        ("inserted", "updated", "removed", "scrubbed")
        if done
        else ("to insert", "to update", "to remove", "to scrub")
    )
    notes = [
        f"{key.table}: {key.rows:,} rows point at rows of {key.referred} that "
        f"{'are scrubbed' if key.referred == 'auth_user' else 'go all the same'} ({key.name})"
        for key in found.foreign_keys
    ]
    if found.renamed:
        notes.append(
            f"auth_user: {found.renamed:,} users have the name of a portal user with another id: "
            "rows that point at them stay with the old id"
        )
    notes += taken_over(found.taken_over)
    if found.portal_conninfo:
        notes.append(way_back(found.portal_conninfo))
    print_rows(
        format,
        {"course_id": course, "done": done, **plain(found)},
        ("table", *words),
        map(astuple, found.differences),
        right=words,
        notes=[*notes, ending],
    )
