"""Sessions that read and write values as text in the same way."""

from typing import Final

from pysync.db.connections import Connection

_AS_TEXT: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "jit": "off",
}
"""How values look as text, as in ``sql/portal/as_pinned_text.sql``, and are compared."""


def pin(connection: Connection) -> None:
    """Have a session read and write values as text as every other pinned session does."""
    names, values = list(_AS_TEXT), list(_AS_TEXT.values())
    query = (
        "select pg_catalog.set_config(name, value, false)"
        " from unnest(%s::text[], %s::text[]) as setting (name, value)"
    )
    connection.execute(query, (names, values))
