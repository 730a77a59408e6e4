"""From ClassAds and DAGMan's files to what is said of a workflow and its nodes. Pure, and knows no transport.

While a workflow runs, a node is judged by its jobs in the queue and in the history; which of them is the last word only DAGMan knows,
and says in its node status file when all is over. Source: HTCondor manual, "DAGMan: node status file" (the numbers of `_ENDS`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from jobledger_contracts.job_events import NodeReport
from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.htcondor.command import NODE_ATTRIBUTE, POST_ATTRIBUTE, RETRY_ATTRIBUTE
from jobledger_schedulers.adapters.htcondor.parse import JobStatus, Row, integer, judge_proc, run_of
from jobledger_schedulers.adapters.port import Observation

SCHEDULER_UNIVERSE: Final = 7
NAMED: Final = 5  #: so many failed nodes are named in a message

_FIELD = re.compile(r'^\s*(\w+) = (?:"((?:[^"\\]|\\.)*)"|(-?\d+));', re.MULTILINE)
_COMPLAINT = re.compile(r"(?<![A-Z_])ERROR:? +(.+)")
_EXIT_CODE = re.compile(r"failed with status (-?\d+)")
_CUT_OFF = re.compile(r"Was STATUS_(PRERUN|SUBMITTED|POSTRUN)\b")
"""DAGMan's word for a node that was at work when the workflow was ended: it calls that an error of the node's."""
_EXIT_SIGNAL = re.compile(r"failed with signal (\d+)")

_NOT_READY, _READY, _PRE_RUN, _SUBMITTED, _POST_RUN, _DONE, _ERROR, _FUTILE = range(8)
_ENDS: Final[Mapping[int, tuple[Status, str]]] = {
    _NOT_READY: (Status.ABORTED, "not run: the workflow ended before"),
    _READY: (Status.ABORTED, "not run: the workflow ended before"),
    _PRE_RUN: (Status.ABORTED, "the workflow ended while its pre script ran"),
    _SUBMITTED: (Status.ABORTED, "the workflow ended while it ran"),
    _POST_RUN: (Status.ABORTED, "the workflow ended while its post script ran"),
    _DONE: (Status.COMPLETE, ""),
    _ERROR: (Status.ERROR, "failed"),
    _FUTILE: (Status.ABORTED, "not run: a node before it failed"),
}
"""NodeStatus -> what a node ended as, when no more is going to happen."""
_FINAL: Final = frozenset({_DONE, _ERROR, _FUTILE})
"""What stays as it is while others go on: a node that is tried again is ready, not in error."""


def is_node(row: Row) -> bool:
    """Whether an ad is a workflow's node, and not a run of its own."""
    return row.get("DAGManJobId") is not None and isinstance(row.get(NODE_ATTRIBUTE), str)


def is_workflow(row: Row) -> bool:
    """Whether an ad is DAGMan itself."""
    return row.get("JobUniverse") == SCHEDULER_UNIVERSE and not is_node(row)


def judge_nodes(queue: Iterable[Row], history: Iterable[Row] = ()) -> dict[str, tuple[NodeReport, ...]]:
    """What these ads of nodes say, by run: the last try of each node counts."""
    last: dict[tuple[str, str], tuple[tuple[int, int, int], NodeReport]] = {}
    for rows, in_queue in ((history, 0), (queue, 1)):
        for row in rows:
            if (run := run_of(row)) and is_node(row) and isinstance(row.get("ClusterId"), int):
                key, rank = (run, row[NODE_ATTRIBUTE]), (integer(row, RETRY_ATTRIBUTE) or 0, row["ClusterId"], in_queue)
                if key not in last or last[key][0] < rank:
                    last[key] = rank, _report(row, in_queue=bool(in_queue))
    found: dict[str, list[NodeReport]] = {}
    for (run, _), (_, report) in sorted(last.items(), key=lambda item: item[0]):
        found.setdefault(run, []).append(report)
    return {run: tuple(reports) for run, reports in found.items()}


def _report(row: Row, *, in_queue: bool) -> NodeReport:
    proc = judge_proc(row, in_queue=in_queue)
    status, message = proc.status, proc.message
    if status in (Status.COMPLETE, Status.ERROR) and row.get(POST_ATTRIBUTE) is True:
        status, message = Status.RUNNING, f"its job {message}; its post script decides"
    elif status is Status.COMPLETE:
        message = ""
    elif status is Status.OTHER:
        status = Status.RUNNING
    return NodeReport(
        node=row[NODE_ATTRIBUTE],
        status=status.value,
        restarts=integer(row, RETRY_ATTRIBUTE) or 0,
        scheduler_job_ref=str(row["ClusterId"]),
        exit_code=proc.exit_code,
        exit_signal=proc.exit_signal,
        message=message,
    )


def as_workflow(seen: Observation, nodes: Sequence[NodeReport], *, in_queue: bool) -> Observation:
    """What DAGMan's own ad says, told as the workflow's status: it runs while DAGMan does, and has nodes that differ."""
    says = seen.evidence
    if in_queue and says.get("JobStatus") == JobStatus.REMOVING:
        return msgspec.structs.replace(seen, status=Status.VARIOUS, message="its nodes are being removed", results_ready=False, nodes=nodes)
    total, done = integer(says, "DAG_NodesTotal"), integer(says, "DAG_NodesDone") or 0
    progress = done / total if total else None
    if seen.status is not Status.RUNNING:
        return msgspec.structs.replace(seen, progress=progress, nodes=nodes)
    parts = [f"{done} of {total} nodes are done"] if total else ["DAGMan reads the workflow"]
    for name, word in (("DAG_NodesQueued", "in the queue"), ("DAG_NodesFailed", "failed")):
        if count := integer(says, name):
            parts.append(f"{count} {word}")
    if held := next((node for node in nodes if node.status == Status.PAUSED), None):
        parts.append(f"{held.node} is {held.message}")
    return msgspec.structs.replace(seen, status=Status.VARIOUS, message=", ".join(parts), progress=progress, nodes=nodes)


def read_status_file(text: str, prefix: str = "", *, live: bool = False) -> list[NodeReport]:
    """How the nodes ended, as DAGMan's node status file has it; `prefix` goes before the names. What cannot be read is left out.

    While DAGMan is at work (`live`), only those that will not change any more.
    """
    possible = _FINAL if live else _ENDS.keys()
    reports = []
    for block in text.split("\n]"):
        fields: dict[str, Any] = {name: int(number) if number else string for name, string, number in _FIELD.findall(block)}
        if fields.get("Type") != "NodeStatus" or not fields.get("Node") or fields.get("NodeStatus") not in possible:
            continue
        status, words = _ENDS[fields["NodeStatus"]]
        details = str(fields.get("StatusDetails") or "")
        code, by = _EXIT_CODE.search(details), _EXIT_SIGNAL.search(details)
        if status is Status.ERROR and (cut := _CUT_OFF.match(details)):
            status, words = _ENDS[{"PRERUN": _PRE_RUN, "SUBMITTED": _SUBMITTED, "POSTRUN": _POST_RUN}[cut[1]]]
        if status is Status.ERROR:
            words = f"exit code {code[1]}" if code else f"ended by signal {by[1]}" if by else f"failed: {details}" if details else words
        reports.append(
            NodeReport(
                node=prefix + fields["Node"],
                status=status.value,
                restarts=max(0, integer(fields, "RetryCount") or 0),
                exit_code=int(code[1]) if code else None,
                exit_signal=int(by[1]) if by else None,
                message=words,
            )
        )
    return reports


def failure_in_words(nodes: Sequence[NodeReport], dagman_out: str) -> str:
    """Which nodes failed, for people; or, when it has not come to any, what DAGMan complained of. Empty when there is nothing to say."""
    failed = [node for node in nodes if node.status == Status.ERROR]
    if failed:
        named = ", ".join(f"{node.node} ({node.message})" for node in failed[:NAMED]) + (", ..." if len(failed) > NAMED else "")
        not_run = sum(1 for node in nodes if node.status == Status.ABORTED)
        return f"{len(failed)} of {len(nodes)} nodes failed: {named}." + (f" {not_run} were not run." if not_run else "")
    complaint = None if nodes else _COMPLAINT.search(dagman_out)
    return f"DAGMan says: {complaint[1].strip()[:500]}" if complaint else ""
