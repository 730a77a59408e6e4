"""Speaking to a Dask scheduler over TLS: both sides show a certificate that the same authority has signed, as Dask wants it."""

from __future__ import annotations

import os
import ssl
import tempfile

from jobledger_schedulers.adapters.port import AdapterSettings, AuthenticationFailed


def tls_context(settings: AdapterSettings, address: str) -> ssl.SSLContext | None:
    """What a `tls://` address needs; None for any other. Raises AuthenticationFailed for certificates that are missing, or no good.

    As in Dask, who the scheduler is follows from the authority that signed its certificate, not from the host's name in it.
    """
    if not address.startswith("tls://"):
        return None
    needed = {"ca_certificate": settings.ca_certificate, "certificate": settings.certificate, "private_key": settings.private_key}
    if missing := [name for name, value in needed.items() if not value]:
        raise AuthenticationFailed(
            f"the Dask scheduler at {address} is reached by TLS, which needs {', '.join(missing)}: register it with them"
        )
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=settings.ca_certificate)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load(context, settings)
    except (ssl.SSLError, ValueError) as error:
        raise AuthenticationFailed(f"the certificates for the Dask scheduler at {address} cannot be used: {error}") from None
    return context


def _load(context: ssl.SSLContext, settings: AdapterSettings) -> None:
    """OpenSSL reads a certificate and its key from a file only: ours is there for a moment, and for this account alone."""
    settings.private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=settings.private_dir, prefix="tls-") as file:  # 0600
        file.write(f"{settings.certificate}\n{settings.private_key}\n")
        file.flush()
        # A key that needs a passphrase must not make OpenSSL ask for one at a terminal.
        context.load_cert_chain(os.fspath(file.name), password=lambda: settings.private_key_pass)
