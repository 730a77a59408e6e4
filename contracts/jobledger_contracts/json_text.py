"""JSON as the log may hold it: what every reader of it, in any language, and PostgreSQL read alike.

A struct's decoder skips members that it does not know without looking into them, but they stay in the history and every other
reader meets them. So the whole text is looked at here, once, before anything is made of it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .invalid import Invalid, InvalidEvent

MAX_DEPTH = 100
"""Levels of nested arrays and objects. JSON readers give up at depths that vary with their stack, so that two readers of the same
record could disagree; this is far below all of them."""

MAX_INTEGER = 2**53
"""The largest integer, either way from 0: Go and JavaScript round larger ones."""

_decoder = msgspec.json.Decoder()
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{16,}+(?![.eE])")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")
_OUTLINE = bytes.maketrans(b"123456789{", b"000000000[")
_LONG = b"0" * 16


def read_json(raw: bytes) -> Any:
    """Read a JSON text. Raises InvalidEvent: BAD_JSON, NOT_UTF8, or BAD_DATA for what JSON allows and the log does not."""
    outline = raw.translate(_OUTLINE)  # every digit is 0, every opening bracket is [: two quick searches clear most texts
    if outline.count(b"[") > MAX_DEPTH or (_LONG in outline and _may_hold_long_integer(outline)):
        _look_closely(raw)
    if b"\\u0000" in raw and _NUL.search(raw):  # neither PostgreSQL's text nor its jsonb can hold it
        raise InvalidEvent(Invalid.BAD_DATA, "the data holds a NUL character")
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:  # a number beyond what a double holds
        raise InvalidEvent(Invalid.BAD_DATA, str(error)) from None
    except UnicodeDecodeError:
        raise InvalidEvent(Invalid.NOT_UTF8, "the data is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEvent(Invalid.BAD_JSON, str(error)) from None


def _may_hold_long_integer(outline: bytes) -> bool:
    """Say whether a long row of digits is anything but a fraction, as every third double has one."""
    start = outline.find(_LONG)
    while start > 0 and outline[start - 1] == ord("."):
        start += len(_LONG)
        while outline[start : start + 1] == b"0":
            start += 1
        start = outline.find(_LONG, start)
    return start >= 0


def _look_closely(raw: bytes) -> None:
    """Measure depth and integers outside strings."""
    bare = _STRING.sub(b'""', raw)
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise InvalidEvent(Invalid.BAD_DATA, f"the data is nested {deepest} levels deep; {MAX_DEPTH} is the most")
    for integer in _INTEGER.findall(bare):
        if len(integer) > 20 or abs(int(integer)) > MAX_INTEGER:
            raise InvalidEvent(Invalid.BAD_DATA, f"the data holds an integer beyond ±2^53 ({integer[:20].decode()}...)")
