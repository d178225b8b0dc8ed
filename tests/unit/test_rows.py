"""Files of rows: whatever they are split into, and whatever is wrong with them."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pysync.errors import InvalidValueError
from pysync.students import rows
from pysync.students.rows import InputFormat, read_rows

KNOWN = frozenset({"city", "country"})

texts = st.text('a\\"é☎😀\0\n []{},:', max_size=6)
json_values = st.recursive(
    st.sampled_from([None, True, False, 0.0, -1.5, 12.25, 1e300]) | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=6,
)


def read(content: bytes | str, format: InputFormat = InputFormat.JSON) -> list[Any]:
    encoded = content if isinstance(content, bytes) else content.encode()
    return list(read_rows(io.BytesIO(encoded), format, KNOWN))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(json_values, min_size=1, max_size=6),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(["", " ", "\r\n\t"]),
)
def test_values_are_read_however_the_text_is_cut(
    values: list[Any], chunk: int, as_array: bool, space: str
) -> None:
    texts = [json.dumps(value) for value in values]
    if as_array:
        content = space + "[" + f"{space},{space}".join(texts) + space + "]" + space
    else:
        if isinstance(values[0], list):
            values, texts = [{}, *values], ["{}", *texts]
        content = space + f"{space}\n".join(texts) + space
    encoded = content.encode()
    pieces = [encoded[at : at + chunk] for at in range(0, len(encoded), chunk)]
    file = io.BufferedReader(Pieces(*pieces))
    assert list(read_rows(file, InputFormat.JSON, KNOWN)) == values
    if len(values) == 1 and not isinstance(values[0], list):  # over several lines, too
        assert read(json.dumps(values[0], indent=2)) == values


def test_encodings_and_escapes_arrive_as_they_are() -> None:
    assert read(b'\xef\xbb\xbf[{"city": "\xc3\xa9"}]') == [{"city": "é"}]
    assert read(r'[{"city": "\ud800\u0000"}, {"city": "\ud83d\ude00"}]') == [
        {"city": "\ud800\0"},
        {"city": "😀"},
    ]
    assert read("[]") == []
    assert read("[" + "9" * 5000 + "]") == [float("inf")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "Expecting value: line 1 column 1"),
        ("city,country\nx,y\n", "isn't JSON"),
        ('{"a": 1} {"a": 1', "Expecting ',' delimiter, after row 1"),
        ('{"a": 1}\n5\n[1', "Expecting ',' delimiter, after row 2"),
        ('[{"a": 1}, {"a": 1}', "Expecting ',' delimiter: line 1 column 20"),
        ('[{"a": 1}\n{"a": 1}]', "Expecting ',' delimiter: line 2 column 1"),
        ('[{"a": 1},]', "line 1 column 1"),
        ('[{"a": 1}] 5', "Extra data: line 1 column 12"),
        ("[NaN]", "NaN is no JSON"),
        ("1\nNaN", "NaN is no JSON, after row 1"),
        ("[nul", "line 1 column 2"),
        ("[" * 100_000, "less depth"),
        ('{"a": "\n"}', "control character"),
        (b"[1, \xff]", "isn't UTF-8: byte 0xff after row"),
        ('{"a": 1}'.encode("utf-16"), "isn't UTF-8: byte 0xff"),
        (b'{"a": "\xed\xa0\x80"}', "isn't UTF-8: byte 0xed"),
    ],
)
def test_what_is_no_json_is_refused(content: str | bytes, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read(content)
    assert words in caught.value.message
    assert caught.value.remedy


def test_csv_cells_are_named_by_the_header() -> None:
    content = 'city,other,country\r\n"a, ""b""\nc",1,USA\r\n\r\nx\r\nx,y,z,more,cells\r\n\0,,\r\n'
    assert read(content, InputFormat.CSV) == [
        {"city": 'a, "b"\nc', "other": "1", "country": "USA"},
        {"city": "x"},
        {"city": "x", "other": "y", "country": "z", None: ["more", "cells"]},
        {"city": "\0", "other": "", "country": ""},
    ]
    assert read("\ufeffcity\n", InputFormat.CSV) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no header"),
        ("Ada,Lovelace\n", "has no header"),
        ("city,city\n", "column 'city' twice"),
        ('city\nx\n"y', "unexpected end of data, after row 1"),
        ('city\n"x"y\n', "after row 0"),
        ('city\n"' + "x\n" * 200_000, "field limit"),
        (b"city\n\xe9\n", "isn't UTF-8: byte 0xe9 after row 0"),
    ],
)
def test_what_is_no_csv_is_refused(content: str | bytes, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read(content, InputFormat.CSV)
    assert words in caught.value.message


class Pieces(io.RawIOBase):
    """A file that comes in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = next(self._pieces, b"")
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize(
    ("head", "again", "format", "count"),
    [
        (b'1\n{"city"\n', b'{"city": "x", "country": "USA"}\n' * 20, InputFormat.JSON, None),
        (b"1\n", b'{"city": "x", "country": "USA"} ' * 20 + b"\n", InputFormat.JSON, 40_001),
        (b" ", b'{"city": "x", "country": "USA"}\n' * 20, InputFormat.JSON, 40_000),
        (b"city,country\n", b"x,USA\n" * 50, InputFormat.CSV, 100_000),
        (b'"', b"x" * 8000, InputFormat.JSON, None),
        (b'1\n["', b"x" * 8000, InputFormat.JSON, None),
        (b'city\n"', b"x" * 8000, InputFormat.CSV, None),
    ],
)
def test_memory_does_not_grow_with_the_file(
    head: bytes, again: bytes, format: InputFormat, count: int | None
) -> None:
    file = io.BufferedReader(Pieces(head, *[again] * 2000))
    tracemalloc.start()
    try:
        found = 0
        try:
            for _ in read_rows(file, format, KNOWN):
                found += 1
        except InvalidValueError:
            assert count is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count in (None, found)
    assert peak < 12_000_000


def test_an_array_has_to_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_DOCUMENT_CHARACTERS", 20)
    assert read("[1, 2, 3, 4, 5, 6]  ") == [1, 2, 3, 4, 5, 6]
    assert read("1\n" * 100) == [1] * 100
    for content in ("[" + "1," * 100, "[1, 2, 3, 4, 5, 6]   ", "{\n" + " " * 20 + "}"):
        with pytest.raises(InvalidValueError, match="more than 20 characters; write an object per"):
            read(content)
