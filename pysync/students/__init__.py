"""The student data of the portal from Python: what schema ``student`` offers in SQL, typed.

Each noun has its module. Functions take the caller's session or connection, and neither open one
nor commit; those that the module of 2012 had are here under their names.
"""
