"""Decode what a slot's ``pgoutput`` plugin sends: protocol version 1, values as text.

Source: PostgreSQL's documentation, "Logical Replication Message Formats". Every supported major
speaks version 1; later versions add messages for transactions that aren't finished or are prepared,
which are asked for only by their number. What would break this: a major that no longer speaks
version 1, a byte more in one of the messages B, R, I, U and D, or values sent as binary. Messages
of other kinds are passed over.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

Values = dict[str, str | None]

_UNCHANGED: Final = object()
"""A large value that the portal doesn't repeat."""


@dataclass(frozen=True)
class Change:
    """A row's change.

    :param kind: ``insert``, ``update`` or ``delete``.
    :param key: the row's replica identity, as it was before; of inserts, as it is.
    :param values: the row's new values; nothing of deletes.
    :param commit_at: the commit's position on the portal, in bytes of WAL.
    """

    kind: str
    schema: str
    table: str
    key: Values
    values: Values
    commit_at: int


@dataclass(frozen=True)
class _Relation:
    schema: str
    table: str
    columns: tuple[str, ...]
    key: frozenset[str]


class _Message:
    """Reads a message from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, format: str) -> Any:
        (value,) = struct.unpack_from(f"!{format}", self.data, self.at)
        self.at += struct.calcsize(f"!{format}")
        return value

    def kind(self) -> str:
        return bytes(self.take("c")).decode()

    def string(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def tuple(self, columns: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in columns[: self.take("H")]:
            match self.kind():
                case "n":
                    values[name] = None
                case "u":
                    values[name] = _UNCHANGED
                case _:
                    length = self.take("I")
                    values[name] = self.data[self.at : self.at + length].decode()
                    self.at += length
        return values


def changes(messages: Iterable[bytes]) -> Iterator[Change]:
    """Decode messages into the changes they carry; what isn't a row's change is passed over."""
    relations: dict[int, _Relation] = {}
    commit_at = 0
    for data in messages:
        message = _Message(data)
        match kind := message.kind():
            case "B":
                commit_at = message.take("Q")
            case "R":
                oid = message.take("I")
                relations[oid] = _relation(message)
            case "I" | "U" | "D":
                relation = relations[message.take("I")]
                yield _change(kind, message, relation, commit_at)


def _relation(message: _Message) -> _Relation:
    schema, table = message.string(), message.string()
    message.take("c")
    columns, key = [], set()
    for _ in range(message.take("H")):
        is_key, name = message.take("B") & 1, message.string()
        message.take("I")
        message.take("i")
        columns.append(name)
        if is_key:
            key.add(name)
    return _Relation(schema, table, tuple(columns), frozenset(key))


def _change(kind: str, message: _Message, relation: _Relation, commit_at: int) -> Change:
    before: dict[str, Any] | None = None
    after: dict[str, Any] = {}
    while message.at < len(message.data):
        part = message.kind()
        row = message.tuple(relation.columns)
        if part == "N":
            after = row
        else:
            before = row
    known = before if before is not None else after
    return Change(
        {"I": "insert", "U": "update", "D": "delete"}[kind],
        relation.schema,
        relation.table,
        {name: known[name] for name in relation.columns if name in relation.key},
        {name: value for name, value in after.items() if value is not _UNCHANGED},
        commit_at,
    )
