"""Logs as a service writes them, for the length of one test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from jobledger_kit import telemetry


@pytest.fixture
def json_logs(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Logging set up as in a service; undone afterwards, because it is the process's own."""
    root = logging.getLogger()
    handlers, level, config = list(root.handlers), root.level, structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in telemetry.LOUD}
    telemetry.set_up_logging("things", format="json")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    structlog.configure(**config)
    telemetry.stop_direct_lines()
