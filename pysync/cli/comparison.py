"""What a merge did or would do, as a table or as JSON."""

from collections.abc import Mapping
from dataclasses import astuple

from pysync.cli.output import Format, plain, print_rows
from pysync.replication.merge import Outcome


def taken_over(tables: Mapping[str, str]) -> list[str]:
    """Return what is to be told of tables that become pysync's."""
    return [
        f"{table}: becomes pysync's; role '{role}' goes on reading and writing it, and borrows it "
        "to alter it, unless you give --keep-owner"
        for table, role in tables.items()
    ]


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
    print_rows(
        format,
        {"course_id": course, "done": done, **plain(found)},
        ("table", *words),
        map(astuple, found.differences),
        right=words,
        notes=[*notes, ending],
    )
