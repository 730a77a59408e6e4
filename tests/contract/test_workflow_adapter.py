"""Workflows keep the same promises whichever way the access point is reached: on a real pool, by HTCondor's bindings and by SSH."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger_contracts.ids import parse_run_id, run_id
from jobledger_contracts.job_events import CondorSpec, NodeReport, NodeSpec, ScriptSpec, WorkflowSpec
from jobledger_contracts.nodes import Node, fold_nodes
from jobledger_contracts.statuses import TERMINAL, Status
from jobledger_devstack import Stack
from jobledger_schedulers.adapters import open_adapter
from jobledger_schedulers.adapters.port import Collected, Handle, Observation, Refused, RunSpec, SchedulerAdapter, SubmitRefused, Tail
from jobledger_schedulers.workflows import earlier
from tests.contract.test_scheduler_adapter import new_run
from tests.support.access_point import folders, ssh_settings
from tests.support.eventually import eventually_async
from tests.support.pools import condor_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack, pytest.mark.timeout(240)]

SCRIPTS = {
    "make.sh": 'echo "made by $JOBLEDGER_NODE" > $1',
    "join.sh": "cat *.txt > joined; mv joined all.txt",
    "second.sh": '[ "$JOBLEDGER_RETRY" = 0 ] && exit 3; echo "try $JOBLEDGER_RETRY" > $1',
    "judge.sh": '[ "$1" = 7 ]',
    "skip.sh": "exit 5",
    "fail.sh": "exit $1",
    "unless-broken.sh": "[ -e broken ] && exit 9; echo mended > right.txt",
}


def node(
    name: str, *parents: str, program: str = "make.sh", arguments: Sequence[str] = (), inputs: Sequence[str] = (), **more: Any
) -> NodeSpec:
    if more.get("type") not in ("SPLICE", "SUBDAG"):
        more["condor"] = CondorSpec(executable=program, arguments=list(arguments), input_files=list(inputs))
    return NodeSpec(name=name, parents=list(parents), **more)


class WorkflowSuite:
    """What holds for every way to DAGMan. A subclass gives `adapter`."""

    adapter: SchedulerAdapter
    folder: Path

    @pytest.fixture(autouse=True)
    def scripts(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "workspace"
        self.folder.mkdir()
        self.nodes: dict[str, Node] = {}
        for name, text in SCRIPTS.items():
            (self.folder / name).write_text(f"#!/bin/sh\n{text}\n")

    def spec(self, *nodes: NodeSpec, run: str = "", **more: Any) -> RunSpec:
        return RunSpec(
            run_id=run or new_run(), job_name="contract", workflow=WorkflowSpec(nodes=list(nodes), **more), input_dir=self.folder
        )

    async def hand_over(self, spec: RunSpec) -> None:
        (answer,) = await self.adapter.submit([spec])
        assert isinstance(answer, Handle), answer

    async def until(self, spec: RunSpec, *statuses: Status, node: str = "", timeout_s: float = 90) -> Observation:
        """Look until the run, or one node of it, has one of these statuses; what looks say of nodes is kept."""
        last: list[Observation] = []

        async def look() -> bool:
            last[:] = await self.adapter.observe([spec.run_id])
            self.nodes |= fold_nodes(self.nodes, ((report, datetime.now(UTC)) for report in last[0].nodes))
            if node:
                return node in self.nodes and self.nodes[node].status in statuses
            return last[0].status in statuses and (last[0].results_ready or not set(statuses) <= TERMINAL)

        wait: Any = eventually_async
        try:
            await wait(look, timeout_s, 0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last} {self.nodes}") from error
        return last[0]

    async def collect(self, spec: RunSpec) -> tuple[Collected, dict[str, NodeReport], Path]:
        target = self.folder / f"run-{parse_run_id(spec.run_id)[1]}"
        collected = (await self.adapter.collect([spec.run_id], lambda _: target))[spec.run_id]
        assert not collected.error
        return collected, {report.node: report for report in collected.nodes}, target

    async def close(self) -> None:
        await self.adapter.close()

    async def test_nodes_of_every_kind_run_and_are_told_of(self) -> None:
        inner = (node("a", arguments=["a.txt"]), node("b", "a", arguments=["b.txt"], inputs=[]))
        spec = self.spec(
            node("top", arguments=["$(what).txt"], variables={"what": "top"}, priority=3),
            node("again", "top", program="second.sh", arguments=["again.txt"], retry=2, category="few"),
            node("other", "top", arguments=["other.txt"], category="few", dir="elsewhere"),
            node("join", "again", "other", program="join.sh", inputs=["nodes/again/again.txt", "nodes/elsewhere/other.txt"]),
            node("judged", "top", program="fail.sh", arguments=["7"], post_script=ScriptSpec(executable="judge.sh", arguments=["$RETURN"])),
            node("skipped", "top", program="fail.sh", arguments=["1"], pre_script=ScriptSpec(executable="skip.sh"), pre_skip=5),
            node("before", program="fail.sh", arguments=["1"], done=True),
            node("nothing", "before", noop=True),
            NodeSpec(name="spliced", type="SPLICE", workflow=WorkflowSpec(nodes=list(inner)), parents=["nothing"]),
            NodeSpec(name="sub", type="SUBDAG", workflow=WorkflowSpec(nodes=list(inner)), parents=["nothing"]),
            node("tidy", type="FINAL", arguments=["tidy.txt"]),
            max_jobs={"few": 1},
            max_jobs_total=5,
            max_idle=4,
            config={"DAGMAN_MAX_POST_SCRIPTS": "2"},
        )
        try:
            await self.hand_over(spec)
            seen = await self.until(spec, Status.COMPLETE, Status.ERROR, Status.ABORTED)
            collected, nodes, output = await self.collect(spec)
        finally:
            await self.close()
        assert seen.status is Status.COMPLETE, (seen, nodes)
        inside = {f"{outer}{name}" for outer in ("spliced+", "sub/") for name in ("a", "b")}
        names = {"top", "again", "other", "join", "judged", "skipped", "before", "nothing", "sub", "tidy"} | inside
        assert {name: report.status for name, report in nodes.items()} == dict.fromkeys(names, "Complete")
        assert nodes["again"].restarts == 1
        ran = names - {"skipped", "before", "nothing"}
        assert ran <= self.nodes.keys(), "not told of while it ran"
        assert {name for name in ran if self.nodes[name].scheduler_job_ref} == ran
        assert self.nodes["again"].restarts == 1
        assert (output / "nodes/top/top.txt").read_text() == "made by top\n"
        assert (output / "nodes/join/all.txt").read_text() == "try 1\nmade by other\n"
        assert {f"nodes/{name}" for name in ("spliced+b/b.txt", "sub+b/b.txt", "tidy/tidy.txt", "top/stdout.txt")} <= set(collected.files)
        assert {"workflow.dag", "workflow.dag.dagman.out", "node.status", "condor.log"} <= set(collected.files)

    async def test_what_failed_is_named_and_the_next_run_goes_on_from_what_is_done(self) -> None:
        (self.folder / "broken").write_text("yes")
        join = node("join", "left", "right", program="join.sh", inputs=["nodes/left/left.txt", "nodes/right/right.txt"])
        first = self.spec(node("left", arguments=["left.txt"]), node("right", program="unless-broken.sh", inputs=["broken"]), join)
        try:
            await self.hand_over(first)
            seen = await self.until(first, Status.COMPLETE, Status.ERROR, Status.ABORTED)
            collected, nodes, _ = await self.collect(first)
            assert (seen.status, seen.exit_code) == (Status.ERROR, 1)
            assert collected.message == "1 of 3 nodes failed: right (exit code 9). 1 were not run."
            assert {name: report.status for name, report in nodes.items()} == {"left": "Complete", "right": "Error", "join": "Aborted"}

            (self.folder / "unless-broken.sh").write_text("#!/bin/sh\necho mended > right.txt\n")
            (self.folder / "make.sh").write_text("#!/bin/sh\necho 'run once more' > $1\n")
            assert first.workflow is not None
            before = earlier(self.folder, 2, first.workflow)
            assert before is not None
            assert before[1] == {"left"}
            run = run_id(parse_run_id(first.run_id)[0], 2)
            second = msgspec.structs.replace(first, run_id=run, previous_dir=before[0], done_nodes=before[1])
            await self.hand_over(second)
            seen = await self.until(second, Status.COMPLETE, Status.ERROR, Status.ABORTED)
            _, nodes, output = await self.collect(second)
        finally:
            await self.close()
        assert seen.status is Status.COMPLETE, (seen, nodes)
        assert (output / "nodes/join/all.txt").read_text() == "made by left\nmended\n"

    async def test_a_held_workflow_rests_with_its_nodes_and_a_stopped_one_leaves_none(self) -> None:
        spec = self.spec(
            node("long", program="/bin/sleep", arguments=["300"]), node("after", "long", program="/bin/true"), node("short", noop=True)
        )
        try:
            await self.hand_over(spec)
            seen = await self.until(spec, Status.RUNNING, node="long")
            assert seen.status is Status.VARIOUS
            await self.adapter.hold([spec.run_id], "wait for data")
            seen = await self.until(spec, Status.PAUSED)
            assert "wait for data" in seen.message
            await self.until(spec, Status.PAUSED, node="long")
            await self.adapter.release([spec.run_id], "data is here")
            await self.until(spec, Status.RUNNING, node="long")
            await self.until(spec, Status.VARIOUS)
            await self.adapter.stop([spec.run_id], "the river changed")
            await self.until(spec, Status.ABORTED, node="long")

            async def ended() -> bool:
                (seen,) = await self.adapter.observe([spec.run_id])
                return seen.status is Status.ABORTED and "the river changed" in seen.message

            wait: Any = eventually_async
            await wait(ended, 60, 0.2)
        finally:
            await self.close()

    async def test_what_a_node_writes_can_be_read_while_it_runs(self) -> None:
        spec = self.spec(node("speaks", program="speak.sh"), node("waits", "speaks"))
        (self.folder / "speak.sh").write_text("#!/bin/sh\necho 0123456789; exec sleep 120\n")
        read: list[Tail] = []

        async def spoken() -> bool:
            try:
                read[:] = [await self.adapter.tail(spec.run_id, "stdout", 2, 4, node="speaks")]
            except Refused:
                return False
            return bool(read[0].data)

        try:
            await self.hand_over(spec)
            wait: Any = eventually_async
            await wait(spoken, 60, 0.5)
            for name in ("waits", "nobody", '" || true || "', "../../x"):
                with pytest.raises(Refused):
                    await self.adapter.tail(spec.run_id, "stdout", 0, 4, node=name)
            await self.adapter.stop([spec.run_id], "enough")
        finally:
            await self.close()
        assert (read[0].data, read[0].offset, read[0].size) == (b"2345", 2, 11)

    async def test_a_node_can_end_the_whole_workflow_with_a_result_of_its_own(self) -> None:
        spec = self.spec(
            node("long", program="/bin/sleep", arguments=["300"]),
            node("enough", program="fail.sh", arguments=["4"], abort_dag_on=4, abort_dag_on_return_value=0),
            node("never", "enough"),
        )
        try:
            await self.hand_over(spec)
            seen = await self.until(spec, Status.COMPLETE, Status.ERROR, Status.ABORTED)
            _, nodes, _ = await self.collect(spec)
        finally:
            await self.close()
        assert (seen.status, seen.exit_code) == (Status.COMPLETE, 0)
        assert nodes["enough"].status == "Error"
        assert {nodes["long"].status, nodes["never"].status} == {"Aborted"}

    async def test_what_cannot_be_run_is_refused_with_the_node_named(self) -> None:
        one = self.spec(node("a", program="make.sh", inputs=["not-there.txt"]))
        two = self.spec(node("b", program="run me; now", post_script=ScriptSpec(executable="judge.sh", arguments=["a b"])))
        try:
            first, second = await self.adapter.submit([one, two])
            assert isinstance(first, SubmitRefused)
            assert isinstance(second, SubmitRefused)
            assert await self.adapter.find([one.run_id, two.run_id]) == {}
        finally:
            await self.close()
        assert "not-there.txt" in first.message
        assert "knows no quotes" in second.message


class TestByBindings(WorkflowSuite):
    """HTCondor's own protocol: everything travels through the spool."""

    @pytest.fixture(autouse=True)
    def bench(self, pool: Stack, tmp_path: Path) -> None:
        self.adapter = open_adapter(condor_settings(pool, tmp_path / "private"))


class TestBySsh(WorkflowSuite):
    """The command-line tools, in one account's home."""

    @pytest.fixture(autouse=True)
    def bench(self, access_point: Stack, tmp_path: Path) -> None:
        self.adapter = open_adapter(ssh_settings(access_point, tmp_path / "private"))
        self.access_point = access_point

    async def test_what_only_dagman_knows_is_told_while_it_runs_and_nothing_is_left(self) -> None:
        spec = self.spec(
            node("join", noop=True),
            node("judged", program="fail.sh", arguments=["7"], post_script=ScriptSpec(executable="judge.sh", arguments=["$RETURN"])),
            node("bad", program="fail.sh", arguments=["2"]),
            node("futile", "bad"),
            node("long", program="/bin/sleep", arguments=["300"]),
        )
        try:
            await self.hand_over(spec)
            for name, status in (("join", Status.COMPLETE), ("judged", Status.COMPLETE), ("bad", Status.ERROR), ("futile", Status.ABORTED)):
                await self.until(spec, status, node=name)
            await self.until(spec, Status.RUNNING, node="long")
            await self.adapter.stop([spec.run_id], "enough")
            await self.until(spec, Status.ABORTED)
            await self.collect(spec)
        finally:
            await self.close()
        assert self.nodes["futile"].message == "not run: a node before it failed"
        assert spec.run_id not in folders(self.access_point)
        assert not list((self.folder.parent / "private").rglob("workflow.dag"))
