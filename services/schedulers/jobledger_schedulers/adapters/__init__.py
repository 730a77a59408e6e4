"""The schedulers we can hand runs to, behind one port."""

from __future__ import annotations

from jobledger_schedulers.adapters.port import AdapterSettings, NotSupported, SchedulerAdapter


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


__all__ = ["open_adapter"]
