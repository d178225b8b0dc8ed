"""As Django's ``makemigrations`` writes it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("student", "0002_student_tables"),)

    operations = (
        migrations.AddField(
            model_name="userprofile",
            name="country",
            field=models.CharField(blank=True, db_default="", max_length=2),
        ),
    )
