"""Time that acting models still need: from earlier logs of the same subject, else from a speed.

The speed is given in the file of subjects, measured on this machine for a local model, or assumed.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from inspect_ai.log import read_eval_log

from astray.measure.agentic.grid import Cost
from astray.measure.agentic.logs import readable_logs
from astray.measure.agentic.subjects import LOCAL, AgenticSubject

OWN_SECONDS = 0.07
"""Processor time of this package and Inspect for a sample: tools, monitor, log and table (benchmarks/agentic.py)."""
CALL_SECONDS, TOKENS_A_SECOND = 1.0, 50.0
"""Assumed for a model behind an API: seconds until it begins to answer, and tokens a second within one answer."""
REPLY_TOKENS = 60
"""Tokens of a judge's reply: a sentence and its verdict."""


def time_for(subject: AgenticSubject, costs: Sequence[Cost], logs: Sequence[Path], at_a_time: int) -> tuple[float, str]:
    """Return the estimated seconds, and their basis in words."""
    samples, calls = sum(cost.samples for cost in costs), sum(cost.calls for cost in costs)
    read, written = sum(cost.input_tokens for cost in costs), sum(cost.output_tokens for cost in costs)
    own = samples * OWN_SECONDS
    before = _samples_a_second(logs)
    if before is not None and samples:
        return samples / before, f"as before: {before:,.2f} samples a second in a process"
    if subject.simulated:
        return own, f"scripted: {1 / OWN_SECONDS:,.0f} samples a second in a process"
    if subject.model.startswith(LOCAL):
        seconds, pace = _local_time(subject.model.removeprefix(LOCAL), read + written)
        return own + seconds, pace
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


def _local_time(model: str, tokens: int) -> tuple[float, str]:
    """Return the seconds that a local model needs for this many tokens on this machine, and their basis in words."""
    from astray.engine.forecast.effort import GENERATION_FLOPS
    from astray.engine.forecast.speed import GENERATION_EFFICIENCY, speed_of
    from astray.subjects.identity import parameter_count
    from astray.subjects.locate import settle

    located = settle(model)
    parameters, speed = parameter_count(located.base), speed_of([located])
    seconds = GENERATION_FLOPS * parameters * tokens / (speed.flops * GENERATION_EFFICIENCY[speed.device])
    return seconds, f"{parameters / 1e6:,.1f}M parameters on this {speed.device}, {speed.flops / 1e9:,.0f} GFLOP/s"


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
