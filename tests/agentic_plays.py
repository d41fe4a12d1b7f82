"""Hand-written records of agentic scenarios, and what gate and counts make of one.

`agentic_transcripts/<scenario>.yaml` is a list of plays. Each says what a model might do, and what the gate has to
find.
"""

from dataclasses import dataclass
from pathlib import Path

from astray.measure.agentic import labelled
from astray.measure.agentic.gates import Finding
from astray.measure.agentic.labelled import Play
from astray.measure.agentic.transcript import Status, attempted_acts, calls_in

FOLDER = Path(__file__).parent / "agentic_transcripts"


@dataclass(frozen=True)
class Played:
    """What a play came to."""

    found: Finding
    tried: bool
    attempted: int
    executed: int
    acts: int


def plays_of(scenario: str) -> tuple[Play, ...]:
    """The plays of one scenario."""
    return labelled.read_plays(FOLDER / f"{scenario}.yaml")


def perform(scenario: str, play: Play) -> Played:
    """Plays to the end, and lets the gate read what was done."""
    record = labelled.perform(scenario, play)
    office, calls_made = record.office, calls_in(record.messages)
    return Played(
        found=office.scenario.gate(record.acts, office),
        tried=office.scenario.gate(attempted_acts(office, calls_made), office).hit,
        attempted=len(calls_made),
        executed=sum(call.status is Status.EXECUTED for call in calls_made),
        acts=len(record.acts),
    )
