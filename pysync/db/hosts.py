"""The servers that parameters of a connection name, in which order they are asked."""

from collections.abc import Mapping
from typing import Any, Final

PLACE: Final = ("host", "hostaddr", "port")

_answered: dict[tuple[Any, ...], dict[str, str]] = {}
"""Which of several servers accepted writes when it was last asked, by what names them."""


def places(parameters: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return host, address and port of each server that parameters name, in their order."""
    listed = {name: str(parameters.get(name) or "").split(",") for name in PLACE}
    count = max(len(listed["host"]), len(listed["hostaddr"]))
    each = {name: values * count if len(values) == 1 else values for name, values in listed.items()}
    return [
        {name: values[i] for name, values in each.items() if i < len(values) and values[i]}
        for i in range(count)
    ]


def preferred(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters that begin with the server that was right before, and go on as they did.

    Of one that is off without a word each connection would wait for the timeout anew.
    """
    first = _answered.get(_names(parameters))
    if first is None:
        return dict(parameters)
    ordered = sorted(places(parameters), key=lambda each: each != first)
    found = {name: ",".join(each.get(name, "") for each in ordered) for name in PLACE}
    return {**parameters, **{name: value for name, value in found.items() if value.strip(",")}}


def note(parameters: Mapping[str, Any], host: str, port: int) -> None:
    """Remember which of several servers was connected to."""
    for each in places(parameters):
        named = each.get("host") or each.get("hostaddr"), each.get("port", str(port))
        if named == (host, str(port)):
            _answered[_names(parameters)] = each


def _names(parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(parameters.get(name) for name in PLACE)
