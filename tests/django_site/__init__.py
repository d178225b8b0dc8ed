"""A minimal Django project: the portal's (and a course site's) side of the tests.

It is only ever loaded in processes of its own, see :mod:`tests.django_site.process`.
"""
