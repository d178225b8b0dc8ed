"""What the databases hold, declared once as SQLAlchemy models.

:mod:`pysync.models.portal` is the portal database, :mod:`pysync.models.course` a course database;
:mod:`pysync.models.columns` has the columns that both share.
"""
