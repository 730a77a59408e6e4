"""How we connect to PostgreSQL, and which of its errors pass by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

IDLE_IN_TRANSACTION_S: Final = 8
"""A process that is frozen inside a transaction holds the lock of its checkpoint; after this long the server takes it away. Below the
group's session timeout (10 s), so that the partition's next owner never waits for it; well above what a starved machine makes of a pause
between two statements (at 3 s a reactor was cut off at ten times the load its machine could bear)."""
COMMAND_TIMEOUT_S: Final = 60.0

DATABASE_AWAY: Final = (
    OSError,  # no route, refused, reset; TimeoutError is one
    asyncpg.InterfaceError,  # the connection, or the pool, was closed under us
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled by an administrator
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.TransactionRollbackError,  # deadlock or serialization: the same again may pass
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What is worth trying again later. Whether a transaction that was cut by one of these has happened is not known."""


async def connect_pool(
    url: str, *, schema: str, application: str = "jobledger", min_size: int = 1, max_size: int = 8, **options: Any
) -> Pool:
    """Open a pool whose connections mean `schema` by an unqualified name. Close it with `await pool.close()`.

    Plans are made for the values at hand (`plan_cache_mode`): a generic plan for a skewed user reads all rows. And for disks without a
    head to move (`random_page_cost`): else a page of a list is made by sorting all its rows.
    """
    settings: Mapping[str, str] = {
        "search_path": schema,
        "application_name": application,
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_S * 1000),
        "plan_cache_mode": "force_custom_plan",
        "random_page_cost": "1.1",
        "timezone": "UTC",
    }
    options.setdefault("command_timeout", COMMAND_TIMEOUT_S)
    pool = await asyncpg.create_pool(url, min_size=min_size, max_size=max_size, server_settings=dict(settings), **options)
    assert pool is not None
    return pool
