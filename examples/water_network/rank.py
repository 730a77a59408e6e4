"""The last node of the workflow: join what the groups found, rank it, draw it. Needs matplotlib, for the picture alone.

python rank.py town.json closures-1.json closures-2.json ...      writes closures.json, ranking.csv and map.png
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import simulate

Closure = dict[str, Any]


def ranked(closures: Sequence[Closure]) -> list[Closure]:
    """The worst first; by name where they are equal, so that two runs give the same list."""
    return sorted(closures, key=lambda closure: (-closure["person_hours"], -closure["junctions"], closure["pipe"]))


def share(closure: Closure, facts: dict[str, Any]) -> float:
    """The part of the town that has too little water in the worst hour."""
    return float(closure["people"] / sum(facts["people"].values()))


def save(closures: Sequence[Closure], facts: dict[str, Any], out: Path) -> None:
    """All closures as closures.json and ranking.csv."""
    (out / "closures.json").write_text(json.dumps(closures, indent=1))
    with (out / "ranking.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["rank", "pipe", "person_hours", "people", "junctions", "share", "length_m", "diameter_mm"])
        for rank, closure in enumerate(closures, 1):
            pipe = facts["pipes"][closure["pipe"]]
            numbers = [closure[name] for name in ("person_hours", "people", "junctions")]
            rows.writerow([rank, closure["pipe"], *numbers, f"{share(closure, facts):.4f}", pipe["length_m"], pipe["diameter_mm"]])


def main(argv: list[str]) -> None:
    """See the top of the file."""
    import plot

    facts = json.loads(Path(argv[0]).read_text())
    closures = ranked([closure for file in argv[1:] for closure in json.loads(Path(file).read_text())])
    if sorted(closure["pipe"] for closure in closures) != sorted(simulate.pipes_to_close(facts)):
        raise SystemExit("the groups did not close every pipe once: some answers are missing, or there twice")
    save(closures, facts, Path())
    plot.draw(facts, closures, Path("map.png"))
    print(f"{len(closures)} closures ranked; the worst is {closures[0]['pipe']}")


if __name__ == "__main__":
    main(sys.argv[1:])
