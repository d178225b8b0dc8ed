"""Run revisions for :mod:`pysync.migrate`, which hands over lineage and connection."""

from __future__ import annotations

from typing import Any

from alembic import context

from pysync.migrate.lineage import Lineage
from pysync.migrate.revisions import VERSION_TABLE


def _run() -> None:
    lineage: Lineage = context.config.attributes["lineage"]
    common: dict[str, Any] = {
        "version_table": VERSION_TABLE,
        "version_table_schema": lineage.version_schema,
        "include_schemas": True,
    }
    if context.is_offline_mode():
        context.configure(
            dialect_name="postgresql",
            dialect_opts={"paramstyle": "named"},
            literal_binds=True,
            transactional_ddl=False,  # what is printed before and after is in the transaction too
            **common,
        )
    else:
        context.configure(
            connection=context.config.attributes["connection"],
            transactional_ddl=False,  # the caller's transaction is open already
            **common,
        )
    with context.begin_transaction():
        context.run_migrations()


_run()
