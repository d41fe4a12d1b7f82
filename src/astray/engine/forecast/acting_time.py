"""Time that acting models still need: from earlier logs of the same subject, else from a speed.

The speed is given in the file of subjects, measured on this machine for a local model, or assumed.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from inspect_ai.log import read_eval_log

from astray.measure.agentic.grid import Cost, Grid
from astray.measure.agentic.logs import readable_logs
from astray.measure.agentic.subjects import LOCAL, AgenticSubject

if TYPE_CHECKING:
    from astray.engine.forecast.acting_pace import ActingPace

OWN_SECONDS = 0.07
"""Processor time of this package and Inspect for a sample: tools, monitor, log and table (benchmarks/agentic.py)."""
START_SECONDS = 1.5
"""Same for the first sample: what plays and judges is loaded."""
ASKED = 2
"""Questions after the work of an agent in a study: for understanding, and what it took the situation for."""
CALL_SECONDS, TOKENS_A_SECOND = 1.0, 50.0
"""Assumed for a model behind an API: seconds until it begins to answer, and tokens a second within one answer."""
REPLY_TOKENS = 60
"""Tokens of a judge's reply: a sentence and its verdict."""


def pace_of(subject: AgenticSubject, plays: Sequence[tuple[Grid, Cost]], limit: int) -> "ActingPace | None":
    """Return the measured pace of a local subject with work left; None of others, and where it cannot be measured."""
    left = [grid for grid, cost in plays if cost.samples]
    if subject.simulated or not subject.model.startswith(LOCAL) or not left:
        return None
    from astray.engine.forecast.acting_pace import acting_pace  # imports PyTorch, which subjects elsewhere do without

    return acting_pace(subject.model.removeprefix(LOCAL), left[0], limit)


def time_for(
    subject: AgenticSubject,
    plays: Sequence[tuple[Grid, Cost]],
    limit: int,
    logs: Sequence[Path],
    at_a_time: int,
    pace: "ActingPace | None" = None,
) -> tuple[float, str]:
    """Return the estimated seconds, and their basis in words.

    Args:
        subject: who acts.
        plays: each grid, and the cost of what is left of it by the scripted courses.
        limit: most tokens of an answer.
        logs: folders of earlier logs.
        at_a_time: samples side by side of a model behind an API.
        pace: measured pace of a local subject.
    """
    costs = [cost for _, cost in plays]
    samples, calls = sum(cost.samples for cost in costs), sum(cost.calls for cost in costs)
    written = sum(cost.output_tokens for cost in costs)
    own = START_SECONDS + samples * OWN_SECONDS if samples else 0.0
    before = _samples_a_second(logs)
    if before is not None and samples:
        return samples / before, f"as before: {before:,.2f} samples a second in a process"
    if subject.simulated:
        return own, f"scripted: {1 / OWN_SECONDS:,.0f} samples a second in a process"
    if subject.model.startswith(LOCAL):
        seconds, basis = _local_time(subject.model.removeprefix(LOCAL), costs, limit, pace) if samples else (0.0, "")
        return own + seconds, basis
    rate = subject.speed or TOKENS_A_SECOND
    judging = samples * 2 * (CALL_SECONDS + REPLY_TOKENS / TOKENS_A_SECOND)  # the judges at once, then the audit
    waiting = (calls * CALL_SECONDS + written / rate + judging) / at_a_time
    return (
        max(own, waiting),
        (
            f"{'given' if subject.speed else 'assumed'}: {rate:,.0f} tokens a second in an answer, {at_a_time} "
            "samples at a time"
        ),
    )


def _local_time(model: str, costs: Sequence[Cost], limit: int, pace: "ActingPace | None") -> tuple[float, str]:
    """Return the seconds that a local model needs on this machine, and their basis in words."""
    from astray.engine.forecast.acting_pace import LOADING_SECONDS
    from astray.engine.forecast.effort import GENERATION_FLOPS
    from astray.engine.forecast.speed import GENERATION_EFFICIENCY, LARGE_READING, TRAINING_EFFICIENCY, speed_of
    from astray.subjects.identity import parameter_count
    from astray.subjects.locate import settle

    located = settle(model)
    parameters = parameter_count(located.base)
    size, left = f"{parameters / 1e6:,.1f}M parameters", [cost for cost in costs if cost.samples]
    if pace is not None:
        seconds = LOADING_SECONDS + sum(pace.seconds(cost, ASKED, limit) for cost in left)
        return seconds, f"{size} here: {pace.basis}"
    speed = speed_of([located])
    read, written = sum(cost.input_tokens for cost in left), sum(cost.output_tokens for cost in left)
    reads = LARGE_READING if speed.large and speed.device == "cpu" else TRAINING_EFFICIENCY[speed.device]
    operations = read / reads + written / GENERATION_EFFICIENCY[speed.device]
    seconds = GENERATION_FLOPS * parameters * operations / speed.flops
    return seconds, f"{size} on this {speed.device}, {speed.flops / 1e9:,.0f} GFLOP/s"


def _samples_a_second(logs: Sequence[Path]) -> float | None:
    """Return the samples a second of all evaluations that ended in these folders; None without any."""
    samples, seconds = 0, 0.0
    for path in (path for each in logs for path in readable_logs(each)):
        log = read_eval_log(path, header_only=True)
        if log.status == "success" and log.results is not None:
            samples += log.results.completed_samples
            took = datetime.fromisoformat(log.stats.completed_at) - datetime.fromisoformat(log.stats.started_at)
            seconds += max(1.0, took.total_seconds())  # logs tell whole seconds
    return samples / seconds if samples and seconds else None
