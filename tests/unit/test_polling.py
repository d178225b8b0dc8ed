"""Many courses are asked at once: an answer or an error for each, in time, and not too many."""

from __future__ import annotations

import threading
import time
from collections import Counter

import psycopg
import pytest

from pysync.errors import DatabaseUnreachableError, NotFoundError, PysyncError
from pysync.replication.polling import CONNECTIONS_PER_SERVER, REFUSAL_SECONDS, ask
from pysync.replication.registry import Course
from pysync.types import CourseId


def courses(count: int, servers: int = 1) -> list[Course]:
    return [
        Course(CourseId(f"{n}"), f"pysync_{n}", f"host=h{n % servers} dbname=d{n}", "", "")
        for n in range(count)
    ]


class Crowd:
    """Counts how many are in at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside: dict[str, int] = {}
        self.most: dict[str, int] = {}

    def visit(self, key: str) -> None:
        with self.lock:
            self.inside[key] = self.inside.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), self.inside[key])
        time.sleep(0.002)
        with self.lock:
            self.inside[key] -= 1


def test_each_course_has_its_answer_or_its_error() -> None:
    def question(course: Course) -> str:
        if course.course_id == "1":
            raise NotFoundError("nothing here")
        if course.course_id == "2":
            raise psycopg.OperationalError("gone")
        return course.course_id

    first, second, third, last = ask(courses(4), question)
    assert (first, last) == ("0", "3")
    assert isinstance(second, NotFoundError)
    assert isinstance(third, PysyncError)
    assert third.message.startswith("course '2' lost its connection")
    assert ask([], question) == []


def test_whoever_hangs_holds_up_nobody() -> None:
    end = threading.Event()

    def question(course: Course) -> str:
        if course.course_id in ("0", "5"):
            end.wait(20)
        return course.course_id

    began = time.monotonic()
    answers = ask(courses(40, servers=2), question, seconds=1)
    end.set()
    assert time.monotonic() - began < 15
    late = [n for n, answer in enumerate(answers) if isinstance(answer, PysyncError)]
    assert late == [0, 5]
    assert str(answers[0]) == "no answer within 1 s"


def test_turns_are_waited_for_as_long_as_anybody_answers() -> None:
    """All of them take longer than one may; so nobody is told of as if it had been asked."""

    def question(course: Course) -> str:
        time.sleep(0.1)
        return course.course_id

    wanted = courses(15 * CONNECTIONS_PER_SERVER)
    began = time.monotonic()
    assert ask(wanted, question, seconds=1) == [each.course_id for each in wanted]
    assert time.monotonic() - began > 1


def test_a_server_that_never_answers_is_given_up() -> None:
    """Whether its courses hang or can't be reached after a while; the others' turns are theirs."""
    end = threading.Event()

    def question(course: Course) -> str:
        if "h0" not in course.conninfo:
            return course.course_id
        if end.wait(REFUSAL_SECONDS + 0.1):
            return course.course_id
        raise DatabaseUnreachableError("timeout")

    began = time.monotonic()
    answers = ask(courses(8 * CONNECTIONS_PER_SERVER, servers=2), question, seconds=1.5)
    end.set()
    assert time.monotonic() - began < 15
    found = Counter(str(answer) for answer in answers[::2])
    assert found["it wasn't asked: no course of its server has answered for 1.5 s"] > 0
    assert found["timeout"] >= CONNECTIONS_PER_SERVER
    assert len(found) <= 3
    assert answers[1::2] == [str(n) for n in range(1, len(answers), 2)]


def test_servers_and_callers_have_their_limits() -> None:
    by_server, together = Crowd(), Crowd()
    wanted = courses(100, servers=2)
    ask(wanted, lambda course: by_server.visit(course.conninfo.split()[0]))
    assert by_server.most.keys() == {"host=h0", "host=h1"}
    assert max(by_server.most.values()) <= CONNECTIONS_PER_SERVER
    ask(wanted, lambda _: together.visit("all"), at_once=3)
    assert together.most["all"] <= 3


def test_a_mistake_of_ours_is_no_answer() -> None:
    with pytest.raises(ZeroDivisionError):
        ask(courses(3), lambda course: 1 // int(course.course_id))
