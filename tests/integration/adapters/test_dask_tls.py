"""A Dask scheduler that speaks TLS only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters import open_view
from jobledger_schedulers.adapters.dask.adapter import DaskAdapter
from jobledger_schedulers.adapters.dask.view import DaskView
from jobledger_schedulers.adapters.port import AdapterSettings, AuthenticationFailed, SchedulerError, Unreachable
from tests.integration.adapters.test_dask_adapter import call, outcome
from tests.support.certificates import Certificates, make_certificates
from tests.support.dask_cluster import DaskCluster
from tests.support.pools import dask_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
def settings(tmp_path: Path, certificates: Certificates) -> Iterator[AdapterSettings]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = DaskCluster(folder, certificates)
    cluster.start_scheduler()
    cluster.start_worker()
    yield with_(dask_settings(cluster.address, tmp_path / "private", timeout_s=10), certificates)
    cluster.end()


def with_(settings: AdapterSettings, own: Certificates, passphrase: str = "") -> AdapterSettings:
    return msgspec.structs.replace(
        settings, ca_certificate=own.authority, certificate=own.certificate, private_key=own.key, private_key_pass=passphrase
    )


async def refusal(settings: AdapterSettings) -> SchedulerError:
    adapter = DaskAdapter(settings)
    try:
        with pytest.raises(SchedulerError) as refused:
            await adapter.ping()
    finally:
        await adapter.close()
    return refused.value


async def test_runs_go_over_tls_and_strangers_are_told_so(settings: AdapterSettings, tmp_path: Path) -> None:
    assert settings.host.startswith("tls://")
    adapter, view = DaskAdapter(settings), open_view(settings)
    try:
        seen, files = await outcome(adapter, call("helpers:add", 40, 2), tmp_path / "a")
        assert (seen.status, files["result.json"]) == (Status.COMPLETE, b"42")
        assert isinstance(view, DaskView)
        assert all(finding.ok for finding in await view.examine())
    finally:
        await adapter.close()
        await view.close()
    assert not list(settings.private_dir.iterdir()), "a key was left on the disk"

    stranger = make_certificates(tmp_path)
    error = await refusal(with_(settings, stranger))
    assert isinstance(error, Unreachable)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    mixed = msgspec.structs.replace(with_(settings, stranger), ca_certificate=settings.ca_certificate)
    assert isinstance(await refusal(mixed), Unreachable)  # we know it, and it does not know us


async def test_certificates_that_are_no_good_are_told_before_anything_is_sent(tmp_path: Path, certificates: Certificates) -> None:
    bare = dask_settings("tls://127.0.0.1:1", tmp_path / "private")
    error = await refusal(bare)
    assert isinstance(error, AuthenticationFailed)
    assert "needs ca_certificate, certificate, private_key" in str(error)
    error = await refusal(msgspec.structs.replace(with_(bare, certificates), certificate="nonsense"))
    assert isinstance(error, AuthenticationFailed)
    locked = make_certificates(tmp_path, "open sesame")
    error = await refusal(with_(bare, locked, "wrong"))
    assert isinstance(error, AuthenticationFailed)
    assert "wrong" not in str(error)
    assert isinstance(await refusal(with_(bare, locked, "open sesame")), Unreachable)  # nobody is at that port: the key was read
