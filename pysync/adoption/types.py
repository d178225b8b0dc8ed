"""Which types do for which, as the catalog writes them."""

from typing import Final

from pysync.types import Side

INTEGERS: Final = ("smallint", "integer", "bigint")


def type_fits(found: str, declared: str, side: Side) -> bool:
    """Say whether a type does for a column that is declared with another."""
    narrow, wide = (found, declared) if side is Side.PORTAL else (declared, found)
    if narrow in INTEGERS and wide in INTEGERS:
        return INTEGERS.index(narrow) <= INTEGERS.index(wide)
    narrow_length, wide_length = text_length(narrow), text_length(wide)
    if narrow_length is not None and wide_length is not None:
        return narrow_length <= wide_length
    return narrow == wide


def text_length(type_name: str) -> float | None:
    """Return how many characters a type holds at most; ``None`` if it isn't one of texts."""
    if type_name in ("text", "character varying"):
        return float("inf")
    if type_name.startswith("character varying("):
        return float(type_name.removeprefix("character varying(").rstrip(")"))
    return None
