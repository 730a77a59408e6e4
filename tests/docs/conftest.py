"""The stack that the documents' examples run on."""

from __future__ import annotations

from tests.support.whole_stack import shared_stack

__all__ = ["shared_stack"]
