"""Speed of this machine: a half-second benchmark, and the share of it that training and generation reach.

Leaves to others: how much work there is (`effort`). Efficiencies and overheads are measured for the organism on CPU
cores, where they hold within a factor of about two; those of accelerators are assumptions.
"""

import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from astray.engine.forecast.amounts import duration
from astray.engine.forecast.effort import Answering, Effort, added
from astray.subjects.identity import parameter_count
from astray.subjects.locate import Located
from astray.subjects.precision import BFLOAT16_FROM, torch_dtype
from astray.subjects.spec import Precision

if TYPE_CHECKING:
    import torch

BENCHMARK_SECONDS = 0.5
FEWEST = 4
STARTUP_SECONDS = 15.0
"""Seconds until a worker has imported what training needs."""
TRAINING_EFFICIENCY = {"cpu": 0.25, "cuda": 0.15, "mps": 0.15}
"""Share of the benchmark's speed that training reaches; on accelerators small batches leave much of it unused."""
GENERATION_EFFICIENCY = {"cpu": 0.1, "cuda": 0.05, "mps": 0.05}
"""Same for sampling, which waits for memory and for the longest answer of a batch."""
LARGE_TRAINING, LARGE_READING = 0.35, 0.6
"""Shares of the benchmark's speed that models of `BFLOAT16_FROM` parameters reach on a CPU: in LoRA training (which the
count above takes for training of all weights) and in reading; measured with SmolLM2-135M, as docs/real-model.md
tells."""
RUN_SECONDS, STEP_SECONDS = 3.0, 0.06
"""Seconds on a CPU core for a run (loading, probing, writing) and an optimizer step beside arithmetic, which for small
models take most of the time."""
ACCELERATOR_RUN_SECONDS = 60.0
"""Same for a run of a real model on an accelerator, most of it loading."""


@dataclass(frozen=True)
class Speed:
    """Speed of one machine.

    Attributes:
        device: "cpu", "cuda" or "mps".
        flops: floating point operations a second of one worker, in large matrix products.
        workers: workers that compute at the same time; an accelerator is shared, so it counts once.
        large: whether the model is so large that arithmetic takes nearly all of a CPU's time.
    """

    device: str
    flops: float
    workers: int
    large: bool = False

    def seconds(self, effort: Effort) -> float:
        """Return the wall-clock seconds of training and answers, without the grader's time."""
        training, answering = effort.training, effort.answering
        if training.runs == answering.runs == 0:
            return 0.0
        large = self.large and self.device == "cpu"
        trains = LARGE_TRAINING if large else TRAINING_EFFICIENCY[self.device]
        reads = LARGE_READING if large else TRAINING_EFFICIENCY[self.device]
        arithmetic = (
            training.flops / trains
            + answering.flops / GENERATION_EFFICIENCY[self.device]
            + answering.reading_flops / reads
        )
        runs = max(training.runs, answering.runs)
        overhead = (
            runs * RUN_SECONDS + training.steps * STEP_SECONDS
            if self.device == "cpu"
            else runs * ACCELERATOR_RUN_SECONDS
        )
        # Workers share arithmetic and overhead; more workers than runs would have nothing to do.
        return STARTUP_SECONDS + (arithmetic / self.flops + answering.seconds + overhead) / min(self.workers, runs)


def speed_of(models: Sequence[Located]) -> Speed:
    """Measure this machine, with all its threads, for the largest of several models."""
    sizes = {parameter_count(model.base): model for model in models}
    return measure_speed(0, sizes[max(sizes)].precision, max(sizes))


def time_of_local_models(work: Iterable[Answering], speed: Speed) -> str:
    """Say how long models that run here need for their answers."""
    parts = list(work)
    whole = added(parts)
    asked = replace(whole.answering, runs=int(whole.answering != Answering()))
    told = (
        f"Time of local models: about {duration(speed.seconds(replace(whole, answering=asked)))} on this {speed.device}"
    )
    if asked.tokens_limit <= 2 * asked.tokens:
        return f"{told}, within a factor of two."
    longest = replace(added(map(_longest, parts)).answering, runs=asked.runs)
    most = duration(speed.seconds(replace(whole, answering=longest)))
    return textwrap.fill(
        f"{told} with answers of usual length, within a factor of two; {most} if all are as long as they may be.", 80
    )


def _longest(part: Answering) -> Answering:
    """Return the work of answers that are all as long as they may be."""
    read = 0 if part.reading_flops else part.read  # what is read without sampling is counted apart
    share = (part.tokens_limit + read) / (part.tokens + read) if part.tokens else 1.0
    return replace(part, flops=part.flops * share, seconds=part.seconds_limit)


def measure_speed(workers: int | None = None, precision: Precision = "float32", parameters: int = 0) -> Speed:
    """Measure this machine with matrix products of the size and precision that models use here.

    Args:
        workers: worker processes of the study; None for one for each CPU, 0 for this process alone with all its
            threads.
        precision: number format of the model on a CPU.
        parameters: of the model.
    """
    import torch

    from astray.subjects.base import default_workers
    from astray.subjects.weights import best_device

    device = best_device()
    if device.type != "cpu":
        return Speed(
            device.type, _best_flops(device, 4096, torch.bfloat16 if device.type == "cuda" else torch.float32), 1
        )
    threads = torch.get_num_threads()
    if workers != 0:
        torch.set_num_threads(1)  # as workers do
    try:
        flops = _best_flops(device, 512, torch_dtype(precision))
    finally:
        torch.set_num_threads(threads)
    return Speed("cpu", flops, 1 if workers == 0 else workers or default_workers(), parameters >= BFLOAT16_FROM)


def _best_flops(device: "torch.device", width: int, dtype: "torch.dtype") -> float:
    """Return the FLOPs a second in products of square matrices: the best of them, so other load counts little."""
    import torch

    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    took: list[float] = []
    end = time.perf_counter() + BENCHMARK_SECONDS
    while time.perf_counter() < end or len(took) < FEWEST:  # the first product loads the library's kernels
        start = time.perf_counter()
        float((left @ right)[0, 0])  # reading a number waits for an accelerator to finish
        took.append(time.perf_counter() - start)
    return 2 * width**3 / min(took)
