"""A Dask scheduler and its workers, run on the jobs' environment by the jobs' user."""

from __future__ import annotations

import httpx

from jobledger_devstack.jobs_python import JobsPython
from jobledger_devstack.part import Context, Part
from jobledger_devstack.process import Argv, Launch, plain_env
from jobledger_devstack.users import require_traversable

SCHEDULER = "dask-scheduler"


def scheduler_address(port: int) -> str:
    """The address at which clients and workers reach the scheduler."""
    return f"tcp://127.0.0.1:{port}"


def dashboard_url(port: int) -> str:
    """The scheduler's own pages. The plots of the full dashboard need bokeh, which the jobs' environment does not hold."""
    return f"http://127.0.0.1:{port}/info/main/workers.html"


class DaskScheduler(Part):
    """The scheduler. It keeps nothing on disk: after a restart it is empty, and the workers come back by themselves."""

    name = SCHEDULER
    needs = ("jobs-python",)

    def __init__(self, context: Context, jobs_python: JobsPython) -> None:
        super().__init__(context)
        self._jobs_python = jobs_python

    @property
    def port(self) -> int | None:
        return self.context.ports.get("dask")

    def port_names(self) -> tuple[str, ...]:
        return ("dask", "dask_dashboard")

    def launch(self) -> Launch:
        user, folder, ports = self.context.users.jobs, self.context.layout.dask, self.context.ports
        require_traversable(self.context.home, user, "the data folder")
        user.own(folder, 0o755)
        listen = ["--host", "127.0.0.1", "--port", str(ports["dask"]), "--dashboard-address", f"127.0.0.1:{ports['dask_dashboard']}"]
        argv: Argv = [self._jobs_python.python, "-m", "distributed.cli.dask_scheduler", *listen]
        return Launch(argv, user, plain_env(folder), folder, stop_grace_s=5)

    async def probe(self) -> bool:
        return await _get(self.context, "/health") is not None


class DaskWorker(Part):
    """One worker process. Without a nanny: our supervisor restarts it, be it killed or gone because the scheduler was lost."""

    needs = (SCHEDULER,)

    def __init__(self, context: Context, jobs_python: JobsPython, number: int) -> None:
        super().__init__(context)
        self.name = f"dask-worker-{number}"
        self._jobs_python = jobs_python

    def launch(self) -> Launch:
        user, folder, options = self.context.users.jobs, self.context.layout.dask, self.context.options
        scratch = folder / self.name
        user.own(scratch, 0o755)
        size = ["--nthreads", str(options.dask_threads), "--no-nanny", "--name", self.name, "--death-timeout", "20"]
        where = ["--host", "127.0.0.1", "--local-directory", str(scratch), "--no-dashboard"]
        argv: Argv = [
            self._jobs_python.python,
            "-m",
            "distributed.cli.dask_worker",
            scheduler_address(self.context.ports["dask"]),
            *size,
            *where,
        ]
        return Launch(argv, user, plain_env(folder), scratch, stop_grace_s=5)

    async def probe(self) -> bool:
        answer = await _get(self.context, "/json/identity.json")
        workers = answer.json().get("workers", {}) if answer is not None else {}
        return any(worker.get("name") == self.name for worker in workers.values())


async def _get(context: Context, path: str) -> httpx.Response | None:
    """What the scheduler's HTTP side answers; None while it does not."""
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        try:
            answer = await client.get(f"http://127.0.0.1:{context.ports['dask_dashboard']}{path}")
        except httpx.TransportError:
            return None
    return answer if answer.status_code == 200 else None
