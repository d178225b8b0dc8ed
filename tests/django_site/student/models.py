"""The models of 2012, for a Django of today."""

from __future__ import annotations

from django.conf import settings
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
    if settings.MIGRATION_MODULES:
        country = models.CharField(blank=True, db_default="", max_length=2)

    class Meta:
        db_table = "auth_userprofile"


class CourseEnrollment(models.Model):  # noqa: DJ008
    """That a user is enrolled in a course."""

    user = models.ForeignKey(User, models.CASCADE)
    course_id = models.CharField(max_length=255, db_index=True)
    created = models.DateTimeField(auto_now_add=True, null=True, db_index=True)

    class Meta:
        unique_together = (("user", "course_id"),)


class TestCenterUser(models.Model):  # noqa: DJ008
    """A user who takes an exam in person."""

    user = models.OneToOneField(User, models.CASCADE, default=None)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)
    user_updated_at = models.DateTimeField(db_index=True)
    candidate_id = models.IntegerField(null=True, db_index=True)
    client_candidate_id = models.CharField(unique=True, max_length=50, db_index=True)
    first_name = models.CharField(max_length=30, db_index=True)
    last_name = models.CharField(max_length=50, db_index=True)
    middle_name = models.CharField(max_length=30, blank=True)
    suffix = models.CharField(max_length=255, blank=True)
    salutation = models.CharField(max_length=50, blank=True)
    address_1 = models.CharField(max_length=40)
    address_2 = models.CharField(max_length=40, blank=True)
    address_3 = models.CharField(max_length=40, blank=True)
    city = models.CharField(max_length=32, db_index=True)
    state = models.CharField(max_length=20, blank=True, db_index=True)
    postal_code = models.CharField(max_length=16, blank=True, db_index=True)
    country = models.CharField(max_length=3, db_index=True)
    phone = models.CharField(max_length=35)
    extension = models.CharField(max_length=8, blank=True, db_index=True)
    phone_country_code = models.CharField(max_length=3, db_index=True)
    fax = models.CharField(max_length=35, blank=True)
    fax_country_code = models.CharField(max_length=3, blank=True)
    company_name = models.CharField(max_length=50, blank=True, db_index=True)
    upload_status = models.CharField(max_length=20, blank=True, db_index=True)
    uploaded_at = models.DateTimeField(null=True, blank=True, db_index=True)
    upload_error_message = models.CharField(max_length=512, blank=True)


class TestCenterRegistration(models.Model):  # noqa: DJ008
    """That a user is registered for an exam of a course."""

    testcenter_user = models.ForeignKey(TestCenterUser, models.CASCADE, default=None)
    course_id = models.CharField(max_length=128, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)
    user_updated_at = models.DateTimeField(db_index=True)
    client_authorization_id = models.CharField(max_length=20, unique=True, db_index=True)
    exam_series_code = models.CharField(max_length=15, db_index=True)
    eligibility_appointment_date_first = models.DateField(db_index=True)
    eligibility_appointment_date_last = models.DateField(db_index=True)
    accommodation_code = models.CharField(max_length=64, blank=True)
    accommodation_request = models.CharField(max_length=1024, blank=True)
    upload_status = models.CharField(max_length=20, blank=True)
    uploaded_at = models.DateTimeField(null=True, db_index=True)
    upload_error_message = models.CharField(max_length=512, blank=True)


class UserTestGroup(models.Model):  # noqa: DJ008
    """A group of users."""

    users = models.ManyToManyField(User, db_index=True)
    name = models.CharField(blank=False, max_length=32, db_index=True)
    description = models.TextField(blank=True)


class Registration(models.Model):  # noqa: DJ008
    """A user's activation key."""

    user = models.OneToOneField(User, models.CASCADE)
    activation_key = models.CharField("activation key", max_length=32, unique=True, db_index=True)

    class Meta:
        db_table = "auth_registration"


class PendingNameChange(models.Model):  # noqa: DJ008
    """The name that a user asks for."""

    user = models.OneToOneField(User, models.CASCADE)
    new_name = models.CharField(blank=True, max_length=255)
    rationale = models.CharField(blank=True, max_length=1024)


class PendingEmailChange(models.Model):  # noqa: DJ008
    """The e-mail address that a user asks for."""

    user = models.OneToOneField(User, models.CASCADE)
    new_email = models.CharField(blank=True, max_length=255, db_index=True)
    activation_key = models.CharField("activation key", max_length=32, unique=True, db_index=True)


class Role(models.Model):  # noqa: DJ008
    """What users may do in a course's discussions; another application's in 2012."""

    name = models.CharField(max_length=30)
    users = models.ManyToManyField(User, related_name="roles")
    course_id = models.CharField(max_length=255, blank=True, db_index=True)

    class Meta:
        db_table = "django_comment_client_role"
