"""Whether a database is at the revision that this program is made for."""

from __future__ import annotations

from pysync.db.connections import Connection
from pysync.findings import Finding
from pysync.migrate import Lineage, current_revision, head_revision


def revision_findings(
    connection: Connection, lineage: Lineage, subject: str, command: str
) -> list[Finding]:
    """Compare a database's revision with the newest of its lineage.

    :param subject: the database in words.
    :param command: what migrates it.
    """
    current, newest = current_revision(connection, lineage), head_revision(lineage)
    if current == newest:
        return []
    return [
        Finding(
            subject,
            f"is at revision {current or 'base'}, this pysync needs {newest}",
            f"run '{command}', or install a newer pysync if it doesn't know that revision",
        )
    ]
