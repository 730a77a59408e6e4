"""The Jobledger SDK: scientific compute jobs on HTCondor and Dask, with a history that nothing is ever missing from.

For example:

    from jobledger import App

    app = App("my_first_app")
    job = app.get_job_manager().create_job("flood_{id}", job_type="CONDOR", remote_input_files=["run.py", "basin.inp"])
    job.scheduler = app.get_scheduler("local-condor")
    job.set_attribute("executable", "run.py")
    job.execute()
    print(job.wait(timeout_s=600), [file.path for file in job.files()])
"""

from jobledger.app import App
from jobledger.compute import (
    Cluster,
    ClusterManager,
    Scheduler,
    create_condor_scheduler,
    create_dask_scheduler,
    create_scheduler,
    get_cluster_manager,
    get_scheduler,
    list_schedulers,
)
from jobledger.condor_job import CondorJob, load_condor_templates, register_condor_template
from jobledger.condor_workflow import (
    CondorWorkflow,
    CondorWorkflowFinalNode,
    CondorWorkflowJobNode,
    CondorWorkflowNode,
    CondorWorkflowSpliceNode,
    CondorWorkflowSubdagNode,
    NodeView,
)
from jobledger.connection import Connection
from jobledger.dask_job import DaskJob
from jobledger.errors import JobledgerError, SettingNotAssigned, SettingNotFound, SomeFailed
from jobledger.job_manager import JobManager
from jobledger.jobs import BasicJob, Job
from jobledger.processing import ProcessingFailure
from jobledger.scheduler_settings import SchedulerSetting
from jobledger.views import CallbackCredential, FileInfo, HistoryEntry, JobView

__all__ = [
    "App",
    "BasicJob",
    "CallbackCredential",
    "Cluster",
    "ClusterManager",
    "CondorJob",
    "CondorWorkflow",
    "CondorWorkflowFinalNode",
    "CondorWorkflowJobNode",
    "CondorWorkflowNode",
    "CondorWorkflowSpliceNode",
    "CondorWorkflowSubdagNode",
    "Connection",
    "DaskJob",
    "FileInfo",
    "HistoryEntry",
    "Job",
    "JobManager",
    "JobView",
    "JobledgerError",
    "NodeView",
    "ProcessingFailure",
    "Scheduler",
    "SchedulerSetting",
    "SettingNotAssigned",
    "SettingNotFound",
    "SomeFailed",
    "create_condor_scheduler",
    "create_dask_scheduler",
    "create_scheduler",
    "get_cluster_manager",
    "get_scheduler",
    "list_schedulers",
    "load_condor_templates",
    "register_condor_template",
]
