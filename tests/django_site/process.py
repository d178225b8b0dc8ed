"""Run the project in processes of its own: its settings never meet the tests'."""

from __future__ import annotations

import atexit
import json
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.forks import Forks
from tests.support import Cluster

_ROOT = Path(__file__).parent.parent.parent

IMPORTED = (
    "django.contrib.admin.options",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
)
MIGRATE = """
from django.core.management import call_command
import django
django.setup()
call_command("migrate", skip_checks=True, verbosity=0, **{options})
"""

_PRELUDE = """
import json
import django
django.setup()
from django.contrib.auth.models import User
from tests.django_site.student.models import (
    CourseEnrollment, PendingEmailChange, PendingNameChange, Registration, Role,
    TestCenterRegistration, TestCenterUser, UserProfile, UserTestGroup)
"""


def migrate_site(
    conninfo: str, *, forum: bool = False, country: bool = False, fake: bool = False
) -> None:
    """Run Django's own migrations; ``country`` is a profile's, and comes by the last of them.

    :raises AssertionError: with what Django says, if they fail.
    """
    options = {"app_label": "student", "fake": True} if fake else {}
    _run(MIGRATE.format(options=options), conninfo, forum=forum, country=country)


_sites: dict[tuple[int, bool], str] = {}


def new_site(server: Cluster, *, forum: bool = False) -> str:
    """Return the name of a database, migrated by Django and without rows, to take copies of."""
    key = (int(server.executor.port), forum)
    if key not in _sites:
        name = "site_with_forum" if forum else "site"
        migrate_site(server.create(name), forum=forum)
        _sites[key] = name
    return _sites[key]


def django(
    conninfo: str, code: str, *, forum: bool = False, country: bool = False, hashers: str = "MD5"
) -> Any:
    """Run code as an application of the site would; returns what it assigned to ``result``."""
    script = f"{_PRELUDE}result = None\n{dedent(code)}\nprint(json.dumps(result, default=str))"
    output = _run(script, conninfo, forum=forum, country=country, hashers=hashers)
    return json.loads(output.splitlines()[-1])


@cache
def _forks() -> Forks:
    """Return the process that has imported Django, and no settings."""
    forks = Forks(IMPORTED, _ROOT, "-W", "error", without=("PG", "DJANGO_"))
    atexit.register(forks.stop)
    return forks


def _run(code: str, conninfo: str, *, forum: bool, country: bool, hashers: str = "MD5") -> str:
    process = _forks().run(
        code,
        "django",
        DJANGO_SETTINGS_MODULE="tests.django_site.settings",
        DJANGO_SITE_CONNINFO=conninfo,
        DJANGO_SITE_HASHERS=hashers,
        **({"DJANGO_SITE_FORUM": "1"} if forum else {}),
        **({"DJANGO_SITE_COUNTRY": "1"} if country else {}),
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
