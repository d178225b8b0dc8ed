"""A course is added step by step, from whatever state it is found in."""

from __future__ import annotations

from contextlib import closing

import pytest

from pysync.errors import ReplicationError
from pysync.lifecycle import courses, pause, steps
from pysync.lifecycle.steps import State
from pysync.lifecycle.work import Work
from pysync.replication import fan_out, registry, slots
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
    for at in (State.REGISTERED, State.FANNED_OUT, State.SUBSCRIBED):
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
