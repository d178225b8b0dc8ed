"""The models of 2012, for a Django of today."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models


class UserProfile(models.Model):  # noqa: DJ008
    """A user's demographic fields."""

    user = models.OneToOneField(User, models.CASCADE, related_name="profile")
    name = models.CharField(blank=True, max_length=255, db_index=True)
    meta = models.TextField(blank=True)
    courseware = models.CharField(blank=True, max_length=255, default="course.xml")
    language = models.CharField(blank=True, max_length=255, db_index=True)
    location = models.CharField(blank=True, max_length=255, db_index=True)
    year_of_birth = models.IntegerField(blank=True, null=True, db_index=True)
    gender = models.CharField(blank=True, null=True, max_length=6, db_index=True)  # noqa: DJ001
    level_of_education = models.CharField(  # noqa: DJ001
        blank=True, null=True, max_length=6, db_index=True
    )
    mailing_address = models.TextField(blank=True, null=True)  # noqa: DJ001
    goals = models.TextField(blank=True, null=True)  # noqa: DJ001

    class Meta:
        db_table = "auth_userprofile"


class CourseEnrollment(models.Model):  # noqa: DJ008
    """That a user is enrolled in a course."""

    user = models.ForeignKey(User, models.CASCADE)
    course_id = models.CharField(max_length=255, db_index=True)
    created = models.DateTimeField(auto_now_add=True, null=True, db_index=True)

    class Meta:
        unique_together = (("user", "course_id"),)
