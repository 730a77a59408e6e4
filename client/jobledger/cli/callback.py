"""`jobledger callback`: a run reports its own status, with the credential that it was given."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import click

from jobledger.errors import NotConfigured
from jobledger.http import ServiceClient


@click.command()
@click.argument("status")
@click.option("--message", "-m", help="For people.")
@click.option("--progress", "-p", type=click.FloatRange(0, 1), help="From 0 to 1.")
def callback(status: str, message: str | None, progress: float | None) -> None:
    """Report a status from inside a job.

    STATUS is a name, a three-letter code, or a text of the job's own.
    The address is taken from JOBLEDGER_CALLBACK_URL and the credential from the file that JOBLEDGER_CREDENTIAL_FILE names, both of
    which a run finds in its environment. Prints the report's position once the log has it.
    """
    address, file = os.environ.get("JOBLEDGER_CALLBACK_URL", ""), os.environ.get("JOBLEDGER_CREDENTIAL_FILE", "")
    if not address or not file:
        raise NotConfigured("JOBLEDGER_CALLBACK_URL and JOBLEDGER_CREDENTIAL_FILE are not both set: is this inside a job?")
    parts = urlsplit(address)
    client = ServiceClient(f"{parts.scheme}://{parts.netloc}", Path(file).read_text().strip(), name="jobs")
    body = {name: value for name, value in {"status": status, "message": message, "progress": progress}.items() if value is not None}
    try:
        # A report that arrives twice changes nothing the second time, so it may be repeated as if it had a key.
        answer = client.post(parts.path, body, idempotency_key=os.urandom(16).hex())
    finally:
        client.close()
    click.echo(answer["position"])
