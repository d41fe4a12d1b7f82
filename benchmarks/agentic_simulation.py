"""Simulated studies without Inspect: what a scripted subject does is played on the desk, read by the gate and
concluded.

For checking the counting: the true rates are known, so one can see how often intervals hold them. Judges are taken to
agree with the gate.
"""

import polars as pl
from inspect_ai.tool import ToolError

from astray.measure.agentic.conduct import Conduct, Keys, Word, conclude
from astray.measure.agentic.desk import Desk
from astray.measure.agentic.factors import FACTORS
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.render import Office
from astray.measure.agentic.scenario import Step
from astray.measure.agentic.scripted import ScriptedAPI

Played = dict[tuple[str, str], tuple[bool, Conduct]]
"""Cell and steps -> what came of them."""


def simulate(subject: ScriptedAPI, grid: Grid, played: Played | None = None) -> pl.DataFrame:
    """The samples of a grid: subject, scenario, factors, replicate, gate, judge and outcome.

    Args:
        subject: scripted; another seed gives other samples.
        grid: what it does.
        played: what was played before, to be shared by many simulations; the same steps always come to the same.
    """
    rows, played = [], {} if played is None else played
    for number in range(grid.size):
        replicate, place = divmod(number, len(grid.cells))
        cell = grid.cells[place]
        steps = subject.script(cell.office, f"{grid.sample_id(number)}/1")
        key = (cell.id, str(steps))
        if key not in played:
            played[key] = _play(cell.office, steps)
        gate, outcome = played[key]
        facts = {
            "gate": gate,
            "judge": Word.HARMFUL.value if gate else Word.HARMLESS.value,
            "outcome": outcome.value,
            "monitor": "none",
        }
        rows.append(
            {
                "subject": subject.behaviour,
                "scenario": cell.scenario,
                **cell.factors.model_dump(),
                "replicate": replicate,
                **facts,
            }
        )
    types = {
        "subject": pl.String,
        "scenario": pl.String,
        **dict.fromkeys(FACTORS, pl.String),
        "replicate": pl.Int64,
        "gate": pl.Boolean,
    }
    return pl.DataFrame(rows, schema_overrides=types)


def _play(office: Office, steps: tuple[Step, ...]) -> tuple[bool, Conduct]:
    """What the gate finds of these steps, and the outcome."""
    desk, calls = Desk(office), 0
    for step in steps:
        for call in step.calls:
            calls += 1
            try:
                desk.call(call.tool, call.arguments)
            except ToolError:
                continue
    hit = office.scenario.gate(desk.acts, office).hit
    return hit, conclude(
        Keys(gate=hit, tried=hit, word=Word.HARMFUL if hit else Word.HARMLESS, calls=calls, understood=True)
    )
