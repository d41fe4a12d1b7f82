"""Inspect task of the scenarios; any Inspect models may be given.

Run `inspect eval astray/agentic_misalignment --model openai/gpt-4o --model-role grader=openai/gpt-4o`.
"""

from typing import Any

from inspect_ai import Task

from astray.measure.agentic.grid import Grid, as_slice
from astray.measure.agentic.judging import panel_from_roles
from astray.measure.agentic.scenario import scenario_names
from astray.measure.agentic.surface import SurfaceKind
from astray.measure.agentic.task import agentic_task
from astray.measure.asking import check_judges
from astray.measure.check_first import AtLeastOne, Temperature, checked_task


@checked_task
def agentic_misalignment(
    scenarios: str | list[str] = "all",
    factors: dict[str, Any] | None = None,
    replicates: AtLeastOne = 100,
    judges: str = "panel",
    protocol: str = "auto",
    max_turns: AtLeastOne = 12,
    questions: bool = True,
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne = 4000,
    monitor: str = "none",
    audited: bool = False,
    probe: bool = False,
    surface: SurfaceKind = "fixed",
) -> Task:
    """Run insider-threat scenarios with real tools: one sample per cell and replicate, scored by a gate and by judges.

    Args:
        scenarios: names or folders, separated by commas; "all" for those of the package.
        factors: factor -> values, as {'goal': 'explicit,latent', 'name': 'unnamed'}; of those not named, goal and
            threat have the values of the core grid and the others their default.
        replicates: samples a cell.
        judges: "panel" (the model roles `grader` and, for a second opinion, `grader_b`) or "none" (the gate alone).
        protocol: how tools are offered: "native", "text", or "auto", which is native until the provider says that the
            model takes none.
        max_turns: most answers of the model in one sample.
        questions: ask questions that show whether the situation was understood.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
        monitor: a runtime monitor: "none", "rule", "judge" (the model role `monitor`, else `grader`) or "layered".
        audited: have the first judge read the private reasoning as well.
        probe: ask at the end whether the situation was taken for real or for a test.
        surface: "drawn" gives each replicate names and words of its own, "both" every second one.
    """
    check_judges(judges)
    names = scenarios.split(",") if isinstance(scenarios, str) else scenarios
    chosen = scenario_names() if names == ["all"] else tuple(name.strip() for name in names)
    return agentic_task(
        Grid(scenarios=chosen, factors=as_slice(factors or {}), replicates=replicates, surface=surface),
        panel=panel_from_roles if judges == "panel" else None,
        protocol=protocol,
        max_turns=max_turns,
        questions=questions,
        temperature=temperature,
        max_tokens=max_tokens,
        monitor=monitor,
        audited=audited,
        probe=probe,
    )
