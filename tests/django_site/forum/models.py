"""A forum that extends Django's users, as Askbot did."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models

User.add_to_class("reputation", models.PositiveIntegerField(default=1, db_default=1))


class Post(models.Model):  # noqa: DJ008
    """Something that points at a user."""

    author = models.ForeignKey(User, models.PROTECT)
    text = models.TextField()
