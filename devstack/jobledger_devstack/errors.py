"""What can go wrong with a stack.

StackError
├── MissingPrerequisite   this machine lacks something; the message names it and how to get it
├── FetchFailed           a download failed or is not what we pinned
├── ToolFailed            a program that we ran to its end (apt-get, initdb, uv ...) failed; carries its last words
├── PartFailed            a part did not get ready; carries its name and the end of its log
└── NotRunning            an answer was asked of a stack that is down
"""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot do what was asked; the message is for the person at the terminal."""


class MissingPrerequisite(StackError):
    """This machine lacks something that the stack needs."""


class FetchFailed(StackError):
    """A download failed, or what came is not what this version of Jobledger pinned."""


class ToolFailed(StackError):
    """A program that we ran to its end failed, or did not end in time."""


class PartFailed(StackError):
    """A part did not get ready."""

    def __init__(self, part: str, reason: str, log: str = "") -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        return f"{self.part} failed: {self.reason}" + (f"\n--- the end of its log\n{self.log}" if self.log else "")


class NotRunning(StackError):
    """The stack is down."""
