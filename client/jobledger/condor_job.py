"""CONDOR jobs: what HTCondor is to run, said with the names of Tethys' Jobs API (attributes, templates, remote input files)."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jobledger.file_bringer import FileBringer
from jobledger.jobs import Job
from jobledger.views import JobView

TEMPLATES: dict[str, Mapping[str, Any]] = {
    "base": {},
    "vanilla_base": {"universe": "vanilla"},
    "vanilla_transfer_files": {"universe": "vanilla"},
    "vanilla_nfs": {"universe": "vanilla"},
}
"""condorpy's templates as submit commands. The rest of them (file transfer, folders, logs) Jobledger does for every job."""
BUILT_IN = frozenset(TEMPLATES)

_ALWAYS_SO: Mapping[str, frozenset[str]] = {
    "should_transfer_files": frozenset({"yes"}),
    "when_to_transfer_output": frozenset({"on_exit", "on_exit_or_evict"}),
    "transfer_executable": frozenset({"true", "yes"}),
}
"""Submit commands that older apps set to what is always so here. With another value they are sent, and refused with the reason."""

_SPEC_FIELDS = {
    "executable": "executable",
    "arguments": "arguments",
    "environment": "environment",
    "transfer_input_files": "input_files",
    "transfer_output_files": "output_files",
}
"""Submit command -> the field that says it in our own terms."""

Value = str | int | float | bool


def condor_template(name: str) -> dict[str, Any]:
    """The submit commands of a template. Raises ValueError for a name that there is not, where condorpy would silently take another."""
    if name not in TEMPLATES:
        raise ValueError(f"there is no template {name!r}; there are {', '.join(TEMPLATES)}")
    return dict(TEMPLATES[name])


def register_condor_template(name: str, attributes: Mapping[str, Any], *, base: str = "base") -> None:
    """Let `condorpy_template_name=name` mean these submit commands, over those of the template `base`, in this program from now on.

    The names that are built in stay what they are: another meaning under the same name would surprise everybody else's code.
    Raises ValueError.
    """
    if name in BUILT_IN:
        raise ValueError(f"{name!r} is built in and cannot be given another meaning")
    CondorAttributes(attributes=attributes)  # whatever cannot be a submit command is refused here, not when a job is made of it
    TEMPLATES[name] = {**condor_template(base), **attributes}


def load_condor_templates(file: str | Path) -> list[str]:
    """Register the templates of a TOML file, one table each; `base` in it names the template that it adds to. Returns their names.

    Raises OSError, ValueError and TypeError for what is no such file.
    """
    tables = tomllib.loads(Path(file).read_text())
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise TypeError(f"{file}: {name!r} is no table of submit commands")
        register_condor_template(name, {key: value for key, value in table.items() if key != "base"}, base=str(table.get("base", "base")))
    return list(tables)


class CondorAttributes:
    """What HTCondor is to run, as submit commands: of a job, or of a node of a workflow."""

    def __init__(
        self,
        *,
        attributes: Mapping[str, Any] | None = None,
        num_jobs: int = 1,
        executable: str = "",
        arguments: str | Iterable[Any] = (),
        environment: Mapping[str, str] | None = None,
        output_files: Iterable[str] = (),
        pause_by: str = "hold",
        hold_limit_s: int | None = None,
    ) -> None:
        self.pause_by = pause_by  #: `hold` gives the machine up, `suspend` keeps it
        self.hold_limit_s = hold_limit_s  #: held by HTCondor itself for so long, the run ends with an error; None: it waits for you
        self.attributes: dict[str, Value] = {}
        self.num_jobs = num_jobs
        self.executable = executable
        self.arguments = _arguments(arguments)
        self.environment = dict(environment or {})
        self.input_files: list[str] = []  #: paths that are in the workspace already and travel as well
        self.output_files = list(output_files)
        for attribute, value in (attributes or {}).items():
            self.set_attribute(attribute, value)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set a submit command, such as `executable`, `arguments` or `request_memory`; `+Name` sets a ClassAd attribute of the job.

        A list of `arguments` has one entry for each; a text is split as a shell would. None takes a command out.
        """
        if value is None:
            self.delete_attribute(name)
        elif str(value).lower() in _ALWAYS_SO.get(name.lower(), ()):
            return
        elif name == "arguments":
            self.arguments = _arguments(value)
        elif name == "environment":
            if not isinstance(value, Mapping):
                raise TypeError("environment is a mapping of names to texts")
            self.environment = {str(key): str(text) for key, text in value.items()}
        elif name in ("transfer_input_files", "transfer_output_files"):
            setattr(self, _SPEC_FIELDS[name], _names(value))
        elif name in _SPEC_FIELDS:
            setattr(self, _SPEC_FIELDS[name], str(value))
        elif name == "queue":
            self.num_jobs = int(value)
        elif isinstance(value, str | int | float):
            self.attributes[name] = value
        else:
            self.attributes[name] = ", ".join(_names(value))

    def get_attribute(self, name: str) -> Any:
        """The value of a submit command; None when it is not set."""
        if name == "queue":
            return self.num_jobs
        return getattr(self, _SPEC_FIELDS[name]) if name in _SPEC_FIELDS else self.attributes.get(name)

    def delete_attribute(self, name: str) -> None:
        """Take a submit command out."""
        if name in _SPEC_FIELDS:
            setattr(self, _SPEC_FIELDS[name], type(getattr(self, _SPEC_FIELDS[name]))())
        else:
            self.attributes.pop(name, None)

    def condor_spec(self, travelling: Iterable[str]) -> dict[str, Any]:
        """All of it as the service takes it, with more files that travel."""
        spec: dict[str, Any] = {
            "executable": self.executable,
            "arguments": self.arguments,
            "environment": self.environment,
            "input_files": list(dict.fromkeys([*self.input_files, *travelling])),
            "output_files": self.output_files,
            "attributes": dict(self.attributes),
            "num_jobs": self.num_jobs,
        }
        if self.pause_by != "hold":
            spec["pause_by"] = self.pause_by
        spec = {name: value for name, value in spec.items() if value}
        return spec if self.hold_limit_s is None else {**spec, "hold_limit_s": self.hold_limit_s}


class CondorJob(FileBringer, CondorAttributes, Job):
    """A job for an HTCondor pool.

    `remote_input_files` are local files; they are brought into the job's workspace on `save()` or `execute()`, under their own names,
    and travel to the sandbox from there. The executable is one of them, or an absolute path on the execution point.
    """

    job_type = "CONDOR"

    def __init__(
        self,
        name: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        condorpy_template_name: str = "",
        remote_input_files: Iterable[str | Path] = (),
        num_jobs: int = 1,
        executable: str = "",
        arguments: str | Iterable[Any] = (),
        environment: Mapping[str, str] | None = None,
        output_files: Iterable[str] = (),
        pause_by: str = "hold",
        hold_limit_s: int | None = None,
        **common: Any,
    ) -> None:
        Job.__init__(self, name, **common)
        CondorAttributes.__init__(
            self,
            attributes={**(condor_template(condorpy_template_name) if condorpy_template_name else {}), **(attributes or {})},
            num_jobs=num_jobs,
            executable=executable,
            arguments=arguments,
            environment=environment,
            output_files=output_files,
            pause_by=pause_by,
            hold_limit_s=hold_limit_s,
        )
        FileBringer.__init__(self)
        self.remote_input_files: list[str | Path] = list(remote_input_files)

    @property
    def cluster_id(self) -> int:
        """HTCondor's number of the current run's submission; 0 before the pool has it."""
        number = self.scheduler_job_ref.partition(".")[0]
        return int(number) if number.isdigit() else 0

    @staticmethod
    def get_condorpy_template(template_name: str) -> dict[str, str]:
        """The submit commands of a template. Raises ValueError for a name that there is not."""
        return condor_template(template_name)

    def _files(self) -> Iterable[Path]:
        return map(Path, self.remote_input_files)

    def _spec(self) -> dict[str, Any]:
        return {"condor": self.condor_spec(path for path in self._inputs() if path != self.executable)}

    def _load_spec(self, view: JobView) -> None:
        spec = view.condor or {}
        self.attributes, self.remote_input_files = dict(spec.get("attributes", {})), []
        self._forget_brought()
        self.num_jobs = spec.get("num_jobs", 1)
        self.executable, self.arguments = spec.get("executable", ""), list(spec.get("arguments", []))
        self.pause_by, self.hold_limit_s = spec.get("pause_by", "hold"), spec.get("hold_limit_s")
        self.environment = dict(spec.get("environment", {}))
        self.input_files, self.output_files = list(spec.get("input_files", [])), list(spec.get("output_files", []))


def _arguments(value: str | Iterable[Any]) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else [str(argument) for argument in value]


def _names(value: str | Iterable[Any]) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else [str(part) for part in value]
    return [part.strip() for part in parts if part.strip()]
