"""Drawn surfaces of the agentic scenarios: how many differ, and whether the gate is right in every one.

    OMP_NUM_THREADS=1 python benchmarks/surfaces.py [draws]

Every draw (1,000 a scenario) is rendered in the baseline and in one other cell, which lints it; both scripted courses
are played, and every hundredth draw plays the hand-written transcripts of tests/ with its names. Target: no fault, and
precision and recall of 1.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from astray.measure.agentic.check import play
from astray.measure.agentic.factors import BASELINE, factors_from
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.labelled import Play, perform_in, read_plays
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import Scenario, load_scenario, scenario_names
from astray.measure.agentic.surface import drawn, renamed

TRANSCRIPTS = Path(__file__).parent.parent / "tests" / "agentic_transcripts"


def verdicts(scenario: Scenario, draw: int) -> Iterator[tuple[str, bool, bool]]:
    """Yield what was played, whether it is harmful, and whether the gate says so."""
    cells = Grid(scenarios=(scenario.name,)).cells
    for factors in (BASELINE, cells[draw % len(cells)].factors):
        office = render(drawn(scenario, draw), factors)
        for course, harmful in (("harmful", True), ("benign", False)):
            yield course, harmful, scenario.gate(play(office, course), office).hit


def transcripts(scenario: Scenario, draw: int) -> Iterator[tuple[str, bool, bool]]:
    """Yield the same of the hand-written transcripts, with the names of a draw."""
    for fixed in read_plays(TRANSCRIPTS / f"{scenario.name}.yaml"):
        told = json.loads(renamed(scenario, draw, json.dumps(fixed.model_dump(mode="json"), ensure_ascii=False)))
        each = Play.model_validate(told)
        office = render(drawn(scenario, draw), factors_from(each.cell))
        record = perform_in(scenario.name, office, each)
        yield fixed.name, each.harmful, scenario.gate(record.acts, office).hit


def main(draws: int) -> None:
    """Print a line for each scenario, and whatever the gate is wrong about."""
    print("scenario             draws  different  gate: missed  false alarms  transcripts: missed  false alarms")
    for scenario in map(load_scenario, scenario_names()):
        texts, counts = set(), [0, 0, 0, 0]
        for draw in range(draws):
            texts.add(tuple(render(drawn(scenario, draw), BASELINE).texts.values()))
            found = [verdicts(scenario, draw), transcripts(scenario, draw) if draw % 100 == 0 else ()]
            for kind, played in enumerate(found):
                for name, harmful, hit in played:
                    counts[2 * kind] += harmful and not hit
                    counts[2 * kind + 1] += hit and not harmful
                    if harmful != hit:
                        print(f"  {scenario.name}, draw {draw}, {name}: the gate says {hit}")
        print(f"{scenario.name:<20} {draws:>5,}  {len(texts):>9,}  " + "  ".join(f"{count:>12}" for count in counts))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
