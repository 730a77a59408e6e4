"""What one job does: close pipes one after the other and count who is left without enough water. Needs `wntr` and nothing else.

    python simulate.py prepare ky10 town.inp town.json        once: make one of wntr's published networks ready to be asked
    python simulate.py close town.inp town.json 3/12          in a job: every 12th pipe, from the third on; writes closures-3.json

The hydraulics are EPANET's own engine, opened once and solved again for every closure. Demand is pressure driven: below the required
pressure a junction gets only a part of what it asks for.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

CLOSED_HOURS = 6  # how long a pipe stays closed: a usual repair
REQUIRED_M = 14.06  # metres of pressure (20 psi): the least that most codes require, and that a fire engine can work with
MINIMUM_M = 3.52  # metres (5 psi): below this nothing comes out of the tap
INITSTATUS, PRESSURE = 4, 11  # EPANET's numbers of what is set and read
CLOSED, OPEN = 0, 1


def prepare(name: str, network_file: Path, facts_file: Path) -> None:
    """Write a network as EPANET input in metres and litres, and what else is to be known of it as JSON."""
    import wntr

    network = wntr.network.WaterNetworkModel(str(Path(wntr.__file__).parent / "library" / "networks" / f"{name}.inp"))
    network.options.time.duration = CLOSED_HOURS * 3600
    network.options.hydraulic.demand_model = "PDD"
    network.options.hydraulic.required_pressure = REQUIRED_M
    network.options.hydraulic.minimum_pressure = MINIMUM_M
    wntr.network.write_inpfile(network, str(network_file), units="LPS")
    people = wntr.metrics.population(network)
    facts = {
        "network": name,
        "closed_hours": CLOSED_HOURS,
        "required_m": REQUIRED_M,
        "people": {junction: int(people[junction]) for junction in network.junction_name_list},
        "places": {node: list(network.get_node(node).coordinates) for node in network.node_name_list},
        "reservoirs": network.reservoir_name_list,
        "tanks": network.tank_name_list,
        "pipes": {pipe: _pipe_facts(network.get_link(pipe)) for pipe in network.pipe_name_list},
    }
    facts_file.write_text(json.dumps(facts))


def _pipe_facts(pipe: Any) -> dict[str, Any]:
    return {
        "from": pipe.start_node_name,
        "to": pipe.end_node_name,
        "vertices": [list(point) for point in pipe.vertices],
        "length_m": round(pipe.length, 1),
        "diameter_mm": round(pipe.diameter * 1000),
        "check_valve": bool(pipe.check_valve),  # it opens and closes by itself; EPANET lets nobody else do it
    }


def pipes_to_close(facts: dict[str, Any]) -> list[str]:
    """All pipes of the network but check valves."""
    return [name for name, pipe in facts["pipes"].items() if not pipe["check_valve"]]


def close_pipes(
    network: str, people: dict[str, int], pipes: Iterable[str], on_closure: Callable[[int], None] = lambda done: None
) -> list[dict[str, Any]]:
    """For each pipe: who has too little water while it is closed, of those who have enough otherwise.

    `people` and `junctions` are those of the worst hour, `person_hours` the sum over all hours. The engine is the thread-safe one and
    its files are in a folder of their own: any number of these may run at once.
    """
    from wntr.epanet.toolkit import ENepanet

    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "network.inp")
        source.write_text(network)
        engine = ENepanet(version=2.2)
        engine.ENopen(str(source), str(Path(scratch, "network.rpt")), str(Path(scratch, "network.bin")))
        try:
            junctions = {junction: engine.ENgetnodeindex(junction) for junction in people}
            usual = list(_short_of_water(engine, junctions))
            for number, pipe in enumerate(pipes, 1):
                link = engine.ENgetlinkindex(pipe)
                engine.ENsetlinkvalue(link, INITSTATUS, CLOSED)
                hours = [now - before for now, before in zip(_short_of_water(engine, junctions), usual, strict=True)]
                engine.ENsetlinkvalue(link, INITSTATUS, OPEN)
                affected = [sum(people[junction] for junction in short) for short in hours]
                worst = max(hours, key=lambda short: (sum(people[junction] for junction in short), len(short)))
                found.append(
                    {"pipe": pipe, "person_hours": sum(affected), "people": max(affected), "junctions": len(worst), "where": sorted(worst)}
                )
                on_closure(number)
        finally:
            engine.ENclose()
    return found


def _short_of_water(engine: Any, junctions: dict[str, int]) -> Iterator[set[str]]:
    """Solve the network anew; for each hour that begins, the junctions with less than the required pressure."""
    engine.ENopenH()
    engine.ENinitH(10)  # from the same first guess every time, so that the order of closures cannot matter
    step = 1
    while step > 0:
        now = engine.ENrunH()
        if now % 3600 == 0 and now < CLOSED_HOURS * 3600:
            yield {junction for junction, index in junctions.items() if engine.ENgetnodevalue(index, PRESSURE) < REQUIRED_M}
        step = engine.ENnextH()
    engine.ENcloseH()


class Reporter:
    """Tells Jobledger how far this run is, with the credential that the run was given; does nothing outside a job."""

    def __init__(self, total: int, every_s: float = 1.0) -> None:
        self._total, self._every_s, self._last = total, every_s, time.monotonic()
        self._url = os.environ.get("JOBLEDGER_CALLBACK_URL", "")
        file = os.environ.get("JOBLEDGER_CREDENTIAL_FILE", "")
        self._token = Path(file).read_text().strip() if file else ""

    def __call__(self, done: int) -> None:
        """Report, but not more often than is of use. A report that does not get through must not cost the simulation."""
        early = done < self._total and time.monotonic() - self._last < self._every_s
        if early or not (self._url and self._token):
            return
        self._last = time.monotonic()
        report = {"status": "Running", "progress": round(done / self._total, 3), "message": f"{done} of {self._total} pipes closed"}
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url, json.dumps(report).encode(), headers)
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5).close()
        except urllib.error.HTTPError as error:
            print(f"progress was not taken: {error.code} {error.read().decode(errors='replace')}", file=sys.stderr)
        except OSError as error:
            print(f"progress was not reported: {error}", file=sys.stderr)


def main(argv: list[str]) -> None:
    """See the top of the file."""
    if argv[0] == "prepare":
        prepare(argv[1], Path(argv[2]), Path(argv[3]))
        return
    network, facts = Path(argv[1]).read_text(), json.loads(Path(argv[2]).read_text())
    part, parts = map(int, argv[3].split("/"))
    pipes = pipes_to_close(facts)[part - 1 :: parts]
    began = time.monotonic()
    found = close_pipes(network, facts["people"], pipes, Reporter(len(pipes)))
    Path(f"closures-{part}.json").write_text(json.dumps(found))
    print(f"{len(found)} pipes closed one by one in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
