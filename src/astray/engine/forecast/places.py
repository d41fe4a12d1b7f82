"""Forecast of a study on a cluster: GPU-hours, wall time by number of machines, memory, disk and price.

The steps that are left are scheduled as the executor would, each as soon as its inputs are there, with the times that
steps of their kind took in the same place where the store has them. Times that are not measured are computed from the
work and an assumed speed, and said to be assumed; steps of unknown work and time are counted and named.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astray.artifacts import Step, Store
from astray.artifacts.plan import Plan
from astray.artifacts.timings import Timing, timings
from astray.artifacts.workplaces.place import Where
from astray.engine.forecast.amounts import counted, dollars, duration
from astray.engine.forecast.effort import Answering, Grading, Training, added, step_efforts
from astray.engine.forecast.speed import Speed, measure_speed
from astray.engine.options import BaseOptions
from astray.engine.plan import plan_study
from astray.engine.setting import Setting
from astray.engine.settings import settled
from astray.engine.study import F, S, Study
from astray.subjects.precision import held_bytes

MACHINES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
GPU_FLOPS = 300e12
"""Assumed speed of a GPU in large bfloat16 products, as an A100 has; used only where the store has no measured times."""
ENOUGH = 0.98
"""Further machines are not listed once the time is so near to that of the longest chain of steps."""


@dataclass(frozen=True)
class PlaceForecast:
    """What the steps that are left take in a place.

    Attributes:
        place: as the settings name it.
        gpus: GPUs of a step that runs a model; 0 where CPUs do all.
        steps: steps that would run.
        there: steps that are there.
        gpu_seconds: of all GPUs together.
        weights: bytes of the subject's weights; 0 for a served one.
        wall: seconds by number of machines: steps that run a model at a time, or any steps without GPUs.
        measured: steps whose time comes from earlier runs.
        unknown: steps of unknown time by the name of their function; they count as no time.
        memory: largest memory of a step that was measured here, in bytes; None where none was.
        disk: bytes of the artifacts that are left; None where a kind of step has left none yet.
        price: dollars for the GPUs; None without a price.
    """

    place: str
    gpus: float
    steps: int
    there: int
    gpu_seconds: float
    weights: int
    wall: Mapping[int, float]
    measured: int
    unknown: Mapping[str, int] = field(default_factory=dict)
    memory: int | None = None
    disk: int | None = None
    price: float | None = None

    def render(self) -> str:
        """Return the forecast for a terminal."""
        lines = [f"On {self.place}: {counted(self.steps, 'step')} to run, {self.there:,} there"]
        source = f"{self.measured:,} of {self.steps:,} step times measured in earlier runs here"
        if self.measured < self.steps:
            speed = f"a GPU of {GPU_FLOPS / 1e12:.0f} TFLOP/s" if self.gpus else "the speed of this machine"
            source += f", the others computed for {speed}, which is assumed and not measured"
        lines.append(f"  times     {source}")
        if self.unknown:
            told = ", ".join(f"{name} ({count})" for name, count in self.unknown.items())
            lines.append(f"  unknown   not in these times, since no run here has shown what it takes: {told}")
        if self.gpus:
            cost = "" if self.price is None else f", {dollars(self.price)}"
            lines.append(f"  GPUs      {self.gpu_seconds / 3600:,.2f} GPU-hours, {self.gpus:g} a step{cost}")
        for count, seconds in self.wall.items():
            what = "step" if count == 1 else "steps"
            if self.gpus:
                what += " that runs a model" if count == 1 else " that run a model"
            lines.append(f"  wall time {duration(seconds)} with {count:,} {what} at a time")
        memory = f"at most {(self.memory or 0) / 2**30:.1f} GB a step in earlier runs here"
        if self.memory is None:
            memory = f"not measured here yet; the weights alone take {self.weights / 2**30:.2f} GB"
        disk = f"about {(self.disk or 0) / 1e6:,.1f} MB more, as for the steps that are there"
        if self.disk is None:
            disk = "not known until a step of each kind is done"
        return "\n".join([*lines, f"  memory    {memory}", f"  disk      {disk}"])


def forecast_on(
    study: Study[S, F],
    options: BaseOptions,
    where: Where,
    *,
    out: Path,
    store: str | Path | None = None,
    price: float | None = None,
) -> PlaceForecast:
    """Forecast what is left of a study in a place; errors are those of `forecast`.

    Args:
        study, options, out, store: as for `run_study`.
        where: the place.
        price: of an hour of one GPU, in US dollars.
    """
    setting = settled(study, options)
    plan = plan_study(study, setting, *options.runs)
    artifacts = Store(out / "store" if store is None else store)
    if not isinstance(setting, Setting):  # acting models: what a conversation takes is known only from earlier ones
        return place_forecast(plan.steps, artifacts, where, {}, Speed("cpu", 1.0, 1), 0, price)
    precision, parameters = setting.located.precision, setting.subject.parameters
    weights, speed = held_bytes(setting.located.base, precision), measure_speed(1, precision, parameters)
    return place_forecast(plan.steps, artifacts, where, step_efforts(plan, setting), speed, weights, price)


def place_forecast(
    steps: Sequence[Step],
    store: Store,
    where: Where,
    efforts: Mapping[str, tuple[Training | Answering | Grading, ...]],
    speed: Speed,
    weights: int,
    price: float | None = None,
) -> PlaceForecast:
    """Forecast what is left of a study in a place.

    Args:
        steps: all steps of the study.
        store: where finished steps and measured times are looked up.
        where: the place.
        efforts: the work of steps by key, where it is known.
        speed: of one of this machine's processes, for steps without a GPU.
        weights: bytes of the subject's weights.
        price: of an hour of one GPU, in US dollars.
    """
    plan = Plan(steps, store)
    left = {key: step for key, step in plan.steps.items() if key not in plan.done}
    noted = {timing.key: timing for timing in timings(store, where.label)}
    seconds, measured, unknown = _seconds(left, noted, efforts, float(where.gpus), speed)
    gpu_seconds = sum((where.gpus * step.gpu * seconds[key] for key, step in left.items()), 0.0)
    sizes: dict[str, list[int]] = defaultdict(list)
    for artifact in plan.done.values():
        size = sum(record.size for record in artifact.manifest.files.values())
        sizes[artifact.manifest.origin.function].append(size)
    kinds = Counter(step.function.name for step in left.values())
    disk = sum(count * sum(sizes[kind]) / len(sizes[kind]) for kind, count in kinds.items() if sizes[kind])
    return PlaceForecast(
        place=where.label,
        gpus=float(where.gpus),
        steps=len(left),
        there=len(plan.done),
        gpu_seconds=gpu_seconds,
        weights=weights,
        wall=_walls(steps, store, seconds, only_gpu=where.gpus > 0),
        measured=measured,
        unknown=unknown,
        memory=max((max(timing.memory, timing.gpu_memory) for timing in noted.values()), default=None),
        disk=None if kinds.keys() - {kind for kind, known in sizes.items() if known} else round(disk),
        price=None if price is None else price * gpu_seconds / 3600,
    )


def _seconds(
    left: Mapping[str, Step],
    noted: Mapping[str, Timing],
    efforts: Mapping[str, tuple[Training | Answering | Grading, ...]],
    gpus: float,
    speed: Speed,
) -> tuple[dict[str, float], int, dict[str, int]]:
    """Return the time of each step, how many are measured, and the number of unknown ones by function."""
    there = Speed("cuda", GPU_FLOPS * max(1.0, gpus), 1) if gpus else speed
    computed = {key: there.seconds(added(parts)) for key, parts in efforts.items()}
    took: dict[str, list[float]] = defaultdict(list)  # seconds of steps of a function
    ratios: dict[str, list[float]] = defaultdict(list)  # the same by what was computed for them
    for key, timing in noted.items():
        took[timing.function].append(timing.seconds)
        if computed.get(key):
            ratios[timing.function].append(timing.seconds / computed[key])
    seconds: dict[str, float] = {}
    measured, unknown = 0, Counter[str]()
    for key, step in left.items():
        name, work = step.function.name, computed.get(key, 0.0)
        if work and ratios[name]:
            seconds[key] = work * sum(ratios[name]) / len(ratios[name])
        elif took[name]:
            seconds[key] = sum(took[name]) / len(took[name])
        else:
            seconds[key] = work
            unknown[name] += not work
            continue
        measured += 1
    return seconds, measured, {name: count for name, count in unknown.items() if count}


def _walls(steps: Sequence[Step], store: Store, seconds: Mapping[str, float], *, only_gpu: bool) -> dict[int, float]:
    walls: dict[int, float] = {}
    least = simulate(Plan(steps, store), seconds, len(seconds) + 1, only_gpu=only_gpu)
    for count in MACHINES:
        walls[count] = simulate(Plan(steps, store), seconds, count, only_gpu=only_gpu)
        if walls[count] * ENOUGH <= least:
            break
    return walls


def simulate(plan: Plan, seconds: Mapping[str, float], slots: int, *, only_gpu: bool = False) -> float:
    """Return the wall time of a plan, which is used up: each step begins once its inputs are there and a slot is free.

    Args:
        plan: the steps that are left.
        seconds: that each takes, by key.
        slots: steps that run at a time.
        only_gpu: whether only steps that run a model need a slot.
    """
    now, free = 0.0, slots
    at_work: list[tuple[float, str]] = []
    waiting: deque[Step] = deque()  # that need a slot, in the plan's order
    while True:
        while step := plan.next():
            if only_gpu and not step.gpu:
                heapq.heappush(at_work, (now + seconds[step.key], step.key))
            else:
                waiting.append(step)
        while free and waiting:
            step = waiting.popleft()
            free -= 1
            heapq.heappush(at_work, (now + seconds[step.key], step.key))
        if not at_work:
            return now
        now, key = heapq.heappop(at_work)
        free += not only_gpu or plan.steps[key].gpu > 0
        plan.finished(key)
