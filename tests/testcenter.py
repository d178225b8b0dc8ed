"""What tests of test-center users share."""

from __future__ import annotations

from typing import Any, Final

GOOD: Final[dict[str, Any]] = {
    "first_name": "Zoë",
    "last_name": "Lovelace",
    "address_1": "12 St James's Square",
    "city": "London",
    "country": "GBR",
    "phone": "20 7946 0000",
    "phone_country_code": "044",
}
"""Data of a test-center user with nothing wrong, and nothing that could be left out."""
