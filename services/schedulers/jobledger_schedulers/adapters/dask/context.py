"""What a job's function is given as `jobledger`. Shipped by value with `task.py`: nothing here may need our packages."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

UPLOAD_TRIES = 5
UPLOAD_TIMEOUT_S = 300.0
PROGRESS_STEP = 0.01
PROGRESS_GAP_S = 2.0
MAX_PROGRESS_MESSAGE_CHARS = 500


class RunContext(dict[str, str]):
    """The run's environment, as a mapping, and what else a running function may want.

    Not os.environ: the threads of a worker share that, and each may have a run of its own.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        credential: str = "",
        files_url: str = "",
        stopped: Callable[[], bool] = lambda: False,
        tell: Callable[[dict[str, Any]], None] = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(environment)
        self._credential, self._files_url, self._stopped, self.tell = credential, files_url, stopped, tell
        self._clock, self._told, self._told_at = clock, -1.0, float("-inf")
        self.saved: list[dict[str, Any]] = []

    def stopped(self) -> bool:
        """True once the run was stopped. A long function asks now and then, and returns: only that frees its worker."""
        return self._stopped()

    def progress(self, done: float, message: str = "") -> None:
        """Say how much is done, from 0 to 1. May be called often: a hundred reports of a run are made, at most, two seconds apart."""
        if not 0 <= done <= 1:
            raise ValueError(f"progress goes from 0 to 1, not {done}")
        now = self._clock()
        if done - self._told < PROGRESS_STEP or now - self._told_at < PROGRESS_GAP_S:
            return
        self._told, self._told_at = done, now
        self.tell({"event": "progress", "done": float(done), "message": str(message)[:MAX_PROGRESS_MESSAGE_CHARS]})

    def save(self, name: str, data: bytes) -> None:
        """Put a file into the run's folder of the workspace, over HTTP with the run's own credential. Raises OSError, ValueError."""
        if not self._files_url.startswith(("http://", "https://")) or not self._credential:
            raise ValueError("this run has no address to bring files to")
        digest = hashlib.sha256(data).hexdigest()
        _put(self._files_url + urllib.parse.quote(name), self._credential, data)
        self.saved[:] = [file for file in self.saved if file["path"] != name]
        self.saved.append({"path": name, "size": len(data), "sha256": digest})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The credential goes where it was meant for, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _put(url: str, credential: str, data: bytes) -> None:
    """Upload. Tries again when that can help. Raises OSError."""
    opener = urllib.request.build_opener(_NoRedirects)
    headers = {"authorization": f"Bearer {credential}", "content-type": "application/octet-stream"}
    for attempt in range(1, UPLOAD_TRIES + 1):
        request = urllib.request.Request(url, data=data, headers=headers, method="PUT")  # noqa: S310 - `save` has looked at the scheme
        try:
            with opener.open(request, timeout=UPLOAD_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            why = f"{error.code} {_detail(error)}"
            if error.code < 500:
                raise OSError(f"the file was refused: {why}") from None
        except OSError as error:  # URLError is one
            why = str(error)
        if attempt == UPLOAD_TRIES:
            raise OSError(f"the file could not be brought to {urllib.parse.urlsplit(url).netloc}: {why}")
        time.sleep(2.0 ** (attempt - 1))


def _detail(error: urllib.error.HTTPError) -> str:
    """What a problem+json says, or HTTP's own word."""
    try:
        return str(json.loads(error.read(65_536)).get("detail") or error.reason)
    except (ValueError, AttributeError, OSError):
        return str(error.reason)
