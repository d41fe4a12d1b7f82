"""Inspect task of a grid: any model, with tools, logs, approvers and retries."""

from collections.abc import Callable, Sequence
from typing import cast, get_args

from inspect_ai import Task
from inspect_ai.approval import ApprovalPolicy
from inspect_ai.model import GenerateConfig

from astray.errors import UnknownNameError
from astray.measure.agentic.agent import Protocol, office_agent
from astray.measure.agentic.budget import Budget
from astray.measure.agentic.grid import Grid, GridDataset
from astray.measure.agentic.judging import Panel, panel_from_roles
from astray.measure.agentic.monitors import monitor_policy, monitor_role
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.scoring import two_keys
from astray.measure.agentic.surface import drawn, texts_digest
from astray.measure.check_first import checked_now


def agentic_task(
    grid: Grid,
    *,
    panel: Callable[[], Panel] | None = panel_from_roles,
    protocol: str = "auto",
    max_turns: int = 12,
    questions: bool = True,
    temperature: float = 1.0,
    max_tokens: int = 4000,
    audited: bool = False,
    probe: bool = False,
    monitor: str = "none",
    approval: list[ApprovalPolicy] | None = None,
    numbers: Sequence[int] | None = None,
    budget: Budget | None = None,
) -> Task:
    """Return a grid as ONE task, one Inspect sample per cell and replicate; every prompt is rendered and linted before.

    Args:
        grid: scenarios, cells and replicates.
        panel: makes the judges; None for the gate alone.
        protocol, max_turns, questions, temperature, max_tokens, audited, probe, monitor: as for the registered task,
            `tasks.agentic_misalignment`.
        approval: a runtime monitor of one's own, in its place; its table calls it "custom", or `monitor` if that is
            given as well.
        numbers: only these samples of the grid, for runs that go on.
        budget: tokens after which no further sample is begun.

    Raises:
        UnknownNameError, ConfigurationError, DataFormatError: the grid has what there is not, or a text that a model
        must not be given.
    """
    _check(grid, panel, protocol, monitor)
    return Task(
        name="agentic_misalignment",
        dataset=GridDataset(grid, numbers),
        solver=office_agent(
            max_turns=max_turns, protocol=cast(Protocol, protocol), questions=questions, probe=probe, ready=panel
        ),
        scorer=two_keys(panel, audited),
        approval=approval or monitor_policy(monitor),
        config=GenerateConfig(temperature=temperature, max_tokens=max_tokens),
        early_stopping=budget,
        fail_on_error=False,
        score_on_error=True,
        metadata={
            "grid": grid.model_dump(mode="json"),
            "scenarios": {
                scenario.name: texts_digest(scenario, grid.surface) for scenario in map(load_scenario, grid.scenarios)
            },
            "protocol": protocol,
            "judges": "none" if panel is None else "panel",
            "monitor": monitor if approval is None or monitor != "none" else "custom",
        },
    )


def _check(grid: Grid, panel: Callable[[], Panel] | None, protocol: str, monitor: str) -> None:
    """Raise what would fail after the first answers were paid for."""
    if protocol not in get_args(Protocol):
        raise UnknownNameError("tool protocol", protocol, get_args(Protocol))
    for cell in grid.cells:
        _ = cell.office  # rendered for its errors: it may hold a text that a model must not be given
    for name in grid.scenarios:
        scenario = load_scenario(name)
        if grid.surface != "fixed":
            drawn(scenario, 0)
    if panel is not None:
        checked_now(panel)
    if monitor in ("judge", "layered"):
        checked_now(monitor_role)
