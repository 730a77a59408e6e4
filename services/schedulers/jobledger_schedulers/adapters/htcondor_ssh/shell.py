"""Steps that an access point's shell does, in one script each time: all of them come to their end, or what happened is raised."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from jobledger_schedulers.adapters.htcondor_ssh import script
from jobledger_schedulers.adapters.htcondor_ssh.link import Answer, Link
from jobledger_schedulers.adapters.port import OutcomeUnknown, Unreachable


class Shell:
    """The shell behind a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def sections(
        self, steps: Mapping[str, str], *, changes: bool = False, on_line: Callable[[str], None] | None = None
    ) -> tuple[dict[str, script.Section], Answer]:
        """Have steps done, whether they succeed or not. Raises OutcomeUnknown or Unreachable when not all came to their end."""
        mark = new_mark()
        answer = await self._link.run(script.script(mark, steps), changes=changes, on_line=on_line)
        found = script.sections(mark, answer.stdout)
        if missing := steps.keys() - found.keys():
            said = script.failure(answer.stderr)
            raise (OutcomeUnknown if changes else Unreachable)(f"the shell at {self._link.where} did not do {', '.join(missing)}: {said}")
        return found, answer

    async def steps(
        self, steps: Mapping[str, str], *, changes: bool = False, on_line: Callable[[str], None] | None = None
    ) -> dict[str, str]:
        """What steps say. Raises what the words of one that failed speak of; nothing is uncertain about what changes nothing."""
        found, answer = await self.sections(steps, changes=changes, on_line=on_line)
        for section in found.values():
            if section.status != 0:
                error = script.failure(f"{answer.stderr} {section.text[-2000:]}")
                raise Unreachable(str(error)) if isinstance(error, OutcomeUnknown) and not changes else error
        return {name: section.text for name, section in found.items()}


def new_mark() -> str:
    """A word that begins what a script of ours says, and that nothing else says."""
    return f"jobledger-{secrets.token_hex(8)}"


def states_in(mark: str, states: dict[str, str]) -> Callable[[str], None]:
    """Put what the marked lines say, a name and its state each, into `states`."""

    def heard(line: str) -> None:
        words = line.split()
        if len(words) == 3 and words[0] == mark:
            states[words[1]] = words[2]

    return heard
