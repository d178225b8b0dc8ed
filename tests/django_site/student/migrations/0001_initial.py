"""As Django's ``makemigrations`` writes it."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def automatic_id() -> tuple[str, models.Field]:
    field = models.AutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
    )
    return "id", field


class Migration(migrations.Migration):
    initial = True
    dependencies = (migrations.swappable_dependency(settings.AUTH_USER_MODEL),)
    operations = (
        migrations.CreateModel(
            name="UserProfile",
            fields=[
                automatic_id(),
                ("name", models.CharField(blank=True, db_index=True, max_length=255)),
                ("meta", models.TextField(blank=True)),
                ("courseware", models.CharField(blank=True, default="course.xml", max_length=255)),
                ("language", models.CharField(blank=True, db_index=True, max_length=255)),
                ("location", models.CharField(blank=True, db_index=True, max_length=255)),
                ("year_of_birth", models.IntegerField(blank=True, db_index=True, null=True)),
                ("gender", models.CharField(blank=True, db_index=True, max_length=6, null=True)),
                (
                    "level_of_education",
                    models.CharField(blank=True, db_index=True, max_length=6, null=True),
                ),
                ("mailing_address", models.TextField(blank=True, null=True)),
                ("goals", models.TextField(blank=True, null=True)),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="profile",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"db_table": "auth_userprofile"},
        ),
        migrations.CreateModel(
            name="CourseEnrollment",
            fields=[
                automatic_id(),
                ("course_id", models.CharField(db_index=True, max_length=255)),
                ("created", models.DateTimeField(auto_now_add=True, db_index=True, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={"unique_together": {("user", "course_id")}},
        ),
    )
