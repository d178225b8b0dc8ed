"""Accounts, pending changes, groups and roles: tables of the portal, in schema public."""
