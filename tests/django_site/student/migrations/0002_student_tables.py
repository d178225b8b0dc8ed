"""As Django's ``makemigrations`` writes it."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (
        ("student", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    )

    operations = (
        migrations.CreateModel(
            name="PendingEmailChange",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("new_email", models.CharField(blank=True, db_index=True, max_length=255)),
                (
                    "activation_key",
                    models.CharField(
                        db_index=True, max_length=32, unique=True, verbose_name="activation key"
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="PendingNameChange",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("new_name", models.CharField(blank=True, max_length=255)),
                ("rationale", models.CharField(blank=True, max_length=1024)),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Registration",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "activation_key",
                    models.CharField(
                        db_index=True, max_length=32, unique=True, verbose_name="activation key"
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "db_table": "auth_registration",
            },
        ),
        migrations.CreateModel(
            name="Role",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=30)),
                ("course_id", models.CharField(blank=True, db_index=True, max_length=255)),
                (
                    "users",
                    models.ManyToManyField(related_name="roles", to=settings.AUTH_USER_MODEL),
                ),
            ],
            options={
                "db_table": "django_comment_client_role",
            },
        ),
        migrations.CreateModel(
            name="TestCenterUser",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("updated_at", models.DateTimeField(auto_now=True, db_index=True)),
                ("user_updated_at", models.DateTimeField(db_index=True)),
                ("candidate_id", models.IntegerField(db_index=True, null=True)),
                (
                    "client_candidate_id",
                    models.CharField(db_index=True, max_length=50, unique=True),
                ),
                ("first_name", models.CharField(db_index=True, max_length=30)),
                ("last_name", models.CharField(db_index=True, max_length=50)),
                ("middle_name", models.CharField(blank=True, max_length=30)),
                ("suffix", models.CharField(blank=True, max_length=255)),
                ("salutation", models.CharField(blank=True, max_length=50)),
                ("address_1", models.CharField(max_length=40)),
                ("address_2", models.CharField(blank=True, max_length=40)),
                ("address_3", models.CharField(blank=True, max_length=40)),
                ("city", models.CharField(db_index=True, max_length=32)),
                ("state", models.CharField(blank=True, db_index=True, max_length=20)),
                ("postal_code", models.CharField(blank=True, db_index=True, max_length=16)),
                ("country", models.CharField(db_index=True, max_length=3)),
                ("phone", models.CharField(max_length=35)),
                ("extension", models.CharField(blank=True, db_index=True, max_length=8)),
                ("phone_country_code", models.CharField(db_index=True, max_length=3)),
                ("fax", models.CharField(blank=True, max_length=35)),
                ("fax_country_code", models.CharField(blank=True, max_length=3)),
                ("company_name", models.CharField(blank=True, db_index=True, max_length=50)),
                ("upload_status", models.CharField(blank=True, db_index=True, max_length=20)),
                ("uploaded_at", models.DateTimeField(blank=True, db_index=True, null=True)),
                ("upload_error_message", models.CharField(blank=True, max_length=512)),
                (
                    "user",
                    models.OneToOneField(
                        default=None,
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="TestCenterRegistration",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("course_id", models.CharField(db_index=True, max_length=128)),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("updated_at", models.DateTimeField(auto_now=True, db_index=True)),
                ("user_updated_at", models.DateTimeField(db_index=True)),
                (
                    "client_authorization_id",
                    models.CharField(db_index=True, max_length=20, unique=True),
                ),
                ("exam_series_code", models.CharField(db_index=True, max_length=15)),
                ("eligibility_appointment_date_first", models.DateField(db_index=True)),
                ("eligibility_appointment_date_last", models.DateField(db_index=True)),
                ("accommodation_code", models.CharField(blank=True, max_length=64)),
                ("accommodation_request", models.CharField(blank=True, max_length=1024)),
                ("upload_status", models.CharField(blank=True, max_length=20)),
                ("uploaded_at", models.DateTimeField(db_index=True, null=True)),
                ("upload_error_message", models.CharField(blank=True, max_length=512)),
                (
                    "testcenter_user",
                    models.ForeignKey(
                        default=None,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="student.testcenteruser",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="UserTestGroup",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(db_index=True, max_length=32)),
                ("description", models.TextField(blank=True)),
                ("users", models.ManyToManyField(db_index=True, to=settings.AUTH_USER_MODEL)),
            ],
        ),
    )
