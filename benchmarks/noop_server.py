"""A starlette application with one POST that reads its body and says yes, served as ours is: `python -m benchmarks.noop_server PORT`."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def accept(request: Request) -> Response:
    await request.body()
    return Response(b'{"success":true}', media_type="application/json")


if __name__ == "__main__":
    app = Starlette(routes=[Route("/update-job-status/{job_id}/", accept, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
