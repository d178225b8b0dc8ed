"""Those of application ``student``, and one more."""

from tests.django_site.student import migrations

__path__ += migrations.__path__
