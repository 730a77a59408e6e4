"""Who asks, and API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_kit.auth import Access, KeyInfo
from jobledger_kit.clock import Clock
from jobledger_kit.errors import Conflict, NotFound
from jobledger_kit.http import Allow, json_response, operation, principal_of, read_json, read_query

from .inputs import KeyBody, KeyQuery
from .views import KeyPage, NewKey, WhoAmI

_NO_STORE: Final = {"cache-control": "no-store"}


class AdminRoutes:
    """The endpoints on access."""

    def __init__(self, *, access: Access, clock: Clock) -> None:
        self._access, self._clock = access, clock

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/jobs/whoami", self.who_am_i, methods=["GET"]),
            Route("/jobs/keys", self.list_keys, methods=["GET"]),
            Route("/jobs/keys", self.create_key, methods=["POST"]),
            Route("/jobs/keys/{key_id}", self.revoke_key, methods=["DELETE"]),
        ]

    @operation("Whom your key belongs to", response=WhoAmI, tag="access")
    async def who_am_i(self, request: Request) -> Response:
        principal = principal_of(request)
        return json_response(WhoAmI(user=principal.name, groups=sorted(principal.groups), admin=principal.admin, service=principal.service))

    @operation("List API keys", allow=Allow.ADMIN, query=KeyQuery, response=KeyPage, tag="access")
    async def list_keys(self, request: Request) -> Response:
        query = read_query(request, KeyQuery)
        keys, cursor = await self._access.list_keys(user=query.user, limit=query.limit, cursor=query.cursor or "")
        return json_response(KeyPage(items=keys, next_cursor=cursor))

    @operation(
        "Make an API key",
        description="With `groups`, `admin` or `service` the user gets exactly these rights, and is created if need be. "
        "The key is shown this once.",
        allow=Allow.ADMIN,
        body=KeyBody,
        responses={201: NewKey},
        errors=(NotFound,),
        tag="access",
    )
    async def create_key(self, request: Request) -> Response:
        body = await read_json(request, KeyBody)
        if any(right is not None for right in (body.groups, body.admin, body.service)):
            await self._access.put_user(body.user, groups=body.groups or (), admin=bool(body.admin), service=bool(body.service))
        expires_at = None if body.expires_in_s is None else self._clock.now() + timedelta(seconds=body.expires_in_s)
        key, token = await self._access.create_key(body.user, label=body.label, expires_at=expires_at)
        return json_response(NewKey(id=key.id, user=key.user, key=token, expires_at=key.expires_at), 201, _NO_STORE)

    @operation("End an API key", allow=Allow.ADMIN, response=KeyInfo, errors=(NotFound, Conflict), tag="access")
    async def revoke_key(self, request: Request) -> Response:
        key_id = str(request.path_params["key_id"])
        if key_id == principal_of(request).key_id:
            raise Conflict("This is the key that you are using; end it with another one.")
        return json_response(await self._access.revoke_key(key_id))
