"""What events do to schedulers and clusters."""

from __future__ import annotations

from typing import Any

from jobledger_contracts import cluster_events as c
from jobledger_contracts import scheduler_events as s
from jobledger_contracts.topics import CLUSTERS, SCHEDULERS
from jobledger_contracts.verdicts import Outcome, Reason
from tests.support.events import event
from tests.support.given import Given, given

APPLIED, DUPLICATE, SUPERSEDED, REFUSED = Outcome
HEALTH = "/jobledger/schedulers"


def registered(at_s: float = 0, **more: Any) -> Any:
    return event(s.SchedulerRegistered(**{"name": "pool", "type": "condor", "host": "cm"} | more), at_s=at_s, source=HEALTH)


def changed(at_s: float = 2, **more: Any) -> Any:
    return event(s.SchedulerChanged(**{"name": "pool", "type": "condor", "host": "cm"} | more), at_s=at_s, source=HEALTH)


def health(text: str, at_s: float = 3, source: str = HEALTH, **more: Any) -> Any:
    return event(s.SchedulerHealthChanged(name="pool", health=text, **more), at_s=at_s, source=source)


REMOVED = event(s.SchedulerRemoved(name="pool"), at_s=9)


def pool(*events: Any) -> Given:
    return given(*events, topic=SCHEDULERS, key="pool")


class TestScheduler:
    def test_it_is_registered(self) -> None:
        pool().when(registered(port=9618)).then(APPLIED, exists=True, host="cm", port=9618, health="unknown", type="condor")

    def test_registering_again_is_a_duplicate_or_refused(self) -> None:
        pool(registered()).when(registered()).then(DUPLICATE, Reason.SAME_CONTENT).nothing_else_changed()
        pool(registered()).when(registered(host="x")).then(REFUSED, Reason.OTHER_CONTENT).nothing_else_changed()

    def test_nothing_can_be_said_of_what_is_not_registered(self) -> None:
        for one in (changed(), health("up"), REMOVED):
            pool().when(one).then(REFUSED, Reason.UNKNOWN)
            pool(registered(), event(s.SchedulerRemoved(name="pool"))).when(one).then(REFUSED, Reason.DELETED)

    def test_a_change_forgets_the_health_of_the_old_address(self) -> None:
        up = pool(registered(), health("up", at_s=1, version="25.0"))
        moved = up.and_given(changed(host="cm2"))
        assert (moved.state.host, moved.state.health, moved.state.scheduler_version) == ("cm2", "unknown", "")
        moved.when(health("down", at_s=1.5)).then(SUPERSEDED, Reason.LATE).nothing_else_changed()

    def test_a_change_of_nothing_is_superseded_and_one_of_its_kind_refused(self) -> None:
        pool(registered()).when(changed()).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()
        pool(registered()).when(changed(type="dask")).then(REFUSED, Reason.FIXED).nothing_else_changed()

    def test_health_is_kept_with_what_the_scheduler_says_of_itself(self) -> None:
        up = pool(registered(), health("up", version="25.0"))
        up.when(health("up", at_s=4)).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()
        up.when(health("down", at_s=4, detail="no answer")).then(
            APPLIED, health="down", health_detail="no answer", scheduler_version="25.0"
        )
        up.when(health("down", at_s=2.5)).then(SUPERSEDED, Reason.LATE).nothing_else_changed()

    def test_a_removed_name_can_be_registered_again_as_anything(self) -> None:
        gone = pool(registered(), REMOVED)
        assert (gone.state.exists, gone.state.removed) == (False, True)
        gone.when(registered(at_s=10, type="dask", host="tcp://x:8786")).then(
            APPLIED, exists=True, removed=False, type="dask", removed_time=None
        )

    def test_the_same_event_again_changes_nothing(self) -> None:
        pool(registered(), REMOVED).when(REMOVED).then(DUPLICATE, Reason.SAME_EVENT).nothing_else_changed()


def created(at_s: float = 0, **more: Any) -> Any:
    return event(c.ClusterCreated(**{"name": "school", "provider": "aws", "kind": "dask", "size": 2} | more), at_s=at_s)


def seen(status: str, at_s: float = 1, **more: Any) -> Any:
    return event(c.ClusterStatusChanged(name="school", status=status, **more), at_s=at_s, source="/jobledger/provisioner")


def resized(size: int) -> Any:
    return event(c.ResizeRequested(name="school", size=size))


def terminated() -> Any:
    return event(c.TerminateRequested(name="school"))


def school(*events: Any) -> Given:
    return given(*events, topic=CLUSTERS, key="school")


class TestCluster:
    def test_it_starts_when_it_is_asked_for(self) -> None:
        school().when(created()).then(APPLIED, exists=True, status="Starting", size=2, nodes=0, desired="run")

    def test_creating_again_is_a_duplicate_or_refused_even_after_a_resize(self) -> None:
        school(created(), resized(5)).when(created()).then(DUPLICATE, Reason.SAME_CONTENT).nothing_else_changed()
        school(created()).when(created(size=3)).then(REFUSED, Reason.OTHER_CONTENT).nothing_else_changed()

    def test_what_is_asked_for_changes_only_what_is_desired(self) -> None:
        running = school(created(), seen("Running", nodes=2))
        running.when(resized(5)).then(APPLIED, size=5, nodes=2, status="Running")
        running.when(resized(2)).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()
        running.when(terminated()).then(APPLIED, desired="terminate", status="Running", exists=True)

    def test_after_its_end_was_asked_for_nothing_else_can_be(self) -> None:
        ending = school(created(), terminated())
        ending.when(resized(9)).then(SUPERSEDED, Reason.LATE).nothing_else_changed()
        ending.when(terminated()).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()

    def test_reports_change_what_is_observed(self) -> None:
        running = school(created(), seen("Running", nodes=2))
        running.when(seen("Running", at_s=2, nodes=2)).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()
        running.when(seen("Starting", at_s=0.5)).then(SUPERSEDED, Reason.LATE).nothing_else_changed()
        running.when(seen("Error", at_s=2, message="quota")).then(APPLIED, status="Error", nodes=0, status_message="quota", size=2)

    def test_a_name_is_free_again_once_its_cluster_is_gone(self) -> None:
        gone = school(created(), terminated(), seen("Deleted", at_s=5))
        assert (gone.state.exists, gone.state.deleted, gone.state.status) == (False, True, "Deleted")
        for one in (resized(3), terminated(), seen("Running", at_s=6)):
            gone.when(one).then(REFUSED, Reason.DELETED).nothing_else_changed()
        gone.when(created(at_s=7, kind="condor")).then(
            APPLIED, exists=True, deleted=False, kind="condor", desired="run", deletion_time=None
        )

    def test_nothing_can_be_said_of_what_was_never_asked_for(self) -> None:
        for one in (resized(3), terminated(), seen("Running")):
            school().when(one).then(REFUSED, Reason.UNKNOWN)
