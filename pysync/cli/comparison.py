"""What a merge did or would do, as a table or as JSON."""

from __future__ import annotations

from dataclasses import asdict

from pysync.cli.output import Format, escape, new_table, print_json, print_table, say
from pysync.replication.merge import Outcome


def print_comparison(found: Outcome, format: Format, *, course: str, done: bool) -> None:
    """Print rows by table, and the course's own foreign keys that are concerned.

    :param done: whether the merge was made, or only tried.
    """
    if format is Format.JSON:
        print_json({"course_id": course, "done": done, **asdict(found)})
        return
    words = (
        ("inserted", "updated", "removed", "scrubbed")
        if done
        else ("to insert", "to update", "to remove", "to scrub")
    )
    table = new_table("table", *words, right=words)
    for each in found.differences:
        numbers = (each.insert, each.update, each.remove, each.scrub)
        table.add_row(escape(each.table), *(f"{number:,}" for number in numbers))
    print_table(table)
    for key in found.foreign_keys:
        fate = "are scrubbed" if key.referred == "auth_user" else "go all the same"
        say(
            f"{key.table}: {key.rows:,} rows point at rows of {key.referred} that {fate} "
            f"({key.name})"
        )
    if found.renamed:
        say(
            f"auth_user: {found.renamed:,} users have the name of a portal user with another id: "
            "rows that point at them stay with the old id"
        )
