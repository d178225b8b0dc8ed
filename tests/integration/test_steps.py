"""A course is added step by step, from whatever state it is found in."""

from __future__ import annotations

from contextlib import closing
from types import ModuleType
from typing import Any

import pytest

from pysync.errors import ReplicationError
from pysync.lifecycle import courses, handover, many, pause, steps
from pysync.lifecycle.steps import State
from pysync.lifecycle.work import Work
from pysync.replication import fan_out, registry, slots, snapshots, subscriptions
from pysync.types import CourseId
from tests.support import Silent, Site, assert_live_rows

pytestmark = pytest.mark.newest("states are read from what all versions have")

COURSE = CourseId("A")


class InterruptedStepError(Exception):
    """What a step ends with here instead of doing anything."""


def interrupt(_: Work) -> None:
    raise InterruptedStepError


def state_of(site: Site) -> State:
    with courses.opened(
        site.portal,
        COURSE,
        site.databases[COURSE],
        Silent(),
        portal_conninfo_for_course=None,
        adopt=False,
    ) as work:
        return steps.state(work)


def test_an_addition_goes_on_from_each_state(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = site.one("insert into auth_user (username, password) values ('ada', '') returning id")
    site.execute("insert into student_courseenrollment (user_id, course_id) values (%s, 'A')", ada)
    conninfo = site.databases[COURSE] = site.new_database()
    done: list[State] = []
    for at, step in list(steps.STEPS.items()):

        def noted(work: Work, at: State = at, step: steps.Step = step) -> None:
            done.append(at)
            step(work)

        monkeypatch.setitem(steps.STEPS, at, noted)
    assert state_of(site) is State.NEW
    for at in (State.REGISTERED, State.FANNED_OUT, State.ATTACHED, State.SUBSCRIBED):
        with monkeypatch.context() as patch:
            patch.setitem(steps.STEPS, at, interrupt)
            with pytest.raises(InterruptedStepError):
                courses.add(site.portal, COURSE, conninfo, Silent())
        assert state_of(site) is at
    courses.add(site.portal, COURSE, conninfo, Silent())
    assert state_of(site) is State.READY
    assert_live_rows(site, COURSE)
    # Nothing was done twice.
    assert done == [*steps.STEPS]


def enroll(site: Site, name: str) -> int:
    user = site.one("insert into auth_user (username, password) values (%s, '') returning id", name)
    site.execute("insert into student_courseenrollment (user_id, course_id) values (%s, 'A')", user)
    return int(user)


def assert_whole(site: Site) -> None:
    """All rows are there, and neither marks nor 18's counters say that any change met nothing."""
    site.wait(COURSE)
    assert_live_rows(site, COURSE)
    course = site.course(COURSE)
    assert course.execute("select * from course.missing_mark").fetchall() == []
    counted = "select coalesce(missed_changes, 0), apply_errors from course.replication_status"
    assert course.execute(counted).fetchall() == [(0, 0)]


@pytest.mark.oldest_and_newest("what a slot's snapshot shows, and what its stream brings")
@pytest.mark.parametrize(
    ("module", "step", "copies"),
    [
        (snapshots, "new_slot", True),
        (snapshots, "any_rows", False),
        (subscriptions, "create", False),
        (subscriptions, "enable", False),
        (handover, "catch_up", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_missed_that_comes_while_an_empty_course_is_added(
    module: ModuleType, step: str, copies: bool, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users enroll, one of them for a moment, right before a step; only what is there is copied."""
    conninfo = site.databases[COURSE] = site.new_database()
    creates = subscriptions.create
    copied = []

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        site.execute("update auth_user set email = 'e' where id = %s", enroll(site, "ada"))
        gone = enroll(site, "gone")
        site.execute("delete from student_courseenrollment where user_id = %s", gone)
        return works(*arguments, **named)

    def create(*arguments: Any, copy_data: bool, **named: Any) -> Any:
        copied.append(copy_data)
        return creates(*arguments, copy_data=copy_data, **named)

    monkeypatch.setattr(subscriptions, "create", create)
    works = getattr(module, step)
    monkeypatch.setattr(module, step, meanwhile)
    courses.add(site.portal, COURSE, conninfo, Silent())
    assert copied == [copies]
    assert_whole(site)


@pytest.mark.parametrize("dropped", ["slot", "subscription"])
def test_a_slot_and_a_subscription_are_made_together_or_anew(
    dropped: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot made later than a course's rows were read would pass over what came between."""
    conninfo = site.databases[COURSE] = site.new_database()
    with monkeypatch.context() as patch:
        patch.setitem(steps.STEPS, State.ATTACHED, interrupt)
        with pytest.raises(InterruptedStepError):
            courses.add(site.portal, COURSE, conninfo, Silent())
    assert state_of(site) is State.ATTACHED
    with registry.connect_portal(site.portal) as portal:
        course = registry.get(portal, COURSE)
        if dropped == "slot":
            slots.drop(portal, course)
        else:
            subscriptions.drop(site.course(COURSE), course)
    enroll(site, "ada")
    assert state_of(site) is State.FANNED_OUT
    courses.add(site.portal, COURSE, conninfo, Silent())
    assert_whole(site)


def test_empty_courses_are_attached_and_then_started(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever enrolls meanwhile is there; a run that ends in between is finished by the next."""
    begun: list[CourseId] = []
    heard: dict[CourseId, object] = {}

    def begin(work: Work, works: steps.Step = steps.STEPS[State.FANNED_OUT]) -> None:
        works(work)
        begun.append(work.course.course_id)

    def start(work: Work, works: steps.Step = steps.STEPS[State.ATTACHED]) -> None:
        assert sorted(begun) == sorted(wanted)
        if not heard:
            enroll(site, f"while {work.course.course_id} starts")
        works(work)

    monkeypatch.setitem(steps.STEPS, State.FANNED_OUT, begin)
    monkeypatch.setitem(steps.STEPS, State.ATTACHED, interrupt)
    ids = [COURSE, CourseId("B")]
    wanted = {each: site.new_database() for each in ids}
    for each, conninfo in wanted.items():
        site.databases[each] = conninfo
    file = [many.Wanted(each, conninfo) for each, conninfo in wanted.items()]
    with pytest.raises(InterruptedStepError):
        many.add(site.portal, file, Silent(), heard.__setitem__)
    assert heard == {}
    monkeypatch.setitem(steps.STEPS, State.ATTACHED, start)
    many.add(site.portal, file, Silent(), heard.__setitem__)
    assert [type(heard[each]) for each in ids] == [courses.Added] * 2
    assert sorted(begun) == ids
    assert_whole(site)
    site.wait(CourseId("B"))
    assert_live_rows(site, CourseId("B"))


def test_what_leads_elsewhere_is_refused_with_the_way_there(site: Site) -> None:
    site.add(COURSE)
    conninfo = site.databases[COURSE]
    with closing(registry.connect_portal(site.portal)) as portal:
        pause.switch(site.portal, COURSE, on=False)
        slots.drop(portal, registry.get(portal, COURSE))
        with pytest.raises(ReplicationError, match="has lost its slot") as lost:
            courses.add(site.portal, COURSE, conninfo, Silent())
        assert lost.value.remedy == "run 'pysync resync A'"
        fan_out.stop(portal, COURSE)
        with pytest.raises(ReplicationError, match="half removed") as leaving:
            courses.add(site.portal, COURSE, conninfo, Silent())
        assert leaving.value.remedy == "run 'pysync course remove --yes A' to finish that first"
