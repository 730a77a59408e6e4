"""The parts of a stack, chosen by its options, and the addresses at which they answer."""

from __future__ import annotations

from jobledger_devstack.condor import Condor
from jobledger_devstack.condor_config import SCHEDD_NAME, TRUST_DOMAIN
from jobledger_devstack.dask import DaskScheduler, DaskWorker, dashboard_url, scheduler_address
from jobledger_devstack.jobs_python import JobsPython
from jobledger_devstack.kafka import Kafka
from jobledger_devstack.model import Endpoints
from jobledger_devstack.part import Context, Part
from jobledger_devstack.postgres import Postgres, database_url
from jobledger_devstack.services import NOUNS, Init, Registration, Service
from jobledger_devstack.ssh import Ssh, host_key


def build_parts(context: Context) -> list[Part]:
    """Everything the options ask for, in the order in which it is shown."""
    options = context.options
    parts: list[Part] = []
    if options.has("kafka"):
        parts.append(Kafka(context))
    if options.has("postgres"):
        parts.append(Postgres(context))
    if options.has("condor"):
        parts.append(Condor(context))
    if options.has("ssh"):
        parts.append(Ssh(context))
    if options.has("condor") or options.has("dask"):
        jobs_python = JobsPython(context)
        parts.append(jobs_python)
        if options.has("dask"):
            parts.append(DaskScheduler(context, jobs_python))
            parts += [DaskWorker(context, jobs_python, number) for number in range(1, options.dask_workers + 1)]
    if options.has("services"):
        services = [Service(context, name) for name in NOUNS]
        by_name = {service.name: service for service in services}
        parts += [Init(context), *services, Registration(context, by_name["schedulers"])]
    return parts


def build_endpoints(context: Context, parts: list[Part]) -> Endpoints:
    """Where everything answers, now that it does."""
    layout, ports, options = context.layout, context.ports, context.options
    by_name = {part.name: part for part in parts}
    urls = {service: f"http://127.0.0.1:{ports[service]}" if service in by_name else "" for service in NOUNS}
    own_database = database_url(layout, ports["postgres"]) if "postgres" in by_name else ""
    jobs_python = by_name.get("jobs-python")
    return Endpoints(
        home=str(layout.home),
        workspaces=str(layout.workspaces),
        admin_key_file=str(layout.admin_key),
        jobs_url=urls["jobs"],
        schedulers_url=urls["schedulers"],
        clusters_url=urls["provisioner"],
        kafka_bootstrap=f"127.0.0.1:{ports['kafka']}" if "kafka" in by_name else "",
        database_url=options.database_url or own_database,
        collector=f"127.0.0.1:{ports['condor']}" if "condor" in by_name else "",
        schedd_name=SCHEDD_NAME if "condor" in by_name else "",
        trust_domain=TRUST_DOMAIN if "condor" in by_name else "",
        ssh_host="127.0.0.1" if "ssh" in by_name else "",
        ssh_port=ports["ssh"] if "ssh" in by_name else 0,
        ssh_username=context.users.jobs.name if "ssh" in by_name else "",
        ssh_private_key_file=str(layout.ssh_key) if "ssh" in by_name else "",
        ssh_host_key=host_key(layout) if "ssh" in by_name else "",
        dask_address=scheduler_address(ports["dask"]) if "dask-scheduler" in by_name else "",
        dask_dashboard=dashboard_url(ports["dask_dashboard"]) if "dask-scheduler" in by_name else "",
        jobs_python=str(jobs_python.python) if isinstance(jobs_python, JobsPython) else "",
    )
