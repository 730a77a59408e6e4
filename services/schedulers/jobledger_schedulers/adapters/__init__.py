"""The schedulers we can hand runs to, behind one port."""

from __future__ import annotations

from jobledger_schedulers.adapters.port import AdapterSettings, NotSupported, SchedulerAdapter
from jobledger_schedulers.adapters.views import VIEW_TIMEOUT_S, PoolView, WorkersView


def open_adapter(settings: AdapterSettings) -> SchedulerAdapter:
    """The adapter for a scheduler. It connects when it is first used. Raises NotSupported."""
    if settings.type == "condor" and settings.transport == "bindings":
        from jobledger_schedulers.adapters.htcondor.adapter import HTCondorAdapter

        return HTCondorAdapter(settings)
    if settings.type == "condor" and settings.transport == "ssh":
        from jobledger_schedulers.adapters.htcondor_ssh.adapter import HTCondorSshAdapter

        return HTCondorSshAdapter(settings)
    if settings.type == "dask":
        from jobledger_schedulers.adapters.dask.adapter import DaskAdapter

        return DaskAdapter(settings)
    raise NotSupported(f"schedulers of type {settings.type!r} over {settings.transport!r} are not supported")


def open_view(settings: AdapterSettings) -> PoolView | WorkersView:
    """What looks at a scheduler for people, apart from what works on it. It connects when it is first used. Raises NotSupported."""
    if settings.type == "condor" and settings.transport == "bindings":
        from jobledger_schedulers.adapters.htcondor.pool import HTCondorPoolView

        return HTCondorPoolView(settings)
    if settings.type == "dask":
        from jobledger_schedulers.adapters.dask.far import rpc_of
        from jobledger_schedulers.adapters.dask.view import DaskView

        return DaskView(rpc_of(settings, min(settings.timeout_s, VIEW_TIMEOUT_S)))
    raise NotSupported(f"there is no view of a pool over {settings.transport}")


__all__ = ["open_adapter", "open_view"]
