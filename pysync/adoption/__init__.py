"""Adopt tables that were there before pysync, because Django made them.

:func:`found.inspect` reads what is there, :func:`completion.plan` compares it with what is needed
and returns the statements that complete it, or refuses. Nothing here changes a database. Only what
plans needs the models, and SQLAlchemy: that takes a while to import.
"""
