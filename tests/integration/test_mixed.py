"""A dozen applications at once, at three isolation levels: no deadlock that wasn't there before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from psycopg.conninfo import make_conninfo

from tests.benchmarks import mixed
from tests.integration.fan_out import App, differences

pytestmark = pytest.mark.oldest_and_newest("locks of rows are the server's")

COURSES = [f"course-{number}" for number in range(8)]
USERS = 20


@pytest.mark.parametrize(
    "kinds", [mixed.USER_FIRST, mixed.USER_LAST], ids=["user-first", "user-last"]
)
def test_mixed_work_ends_in_no_deadlock(
    app: App, kinds: dict[Callable[[mixed.Work], None], int], request: pytest.FixtureRequest
) -> None:
    site = app.site
    site.register_only(*COURSES)
    users = [app.user(f"user-{number}") for number in range(USERS)]
    for user in users:
        app.profile(user)
        app.enroll(user, *COURSES[user % 6 : user % 6 + 3])
    # What deadlocks is known soon, and others go on.
    conninfo = make_conninfo(site.portal, options="-c deadlock_timeout=50ms")
    counts = mixed.run(conninfo, users, COURSES, 3, kinds, seed=len(request.node.name))
    assert counts.deadlocks == Counter()
    assert counts.transactions > 100
    assert differences(site) == []
