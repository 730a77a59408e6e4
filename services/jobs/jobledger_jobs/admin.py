"""Who asks, API keys, and dead letters."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts import topics
from jobledger_kit.auth import Access, KeyInfo
from jobledger_kit.clock import Clock
from jobledger_kit.deadletters import BuriedLetter, DeadLetters, RawLetter
from jobledger_kit.errors import Conflict, FieldError, InvalidRequest, NotFound
from jobledger_kit.http import Allow, json_response, operation, principal_of, read_json, read_query
from jobledger_kit.pagination import cut_page, decode_cursor

from .feed import parse_position
from .inputs import DeadLetterQuery, KeyBody, KeyQuery
from .store import database_away
from .views import DeadLetterPage, DeadLetterView, DeadLetterWhole, KeyPage, NewKey, WhoAmI

_NO_STORE: Final = {"cache-control": "no-store"}


class AdminRoutes:
    """The endpoints on access and on what could not be folded."""

    def __init__(self, *, access: Access, dead_letters: DeadLetters, clock: Clock, partitions: int) -> None:
        self._access, self._dead_letters, self._clock, self._partitions = access, dead_letters, clock, partitions

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/jobs/whoami", self.who_am_i, methods=["GET"]),
            Route("/jobs/keys", self.list_keys, methods=["GET"]),
            Route("/jobs/keys", self.create_key, methods=["POST"]),
            Route("/jobs/keys/{key_id}", self.revoke_key, methods=["DELETE"]),
            Route("/jobs/dead-letters", self.list_dead_letters, methods=["GET"]),
            Route("/jobs/dead-letters/{topic}/{position}", self.get_dead_letter, methods=["GET"]),
        ]

    @operation("Whom your key belongs to", response=WhoAmI, tag="access")
    async def who_am_i(self, request: Request) -> Response:
        principal = principal_of(request)
        return json_response(WhoAmI(user=principal.name, groups=sorted(principal.groups), admin=principal.admin))

    @operation("List API keys", allow=Allow.ADMIN, query=KeyQuery, response=KeyPage, tag="access")
    async def list_keys(self, request: Request) -> Response:
        query = read_query(request, KeyQuery)
        keys, cursor = await self._access.list_keys(user=query.user, limit=query.limit, cursor=query.cursor or "")
        return json_response(KeyPage(items=keys, next_cursor=cursor))

    @operation(
        "Make an API key",
        description="With `groups` or `admin` the user gets exactly these rights, and is created if need be. The key is shown this once.",
        allow=Allow.ADMIN,
        body=KeyBody,
        responses={201: NewKey},
        errors=(NotFound,),
        tag="access",
    )
    async def create_key(self, request: Request) -> Response:
        body = await read_json(request, KeyBody)
        if body.groups is not None or body.admin is not None:
            await self._access.put_user(body.user, groups=body.groups or (), admin=bool(body.admin))
        expires_at = None if body.expires_in_s is None else self._clock.now() + timedelta(seconds=body.expires_in_s)
        key, token = await self._access.create_key(body.user, label=body.label, expires_at=expires_at)
        return json_response(NewKey(id=key.id, user=key.user, key=token, expires_at=key.expires_at), 201, _NO_STORE)

    @operation("End an API key", allow=Allow.ADMIN, response=KeyInfo, errors=(NotFound, Conflict), tag="access")
    async def revoke_key(self, request: Request) -> Response:
        key_id = str(request.path_params["key_id"])
        if key_id == principal_of(request).key_id:
            raise Conflict("This is the key that you are using; end it with another one.")
        return json_response(await self._access.revoke_key(key_id))

    @operation(
        "List records that could not be folded",
        description="In the order of topic and position. A good event behind a bad one of its job has the reason `parked`.",
        allow=Allow.ADMIN,
        query=DeadLetterQuery,
        response=DeadLetterPage,
        tag="dead letters",
    )
    async def list_dead_letters(self, request: Request) -> Response:
        query = read_query(request, DeadLetterQuery)
        after = decode_cursor(query.cursor, tuple[str, int, int]) if query.cursor is not None else None
        if after is not None and not (after[0] in topics.ALL and 0 <= after[1] < self._partitions and 0 <= after[2] < 1 << 63):
            raise InvalidRequest(errors=[FieldError("?cursor", "this is no cursor of this list")])
        key = None if query.key is None else query.key.encode()
        with database_away():
            letters = await self._dead_letters.page(query.limit + 1, after=after, reason=query.reason, key=key)
        page, cursor = cut_page(letters, query.limit, lambda letter: (letter.topic, letter.partition, letter.offset))
        return json_response(DeadLetterPage(items=[_view(letter) for letter in page], next_cursor=cursor))

    @operation(
        "Look at a record that could not be folded", allow=Allow.ADMIN, response=DeadLetterWhole, errors=(NotFound,), tag="dead letters"
    )
    async def get_dead_letter(self, request: Request) -> Response:
        topic, text = str(request.path_params["topic"]), str(request.path_params["position"])
        position = parse_position(text, self._partitions, "the position in the path")
        with database_away():
            letter = await self._dead_letters.get(topic, position) if topic in topics.ALL else None
        if letter is None:
            raise NotFound("dead letter", f"{topic}/{text}")
        return json_response(_whole(letter))


def _view(letter: BuriedLetter) -> DeadLetterView:
    return DeadLetterView(
        topic=letter.topic,
        position=str(letter.position),
        key=_text(letter.key),
        reason=letter.reason,
        detail=letter.detail,
        value_bytes=letter.value_bytes,
        recorded_at=letter.recorded_at,
        buried_at=letter.buried_at,
    )


def _whole(letter: RawLetter) -> DeadLetterWhole:
    return DeadLetterWhole(
        topic=letter.topic,
        position=str(letter.position),
        key=_text(letter.key),
        reason=letter.reason,
        detail=letter.detail,
        value=_text(letter.value),
        headers=[(_text(name) or "", _text(value)) for name, value in letter.headers],
        recorded_at=letter.recorded_at,
        buried_at=letter.buried_at,
    )


def _text(raw: bytes | None) -> str | None:
    """Bytes for people: what is no UTF-8 is shown as `\\\\xhh`."""
    return None if raw is None else raw.decode(errors="backslashreplace")
