"""What a failed download is told as: one plain error, never a group of them."""

from __future__ import annotations

import asyncssh
import pytest

from jobledger_schedulers.adapters.htcondor_ssh.fetch import NotFetched, _told
from jobledger_schedulers.adapters.port import Unreachable


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("cut"), Unreachable),
        (ExceptionGroup("tasks", [OSError("disk full"), ExceptionGroup("more", [TimeoutError()])]), Unreachable),
        (ExceptionGroup("tasks", [asyncssh.SFTPPermissionDenied("no")]), NotFetched),
        (ExceptionGroup("tasks", [OSError("disk full")]), NotFetched),
    ],
)
def test_a_failed_download_is_told_plainly(error: Exception, told: type[Exception]) -> None:
    assert type(_told(error)) is told
