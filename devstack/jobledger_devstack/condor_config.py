"""The configuration of our HTCondor pool: one loopback port, tokens only, short cycles, no privilege needed."""

from __future__ import annotations

from pathlib import Path

TRUST_DOMAIN = "jobledger.pool"
SCHEDD_NAME = "ap@"
"""The schedd's name in the collector: one that ends with @ is taken as it is, without a host."""


def condor_config(*, folder: Path, root: Path, port: int, slots: int, memory_mb: int, job_env: dict[str, str]) -> str:
    """The pool's configuration. `folder` is its state, `root` its binaries, `job_env` goes into every job's environment."""
    environment = " ".join(f"{name}={value}" for name, value in job_env.items())
    return f"""\
{_PATHS.format(folder=folder, root=root)}
{_NETWORK.format(port=port)}
{_SECURITY.format(folder=folder)}
{_UNPRIVILEGED}
{_CYCLES}
STARTER_JOB_ENVIRONMENT = "{environment}"
NUM_CPUS = {slots}
MEMORY = {memory_mb}
"""


_PATHS = """\
RELEASE_DIR = {root}/usr
LOCAL_DIR = {folder}
LOG = {folder}/log
RUN = {folder}/run
LOCK = {folder}/lock
SPOOL = {folder}/spool
EXECUTE = {folder}/execute
ETC = {folder}/etc
EVENT_LOG = {folder}/log/EventLog
EVENT_LOG_MAX_SIZE = 10000000
EVENT_LOG_MAX_ROTATIONS = 1
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
DAEMON_LIST = MASTER SHARED_PORT COLLECTOR NEGOTIATOR SCHEDD STARTD"""

_NETWORK = """\
# one loopback port for all daemons, no DNS
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
USE_SHARED_PORT = True
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
NETWORK_HOSTNAME = localhost
NO_DNS = True"""

_SECURITY = f"""\
# nobody gets in without a token signed by this pool's key
DEFAULT_DOMAIN_NAME = {TRUST_DOMAIN}
UID_DOMAIN = {TRUST_DOMAIN}
FILESYSTEM_DOMAIN = {TRUST_DOMAIN}
TRUST_DOMAIN = {TRUST_DOMAIN}
SCHEDD_NAME = {SCHEDD_NAME}
SEC_PASSWORD_DIRECTORY = {{folder}}/etc/passwords.d
SEC_TOKEN_POOL_SIGNING_KEY_FILE = {{folder}}/etc/passwords.d/POOL
SEC_TOKEN_SYSTEM_DIRECTORY = {{folder}}/etc/tokens.d
SEC_TOKEN_DIRECTORY = {{folder}}/etc/tokens.d
# condor_dagman is a client too: its nodes belong to whoever its own job belongs to
DAGMAN.SEC_TOKEN_DIRECTORY = {{folder}}/etc/user.d
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_ENCRYPTION = REQUIRED
ALLOW_READ = *@{TRUST_DOMAIN}
ALLOW_WRITE = *@{TRUST_DOMAIN}
ALLOW_DAEMON = condor@{TRUST_DOMAIN}
ALLOW_NEGOTIATOR = condor@{TRUST_DOMAIN}
ALLOW_ADMINISTRATOR = condor@{TRUST_DOMAIN}
QUEUE_SUPER_USERS = condor"""

_UNPRIVILEGED = """\
# works as an ordinary account in any container or virtual machine
USE_PROCD = False
MOUNT_UNDER_SCRATCH =
MOUNT_PRIVATE_DEV_SHM = False
PER_JOB_NAMESPACES = False
CGROUP_MEMORY_LIMIT_POLICY = none
ENABLE_SSH_TO_JOB = False
RUNBENCHMARKS = False
MAIL = /bin/true
# one slot that is divided as jobs ask for it
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
START = True
PREEMPT = False
WANT_SUSPEND = False
SUSPEND = False
KILL = False
JOB_DEFAULT_REQUESTMEMORY = 32
JOB_DEFAULT_REQUESTDISK = 1024"""

_CYCLES = """\
# a person waits: look every second or two
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
POLLING_INTERVAL = 2
PERIODIC_EXPR_INTERVAL = 2
STARTER_INITIAL_UPDATE_INTERVAL = 1
STARTER_UPDATE_INTERVAL = 2
SHADOW_QUEUE_UPDATE_INTERVAL = 2
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_SUBMIT_DELAY = 0
DAGMAN_USE_STRICT = 0
DAGMAN_USE_DIRECT_SUBMIT = True
DAGMAN_QUEUE_UPDATE_INTERVAL = 1
# the scripts of a workflow run on this machine as all jobs here do
JOBLEDGER_DAG_SCRIPTS = True
SHUTDOWN_GRACEFUL_TIMEOUT = 5
SHUTDOWN_FAST_TIMEOUT = 5
KILLING_TIMEOUT = 2
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_CEILING = 2"""
