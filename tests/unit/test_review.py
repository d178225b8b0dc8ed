"""What the review of a script says of each statement."""

from __future__ import annotations

import pytest

from pysync.migrate.review import commented

EXCLUSIVE = "ACCESS EXCLUSIVE: reads and writes wait"


@pytest.mark.parametrize(
    ("statement", "comment"),
    [
        (
            "alter table public.auth_user add column nickname text not null default ''",
            f"locks public.auth_user, {EXCLUSIVE}",
        ),
        (
            "alter table t add column seen timestamptz default now()",
            f"locks t, {EXCLUSIVE}",
        ),
        (
            "alter table t add column key uuid default gen_random_uuid()",
            f"locks t, {EXCLUSIVE}; rewrites the table, if the default is volatile",
        ),
        (
            "alter table t add column n int generated always as (1) stored",
            f"locks t, {EXCLUSIVE}; rewrites the table",
        ),
        (
            "alter table t alter column n type bigint, alter column n set not null",
            f"locks t, {EXCLUSIVE}; rewrites the table, unless the types are stored alike; "
            "reads the whole table",
        ),
        (
            "alter table t add constraint c check (n > 0)",
            f"locks t, {EXCLUSIVE}; reads the whole table, unless NOT VALID",
        ),
        ("alter table t add constraint c check (n > 0) not valid", f"locks t, {EXCLUSIVE}"),
        (
            "alter table t add constraint u unique (n)",
            f"locks t, {EXCLUSIVE}; builds an index",
        ),
        ("create index i on t (n)", "locks t, SHARE: writes wait while the index is built"),
        ("create index concurrently i on t (n)", None),
        (
            "create trigger g after insert on s.t for each row execute function f()",
            "locks s.t, SHARE ROW EXCLUSIVE: writes wait",
        ),
        ("drop trigger g on s.t", f"locks s.t, {EXCLUSIVE}"),
        ("drop table a, s.t", f"locks a, s.t, {EXCLUSIVE}"),
        ("drop function f()", None),
        ("alter table s.t rename column a to b", f"locks s.t, {EXCLUSIVE}"),
        ("alter table s.t set schema r", f"locks s.t, {EXCLUSIVE}"),
        ("alter function f() owner to o", None),
        ("alter publication p set table t", None),
        ("lock table t in share mode", "locks t, as long as the transaction lasts"),
        ("update t set n = 1", None),
    ],
)
def test_a_statement_that_others_wait_for_has_a_comment(
    statement: str, comment: str | None
) -> None:
    script = f"begin;\n\n-- Größe\n{statement};\n\ncommit;\n"
    before = f"-- {comment}\n" if comment else ""
    assert commented(script) == f"begin;\n\n-- Größe\n{before}{statement};\n\ncommit;\n"


def test_what_the_script_makes_itself_nobody_waits_for() -> None:
    script = "create table s.t (n int);\ncreate index i on s.t (n);\nalter table s.t add b int;\n"
    assert commented(script) == script
