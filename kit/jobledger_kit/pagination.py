"""Keyset cursors: where a page ended, as an opaque text that the next request brings back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from .errors import FieldError, InvalidRequest

T = TypeVar("T")

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
_MAX_CURSOR_CHARS: Final = 1024


def encode_cursor(*keys: Any) -> str:
    """Write the sort keys of a page's last row (times, texts, numbers) as one text.

    >>> decode_cursor(encode_cursor("ada", 7), tuple[str, int])
    ('ada', 7)
    """
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(keys)).rstrip(b"=").decode()


def decode_cursor(text: str, keys: type[T]) -> T:
    """Read what `encode_cursor` wrote; `keys` is the tuple type of the sort keys. Raises InvalidRequest.

    A cursor is not signed: it only says where to go on in what the caller may see anyway, so a forged one gains nothing.
    """
    try:
        if len(text) > _MAX_CURSOR_CHARS:
            raise ValueError("too long")
        return msgspec.msgpack.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True), type=keys)
    except (ValueError, binascii.Error, RecursionError, msgspec.DecodeError):
        raise InvalidRequest(errors=[FieldError("?cursor", "this is no cursor of this list")]) from None


def cut_page(rows: Sequence[T], limit: int, key: Callable[[T], tuple[Any, ...]]) -> tuple[list[T], str | None]:
    """Split off the page from rows that were asked for with `limit + 1`: the rows, and the cursor of the next page if there is one."""
    page = list(rows[:limit])
    return page, encode_cursor(*key(page[-1])) if len(rows) > limit and page else None
