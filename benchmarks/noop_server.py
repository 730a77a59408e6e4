"""A starlette application with one POST that reads its body and says yes, served as ours is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def accept(request: Request) -> Response:
    await request.body()
    return Response(b'{"success":true}', media_type="application/json")


async def ready(_: Request) -> Response:
    return Response()


if __name__ == "__main__":
    app = Starlette(routes=[Route("/update-job-status/{job_id}/", accept, methods=["POST"]), Route("/jobs/health/ready", ready)])
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    (Path(os.environ["JOBLEDGER_DATA_DIR"]) / "port").write_text(str(listening.getsockname()[1]))
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])
