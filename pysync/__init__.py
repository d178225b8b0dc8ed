"""Carry a portal's users into exactly the course databases they are enrolled in.

PostgreSQL does the work (triggers, publications with row filters, subscriptions); this package sets
it up, migrates it and reports on it. The command line is :mod:`pysync.cli`, its services are the
modules beside it, a module per noun.
"""

__version__ = "0.1.0"
