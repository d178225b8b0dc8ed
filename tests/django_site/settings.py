"""Settings: which database, and whether it is a course site with its forum."""

from __future__ import annotations

import os

from psycopg.conninfo import conninfo_to_dict

_parameters = conninfo_to_dict(os.environ["DJANGO_SITE_CONNINFO"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parameters["dbname"],
        "HOST": _parameters["host"],
        "PORT": _parameters["port"],
        "USER": _parameters["user"],
    }
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "tests.django_site.student",
]
if "DJANGO_SITE_FORUM" in os.environ:
    INSTALLED_APPS.append("tests.django_site.forum")
if "DJANGO_SITE_COUNTRY" in os.environ:
    MIGRATION_MODULES = {"student": "tests.django_site.later.migrations"}
# As in 2012: ids are integers.
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
# Real hashers take half a second each.
PASSWORD_HASHERS = [
    f"django.contrib.auth.hashers.{name}PasswordHasher"
    for name in os.environ.get("DJANGO_SITE_HASHERS", "MD5").split(",")
]
SECRET_KEY = "only for tests"
USE_TZ = True
