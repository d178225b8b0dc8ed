"""The student data of the portal from Python: what schema ``student`` offers in SQL, typed.

Functions take the caller's session or connection, and neither open one nor commit.
"""
