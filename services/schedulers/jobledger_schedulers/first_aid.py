"""A check of a scheduler as a list of steps, from its name to its clock: each with what was found, and what to do about it.

The steps before anything of the scheduler's own is spoken (its name, its port, its host key) are taken here; the rest by what can look
at it step by step (`adapters.views`), or where there is no such thing by one `ping`. A step after one that makes it pointless is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from jobledger_contracts.scheduler import Scheduler
from jobledger_kit.clock import Clock

from .adapters.htcondor_ssh.host_keys import ShownKey, host_keys
from .adapters.port import AuthenticationFailed, Incompatible, NotSupported, SchedulerAdapter, SchedulerError
from .adapters.views import Finding, PoolView, WorkersView
from .vault import Credentials
from .views import CheckStep, CheckView

NAME_TIMEOUT_S: Final = 5.0
PORT_TIMEOUT_S: Final = 5.0
PING_TIMEOUT_S: Final = 15.0

TITLES: Final[Mapping[str, str]] = {
    "dns": "Its host's name leads to an address",
    "tcp": "Something listens at its port",
    "host_key": "The SSH server has the key that was registered",
    "answer": "It answers in its own protocol",
    "authentication": "It lets us in",
    "authorization": "We may submit",
    "version": "Its version and ours go together",
    "queue": "Its queue can be read",
    "slots": "It has slots, and hands them out",
    "workers": "It has workers",
    "clock": "Its clock agrees with ours",
}
STEPS: Final[Mapping[str, Sequence[str]]] = {
    "bindings": ("dns", "tcp", "answer", "authentication", "authorization", "version", "queue", "slots", "clock"),
    "ssh": ("dns", "tcp", "host_key", "answer", "authentication", "version"),
    "tcp": ("dns", "tcp", "answer", "authentication", "authorization", "version", "queue", "workers", "clock"),
}
"""Transport -> its steps."""
ESSENTIAL: Final = frozenset({"dns", "tcp", "host_key", "answer", "authentication", "authorization", "version"})
"""Without these no run gets there."""
_NOT_ASKED: Final = {
    "authentication": "Dask asks nobody who they are",
    "authorization": "whoever reaches a Dask scheduler may use it: who reaches it, its network decides",
}

Connect = Callable[[Scheduler, Credentials], SchedulerAdapter]
OpenView = Callable[[Scheduler, Credentials], PoolView | WorkersView]
AskKey = Callable[[str, int], Awaitable[ShownKey]]


class FirstAid:
    """Takes the steps. Each has a deadline; together they need less than half a minute."""

    def __init__(self, *, connect: Connect, open_view: OpenView, ask_key: AskKey, clock: Clock) -> None:
        self._connect, self._open_view, self._ask_key, self._clock = connect, open_view, ask_key, clock

    async def check(self, state: Scheduler, credentials: Credentials) -> CheckView:
        """Take all steps over connections of their own. What goes wrong becomes a step that failed."""
        began_s = self._clock.monotonic()
        found = await self._near(state)
        if all(finding.ok for finding in found):
            found += await self._far(state, credentials)
        taken = {finding.step: _step(finding) for finding in found}
        failed = next((step for step in taken.values() if step.outcome == "failed"), None)
        steps = [taken.get(name) or _skipped(name, state, failed) for name in STEPS.get(state.transport, STEPS["bindings"])]
        blocked = next((step for step in steps if step.outcome == "failed" and step.name in ESSENTIAL), None)
        return CheckView(
            name=state.name,
            reachable=blocked is None,
            latency_ms=self._since_ms(began_s),
            version=next((finding.version for finding in found if finding.version), ""),
            identity=next((finding.identity for finding in found if finding.identity), ""),
            detail=failed.explanation if failed else "",
            steps=steps,
        )

    # -- before its own protocol ----------------------------------------------------------------------------------------------------

    async def _near(self, state: Scheduler) -> list[Finding]:
        try:
            host, port = endpoint(state)
        except ValueError as error:
            return [_failed("dns", 0.0, str(error), "Register it again with an address such as tcp://host:8786.")]
        found = [await self._timed("dns", self._name_is_found(host))]
        if found[-1].ok:
            found.append(await self._timed("tcp", self._listens(host, port)))
        if found[-1].ok and state.transport == "ssh":
            found.append(await self._timed("host_key", self._has_its_key(host, port, state.known_host_key)))
        return found

    async def _timed(self, step: str, taken: Awaitable[tuple[bool, str, str]]) -> Finding:
        began_s = self._clock.monotonic()
        ok, explanation, advice = await taken
        return Finding(step=step, ok=ok, time_ms=self._since_ms(began_s), explanation=explanation, advice=advice)

    async def _name_is_found(self, host: str) -> tuple[bool, str, str]:
        if _is_address(host):
            return True, f"{host} is an address already", ""
        try:
            async with asyncio.timeout(NAME_TIMEOUT_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            why = f"no answer within {NAME_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error)
            return (
                False,
                f"no address is found for {host}: {why}",
                "See that the name is spelt right, and that this machine's DNS knows it.",
            )
        addresses = sorted({str(entry[4][0]) for entry in found})
        return True, f"{host} is {', '.join(addresses[:4])}", ""

    async def _listens(self, host: str, port: int) -> tuple[bool, str, str]:
        advice = f"See that it runs there, and that no firewall between here and there keeps port {port} closed."
        try:
            async with asyncio.timeout(PORT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return False, f"{host} does not answer at port {port} within {PORT_TIMEOUT_S:g} s", advice
        except (OSError, OverflowError) as error:
            refused = isinstance(error, ConnectionRefusedError)
            return False, f"nothing listens at port {port} of {host}" if refused else f"{host}:{port} cannot be reached: {error}", advice
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True, f"{host} listens at port {port}", ""

    async def _has_its_key(self, host: str, port: int, known: str) -> tuple[bool, str, str]:
        try:
            shown, ours = await self._ask_key(host, port), host_keys(known)
        except (SchedulerError, ValueError) as error:
            return False, str(error), "See that it is an SSH server that listens there."
        if shown.line in ours:
            return True, f"it shows the registered key ({shown.fingerprint})", ""
        if shown.line.split()[0] not in {key.split()[0] for key in ours}:
            return True, "it shows a key of another kind than the registered one, which is compared when we log in", ""
        advice = "Ask its administrator whether the server got a new key. If so, register that; if not, somebody poses as the server."
        return False, f"it shows another key than the registered one: {shown.fingerprint}", advice

    # -- its own protocol -----------------------------------------------------------------------------------------------------------

    async def _far(self, state: Scheduler, credentials: Credentials) -> list[Finding]:
        try:
            view = self._open_view(state, credentials)
        except NotSupported:
            return await self._pinged(state, credentials)
        try:
            return await view.examine()
        finally:
            with contextlib.suppress(SchedulerError):  # it has said what it had to say
                await view.close()

    async def _pinged(self, state: Scheduler, credentials: Credentials) -> list[Finding]:
        """What one question tells: the least that every adapter can answer."""
        began_s = self._clock.monotonic()
        answer = Finding(step="answer", ok=True, time_ms=0.0, explanation="it answers")
        let_in = Finding(step="authentication", ok=True, time_ms=0.0, explanation="it lets us in")
        adapter: SchedulerAdapter | None = None
        try:
            adapter = self._connect(state, credentials)
            async with asyncio.timeout(PING_TIMEOUT_S):
                identity = await adapter.ping()
        except AuthenticationFailed as error:
            advice = "Register credentials that are valid there: see the explanation for which were tried."
            return [answer, _failed("authentication", self._since_ms(began_s), str(error), advice)]
        except Incompatible as error:
            return [answer, let_in, _failed("version", self._since_ms(began_s), str(error), "Bring one side to the other's version.")]
        except SchedulerError as error:
            return [_failed("answer", self._since_ms(began_s), str(error), "See that the access point's own commands work there.")]
        except TimeoutError:
            return [
                _failed("answer", self._since_ms(began_s), f"it did not answer within {PING_TIMEOUT_S:g} s", "It hangs: look at its log.")
            ]
        finally:
            if adapter is not None:
                with contextlib.suppress(SchedulerError):
                    await adapter.close()
        took_ms, who = self._since_ms(began_s), identity.identity
        return [
            msgspec.structs.replace(answer, time_ms=took_ms, explanation=identity.detail or "it answers"),
            msgspec.structs.replace(let_in, explanation=f"we are {who} there" if who else "it lets us in", identity=who),
            Finding(step="version", ok=True, time_ms=0.0, explanation=f"version {identity.version}", version=identity.version),
        ]

    def _since_ms(self, began_s: float) -> float:
        return round((self._clock.monotonic() - began_s) * 1000, 1)


def endpoint(state: Scheduler) -> tuple[str, int]:
    """The host and port that are contacted first. Raises ValueError when there is no telling."""
    if state.type == "dask":
        address = state.host if "://" in state.host else f"tcp://{state.host}"
        parts = urlsplit(f"{address}:{state.port}" if state.port else address)
        if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
            raise ValueError(f"{state.host!r} is no Dask address: tcp://host:port or tls://host:port is expected")
        return parts.hostname, parts.port
    if state.port:
        return state.host, state.port
    host, colon, port = state.host.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        return host, int(port)
    return state.host, 22 if state.transport == "ssh" else 9618


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _failed(step: str, time_ms: float, explanation: str, advice: str) -> Finding:
    return Finding(step=step, ok=False, time_ms=time_ms, explanation=explanation, advice=advice)


def _step(finding: Finding) -> CheckStep:
    values: dict[str, Any] = {name: getattr(finding, name) for name in ("time_ms", "explanation", "advice")}
    return CheckStep(name=finding.step, title=TITLES[finding.step], outcome="ok" if finding.ok else "failed", **values)


def _skipped(name: str, state: Scheduler, failed: CheckStep | None) -> CheckStep:
    why = _NOT_ASKED.get(name) if state.type == "dask" else None
    if why is None:
        why = "not tried, as an earlier step failed" if failed is not None else "it does not tell"
    return CheckStep(name=name, title=TITLES[name], outcome="skipped", time_ms=0.0, explanation=why)
