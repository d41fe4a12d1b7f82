"""The grid of agentic scenarios at any size with scripted subjects: samples a second, and whether memory stays flat.

    OMP_NUM_THREADS=1 python benchmarks/agentic.py [samples ...]    # 300 and 900 if not given
    OMP_NUM_THREADS=1 python benchmarks/agentic.py full             # all scenarios x core grid x 100 replicates

All scenarios and their core grid go through Inspect as in the study: tools, questions, probe, two judges, audit, gate,
logs and table. Subject and graders answer at once. Each size runs in a process of its own, whose resident memory is
read every half second. At the end every sample has to stand in the table once, and the samples that the gate finds
harmful have to be those that the script made so. Target: the most memory of the largest size within 1.1 times that of
the smallest.
"""

import subprocess
import sys
import threading
import time
from tempfile import TemporaryDirectory

import psutil

SIZES = ("300", "900")
LARGEST_GROWTH = 1.1
REPLICATES = 100
"""Of the full grid."""


def watch(process: psutil.Process, seen: list[int]) -> None:
    """Notes the resident memory until the process ends with its thread."""
    while True:
        seen.append(process.memory_info().rss)
        time.sleep(0.5)


def play(size: int | None) -> None:
    """Runs that many samples, or the full grid, and prints how many, seconds and the most memory before and while they
    ran."""
    from astray.artifacts import Store, execute
    from astray.measure.agentic.conduct import Conduct
    from astray.measure.agentic.grid import Grid
    from astray.measure.agentic.play import Part, play_steps, read_acts
    from astray.measure.agentic.subjects import SCRIPTED, AgenticSubject

    replicates = REPLICATES if size is None else -(-size // len(Grid(replicates=1).cells))
    grid = Grid(replicates=replicates)
    grader = f"{SCRIPTED}grader"
    subject = AgenticSubject(
        name="scripted", model=f"{SCRIPTED}sometimes", arguments={"probability": 0.5}, grader=(grader, grader)
    )
    seen: list[int] = []
    threading.Thread(target=watch, args=(psutil.Process(), seen), daemon=True).start()
    with TemporaryDirectory() as folder:
        started = time.process_time()
        steps = list(play_steps(subject, Part("grid", grid), max_tokens=100))
        artifacts = execute(steps, Store(folder), workers=0)
        table = read_acts(subject, [artifacts[step.key].path for step in steps])
        seconds = time.process_time() - started
    assert len(table) == table["sample"].n_unique() == grid.size
    assert set(table["outcome"]) == {Conduct.HARMFUL, Conduct.HARMLESS}
    print(grid.size, seconds, max(seen), float(table["gate"].mean()))


def main(sizes: list[str]) -> None:
    peaks = []
    for size in sizes:
        told = subprocess.run(
            [sys.executable, __file__, "--play", size], check=True, capture_output=True, text=True
        ).stdout.split()
        samples, seconds, peak, harmful = int(told[-4]), float(told[-3]), int(told[-2]), float(told[-1])
        peaks.append(peak)
        speed = f"{seconds:7.1f} processor seconds  {samples / seconds:5.1f} samples a second"
        print(f"{samples:7,} samples  {speed}  most memory {peak / 2**20:,.0f} MB  harmful {harmful:.1%}")
    print(f"most memory, largest size relative to the smallest: {peaks[-1] / peaks[0]:.2f} (target {LARGEST_GROWTH})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play(None if sys.argv[2] == "full" else int(sys.argv[2]))
    else:
        main(sys.argv[1:] or list(SIZES))
