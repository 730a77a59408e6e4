"""The endpoints on a service's dead letters: the same in every service, for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts import topics
from jobledger_contracts.ids import Position

from .database import DATABASE_AWAY
from .deadletters import BuriedLetter, DeadLetters, RawLetter
from .errors import FieldError, InvalidRequest, NotFound, Unavailable
from .http import Allow, Input, json_response, operation, read_query
from .pagination import DEFAULT_LIMIT, MAX_LIMIT, cut_page, decode_cursor


class DeadLetterQuery(Input, frozen=True, kw_only=True):
    """Which dead letters to list."""

    reason: Annotated[str, Meta(max_length=100)] | None = None
    key: Annotated[str, Meta(max_length=1024)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: str | None = None


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be folded. Bytes that are no UTF-8 are shown as `\\xhh`."""

    topic: str
    position: str
    key: str | None
    reason: str
    detail: str
    value_bytes: int | None
    recorded_at: datetime
    buried_at: datetime


class DeadLetterWhole(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be folded, with its value and headers."""

    topic: str
    position: str
    key: str | None
    reason: str
    detail: str
    value: str | None
    headers: list[tuple[str, str | None]]
    recorded_at: datetime
    buried_at: datetime


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters. `next_cursor` is absent on the last page."""

    items: list[DeadLetterView]
    next_cursor: str | None = None


class DeadLetterRoutes:
    """The endpoints below `/<noun>/dead-letters`."""

    def __init__(self, noun: str, letters: DeadLetters, partitions: int) -> None:
        self._noun, self._letters, self._partitions = noun, letters, partitions

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route(f"/{self._noun}/dead-letters", self.list_dead_letters, methods=["GET"]),
            Route(f"/{self._noun}/dead-letters/{{topic}}/{{position}}", self.get_dead_letter, methods=["GET"]),
        ]

    @operation(
        "List records that this service could not fold",
        description="In the order of topic and position. A good event behind a bad one of its key has the reason `parked`.",
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
        try:
            letters = await self._letters.page(query.limit + 1, after=after, reason=query.reason, key=key)
        except DATABASE_AWAY as error:
            raise Unavailable(what="The database") from error
        page, cursor = cut_page(letters, query.limit, lambda letter: (letter.topic, letter.partition, letter.offset))
        return json_response(DeadLetterPage(items=[_view(letter) for letter in page], next_cursor=cursor))

    @operation(
        "Look at a record that this service could not fold",
        allow=Allow.ADMIN,
        response=DeadLetterWhole,
        errors=(NotFound,),
        tag="dead letters",
    )
    async def get_dead_letter(self, request: Request) -> Response:
        topic, text = str(request.path_params["topic"]), str(request.path_params["position"])
        try:
            position = Position.parse(text)
        except ValueError as error:
            raise InvalidRequest(errors=[FieldError("the position in the path", str(error)[:200])]) from None
        try:
            letter = await self._letters.get(topic, position) if topic in topics.ALL and position.partition < self._partitions else None
        except DATABASE_AWAY as error:
            raise Unavailable(what="The database") from error
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
    return None if raw is None else raw.decode(errors="backslashreplace")
