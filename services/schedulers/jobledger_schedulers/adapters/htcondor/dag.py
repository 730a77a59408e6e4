"""From a workflow to what DAGMan reads: the DAG files, and one submit file for all nodes that are alike. Pure, and knows no transport.

The folder that is made has three parts, and everything in the files is relative to it:

    inputs/   the workspace's files that some node needs, under their own paths
    submit/   submit files
    run/      the DAG, what DAGMan writes, and nodes/<node>/, where each node's output goes; the one part that comes back

The bindings' own writer (`htcondor2.dags`) is not used: it needs the bindings in this process, names nodes `layer:number`, has no
SPLICE, writes the limit of a category as a CATEGORY line, and escapes nothing in scripts.

Texts of users reach the files only through `command.describe`, and through `_script`, which refuses what DAGMan would read otherwise.
Source: HTCondor manual, "The DAG input file" and "DAGMan: VARS"; what 23.9 makes of it was tried.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from jobledger_contracts.job_events import CondorSpec, NodeSpec, ScriptSpec, WorkflowSpec
from jobledger_contracts.workflows import NODES_FOLDER, check_workflow, node_folder, node_names, node_output
from jobledger_schedulers.adapters.htcondor.command import (
    JOB_ID_ATTRIBUTE,
    LOG,
    NODE_ATTRIBUTE,
    POST_ATTRIBUTE,
    RETRY_ATTRIBUTE,
    RUN_ID_ATTRIBUTE,
    STDERR,
    STDOUT,
    NotSubmittable,
    describe,
    relative,
)
from jobledger_schedulers.adapters.port import RunSpec

DAG_FILE = "run/workflow.dag"
STATUS_FILE = "node.status"
RESCUE_FILE = re.compile(r"(?P<dag>[A-Za-z0-9_.-]+\.dag)\.rescue(?P<number>\d{3})\Z")

_NODE_MARK, _RETRY_MARK = "\ue000", "\ue001"
"""Stand for what VARS fills in, while a description is made: `describe` lets no macro through."""
_SAFE_WORD = re.compile(r"[A-Za-z0-9_./:=,+@%^-]+\Z")
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_NOOP = CondorSpec(executable="/bin/true")


class Dag(msgspec.Struct, frozen=True):
    """What to write and what to bring along. All paths are relative to the folder that DAGMan starts in."""

    files: dict[str, str]  #: path -> text
    folders: list[str]  #: to make, empty as they may stay
    inputs: list[str]  #: paths in the workspace, to be at `inputs/<path>`
    scripts: bool  #: some node has a script, which the access point itself would run


def write_dag(spec: RunSpec, workflow: WorkflowSpec, done: Collection[str] = ()) -> Dag:
    """Write a run's workflow. `done` names nodes that an earlier run has done. Raises `NotSubmittable`."""
    if faults := check_workflow(workflow):
        raise NotSubmittable("; ".join(fault.message for fault in faults[:5]))
    return _Writer(spec, frozenset(done)).write(workflow)


def done_nodes(rescues: dict[str, str], workflow: WorkflowSpec) -> set[str]:
    """The nodes that rescue files (name -> text) say are done. Of a rescue file, which lies where a user may write, nothing else is used.

    The latest of each DAG counts.
    """
    latest: dict[str, tuple[int, str]] = {}
    for name, text in rescues.items():
        if (match := RESCUE_FILE.match(name)) and (number := int(match["number"])) >= latest.get(match["dag"], (0, ""))[0]:
            latest[match["dag"]] = number, text
    said: set[str] = set()
    prefixes = {"workflow.dag": ""} | {_dag_name(name): f"{name}/" for name, node in node_names(workflow) if node.type == "SUBDAG"}
    for dag, (_, text) in latest.items():
        if dag in prefixes:
            said.update(prefixes[dag] + match[1] for match in re.finditer(r"^DONE ([A-Za-z0-9_.+-]+)[ \t]*$", text, re.MULTILINE))
    return said & {name for name, _ in node_names(workflow)}


def workflow_inputs(workflow: WorkflowSpec) -> list[str]:
    """The files of the workspace that some node needs, each once. What other nodes leave is not among them."""
    found: dict[str, None] = {}
    for _, node in node_names(workflow):
        for script in (node.pre_script, node.post_script):
            if script is not None:
                found[script.executable] = None
        if node.condor is not None and not node.noop:
            condor = _with_variables(node.condor, node.variables)
            found.update((name, None) for name in condor.input_files if not name.startswith(f"{NODES_FOLDER}/"))
            if condor.executable and not condor.executable.startswith("/"):
                found[condor.executable] = None
    return list(found)


class _Writer:
    def __init__(self, spec: RunSpec, done: frozenset[str]) -> None:
        self._spec, self._done = spec, done
        self._files: dict[str, str] = {}
        self._folders: dict[str, None] = {"submit": None, "inputs": None, f"run/{NODES_FOLDER}": None}
        self._submit_files: dict[str, str] = {}
        self._scripts = False

    def write(self, workflow: WorkflowSpec) -> Dag:
        known = {name: node_folder(name, node) for name, node in node_names(workflow)}
        self._known_folders = {folder: name for name, folder in known.items()}
        settings = dict(sorted(workflow.config.items()))
        lines = ["CONFIG run/dagman.config"] if settings else []
        if settings:
            self._files["run/dagman.config"] = "".join(f"{name} = {value}\n" for name, value in settings.items())
        lines += [*self._lines(workflow, ""), f"NODE_STATUS_FILE run/{STATUS_FILE} 5", "JOBSTATE_LOG run/jobstate.log"]
        self._files[DAG_FILE] = "\n".join(lines) + "\n"
        return Dag(self._files, list(self._folders), workflow_inputs(workflow), self._scripts)

    def _lines(self, workflow: WorkflowSpec, prefix: str) -> Iterator[str]:
        for category, most in sorted(workflow.max_jobs.items()):
            if most:
                yield f"MAXJOBS {category} {most}"
        for node in workflow.nodes:
            yield from self._node(node, prefix + node.name)
        for node in workflow.nodes:
            if node.parents:
                yield f"PARENT {' '.join(node.parents)} CHILD {node.name}"

    def _node(self, node: NodeSpec, name: str) -> Iterator[str]:
        marks = (" NOOP" if node.noop else "") + (" DONE" if node.done or name in self._done else "")
        if node.type == "SPLICE":
            yield f"SPLICE {node.name} {self._within(node, name, '+')}"
            return
        if node.type == "SUBDAG":
            yield f"SUBDAG EXTERNAL {node.name} {self._within(node, name, '/')}{marks}"
        else:
            yield f"{node.type} {node.name} {self._submit_file(node, name)}{marks}"
            folder = node_folder(name, node)
            self._folders[f"run/{folder}"] = None
            shared = (
                "".join(f' Jobledger{one}="{node_output(name, node, one.lower())}"' for one in ("Stdout", "Stderr")) if node.dir else ""
            )
            yield f'VARS {node.name} JobledgerNode="{name}" JobledgerFolder="{folder}" JobledgerRetry="$(RETRY)"{shared}'
        yield from self._details(node)

    def _details(self, node: NodeSpec) -> Iterator[str]:
        name = node.name
        for when, script in (("PRE", node.pre_script), ("POST", node.post_script)):
            if script is not None:
                self._scripts = True
                yield f"SCRIPT {when} {name} {_script(script)}"
        if node.pre_skip is not None:
            yield f"PRE_SKIP {name} {node.pre_skip}"
        if node.retry:
            yield f"RETRY {name} {node.retry}" + (f" UNLESS-EXIT {node.retry_unless_exit}" if node.retry_unless_exit is not None else "")
        if node.abort_dag_on is not None:
            value = node.abort_dag_on_return_value
            yield f"ABORT-DAG-ON {name} {node.abort_dag_on}" + (f" RETURN {value}" if value is not None else "")
        if node.priority:
            yield f"PRIORITY {name} {node.priority}"
        if node.category:
            yield f"CATEGORY {name} {node.category}"

    def _within(self, node: NodeSpec, name: str, joint: str) -> str:
        """Write the workflow within a node; return its file."""
        assert node.workflow is not None  # checked
        path = f"run/{_dag_name(name)}"
        lines = list(self._lines(node.workflow, f"{name}{joint}"))
        if joint == "/":  # DAGMan makes a job of its own of it, which must be found by the run's id too
            lines.append(f"SET_JOB_ATTR {RUN_ID_ATTRIBUTE} = {_quoted(self._spec.run_id)}")
            lines.append(f"SET_JOB_ATTR {NODE_ATTRIBUTE} = {_quoted(name)}")
            lines.append(f"NODE_STATUS_FILE run/{_dag_name(name)}.status 5")
        self._files[path] = "\n".join(lines) + "\n"
        return path

    def _submit_file(self, node: NodeSpec, name: str) -> str:
        text = self._submit_text(node, name)
        if (path := self._submit_files.get(text)) is None:
            path = self._submit_files[text] = f"submit/{len(self._submit_files) + 1}.sub"
            self._files[path] = text
        return path

    def _submit_text(self, node: NodeSpec, name: str) -> str:
        """What `command.describe` makes of the node, with the parts that differ from node to node left to VARS."""
        condor = _NOOP if node.noop or node.condor is None else _with_variables(node.condor, node.variables)
        environment = {**self._spec.environment, "JOBLEDGER_NODE": _NODE_MARK, "JOBLEDGER_RETRY": _RETRY_MARK}
        try:
            made = describe(
                msgspec.structs.replace(
                    self._spec,
                    condor=msgspec.structs.replace(condor, input_files=[]),
                    workflow=None,
                    job_name="node",
                    input_dir=Path("inputs"),
                    environment=environment,
                    credential="",
                ),
                Path("run"),
                "",
            ).description
            inputs = [self._input(path) for path in condor.input_files]
            names = [PurePosixPath(path).name for path in inputs]
            if double := next((one for one in names if names.count(one) > 1), None):
                raise NotSubmittable(f"two input files would both be {double!r} in the sandbox, where folders are not kept")
        except NotSubmittable as fault:
            raise NotSubmittable(f"the node {name!r}: {fault}") from None
        shared = node.dir != ""
        made |= {
            "initialdir": "run/$(JobledgerFolder)",
            "output": "$(JobledgerStdout)" if shared else STDOUT,
            "error": "$(JobledgerStderr)" if shared else STDERR,
            "log": LOG,
            f"My.{RUN_ID_ATTRIBUTE}": _quoted(self._spec.run_id),
            f"My.{JOB_ID_ATTRIBUTE}": _quoted(self._spec.run_id.rpartition(".")[0]),
            f"My.{NODE_ATTRIBUTE}": '"$(JobledgerNode)"',
            f"My.{RETRY_ATTRIBUTE}": "$(JobledgerRetry)",
            f"My.{POST_ATTRIBUTE}": "true" if node.post_script is not None else "false",
        }
        for ours in ("batch_name", "My.JobledgerSubmitter"):
            made.pop(ours, None)
        if inputs:
            made["transfer_input_files"] = ",".join(inputs)
        text = "".join(f"{command} = {value}\n" for command, value in made.items()) + "queue\n"
        return text.replace(_NODE_MARK, "$(JobledgerNode)").replace(_RETRY_MARK, "$(JobledgerRetry)")

    def _input(self, path: str) -> str:
        """An input file as seen from the node's folder, which is two below `run`: from the workspace, or what another node left."""
        plain = relative(path, "input file")
        if _VARIABLE.search(plain) or "$" in plain or _NODE_MARK in plain or _RETRY_MARK in plain:
            raise NotSubmittable(f"the input file {path!r}: a name cannot hold a $ here")
        if not plain.startswith(f"{NODES_FOLDER}/"):
            return f"../../../inputs/{plain}"
        folder = "/".join(plain.split("/")[:2])
        if folder not in self._known_folders:
            raise NotSubmittable(f"the input file {path!r} is said to come from a node, and there is none with the folder {folder!r}")
        return f"../../{plain}"


def _with_variables(condor: CondorSpec, variables: dict[str, str]) -> CondorSpec:
    """Put the values of variables where their names stand. What they hold is a text like any other from then on."""
    if not variables:
        return condor
    by_name = {name.lower(): value for name, value in variables.items()}  # names of macros know no case

    def put(text: str) -> str:
        return _VARIABLE.sub(lambda match: by_name.get(match[1].lower(), match[0]), text)

    return msgspec.structs.replace(
        condor,
        executable=put(condor.executable),
        arguments=[put(argument) for argument in condor.arguments],
        environment={name: put(value) for name, value in condor.environment.items()},
        input_files=[put(path) for path in condor.input_files],
        output_files=[put(path) for path in condor.output_files],
        attributes={name: put(value) if isinstance(value, str) else value for name, value in condor.attributes.items()},
    )


def _script(script: ScriptSpec) -> str:
    """A script as DAGMan starts it: split at blanks, without quotes, and with macros such as $RETURN that are the user's to use."""
    words = [f"inputs/{relative(script.executable, 'script')}", *script.arguments]
    for word in words:
        if not _SAFE_WORD.match(word) and word not in _SCRIPT_MACROS:
            raise NotSubmittable(
                f"a script's {word[:80]!r}: DAGMan splits at blanks and knows no quotes; letters, digits and _./:=,+@%^- go"
            )
    return " ".join(words)


_SCRIPT_MACROS = frozenset({"$JOB", "$RETRY", "$MAX_RETRIES", "$DAG_STATUS", "$FAILED_COUNT", "$JOBID", "$RETURN", "$PRE_SCRIPT_RETURN"})


def _dag_name(name: str) -> str:
    """The file of the workflow within a node. Names of nodes have neither + nor /, so no two are alike."""
    return f"within-{name.replace('/', '+')}.dag"


def _quoted(text: str) -> str:
    """A ClassAd string of a run id, or of a node's name: neither has a character that would need escaping."""
    return f'"{text}"'
