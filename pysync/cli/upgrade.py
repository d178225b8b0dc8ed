"""``pysync upgrade``."""

from typing import Final

import typer

from pysync.cli.output import Format, plain, print_rows
from pysync.cli.parameters import FormatOption, Portal, group
from pysync.texts import Text
from pysync.watching import upgrade
from pysync.watching.doctor import Diagnosis

app = group("Look at what an upgrade of a server takes along.")

_KEPT: Final = {True: "goes along", False: "stays behind", None: None}
_SINCE: Final = {"max_active_replication_origins": " (from 18 on)"}
_AFTERWARDS: Final = "after pg_upgrade this says what is to be run: 'pysync upgrade check'"


@app.command()
def check(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """Say what pg_upgrade takes along, and what is to be done.

    Before: which slots and subscriptions go along, what keeps others, and what the new server
    needs. Afterwards: what has to be run. Ends with status 1 if anything is to be done.
    """
    found = upgrade.check(portal)
    open_ = found.findings
    document = {
        "courses": found.courses,
        "servers": found.servers,
        "findings": [{"course_id": each.course_id, **plain(each.finding)} for each in open_],
    }
    print_rows(
        format,
        document,
        ("course", "slot", "subscription"),
        [(each.course_id, _KEPT[each.slot], _KEPT[each.subscription]) for each in found.courses],
        notes=[*map(_needed, found.servers), *map(_told, open_), Text(_AFTERWARDS)],
    )
    if not found.is_whole:
        raise typer.Exit(1)


def _needed(server: upgrade.Needs) -> Text:
    where = f"course '{server.course_id}'" if server.course_id else "portal"
    settings = ", ".join(
        f"{name} = {value}{_SINCE.get(name, '')}" for name, value in server.settings.items()
    )
    return Text.plain(f"{where}: its server's successor needs at least {settings}")


def _told(each: Diagnosis) -> Text:
    return Text.plain(f"{each.course_id or 'portal'}: ") + each.finding.text


@app.callback()
def _upgrade() -> None:
    """Keep ``check`` a command of a group though it is the only one."""
