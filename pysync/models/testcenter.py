"""Test-center users and registrations: tables of the portal, in schema public."""
