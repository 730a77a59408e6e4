"""Who may see a job and who may change it."""

from __future__ import annotations

import pytest

from jobledger_jobs.domain.rights import Right, Viewer, right_to

OWNER, GROUPS = "ada", ["hydro", "ops"]


@pytest.mark.parametrize(
    ("viewer", "right"),
    [
        (Viewer("ada"), Right.WRITE),
        (Viewer("root", admin=True), Right.WRITE),
        (Viewer("bob", frozenset({"ops"})), Right.READ),
        (Viewer("schedulers", service=True), Right.READ),
        (Viewer("bob", frozenset({"other"})), Right.NONE),
        (Viewer("Ada"), Right.NONE),
        (Viewer(""), Right.NONE),
    ],
)
def test_right_follows_from_ownership_then_from_groups(viewer: Viewer, right: Right) -> None:
    assert right_to(viewer, OWNER, GROUPS) is right


@pytest.mark.parametrize(
    ("viewer", "right"),
    [
        (Viewer("root", admin=True), Right.WRITE),
        (Viewer("schedulers", service=True), Right.READ),
        (Viewer("ada", frozenset({"hydro"})), Right.NONE),
    ],
)
def test_job_that_was_never_created_shows_itself_only_to_those_who_see_all(viewer: Viewer, right: Right) -> None:
    assert right_to(viewer, None, GROUPS) is right


def test_rights_are_ordered() -> None:
    assert Right.NONE < Right.READ < Right.WRITE
