"""How many isolated runs a second a warm runner gives, beside a bubblewrapped pytest call each; how grading grows with
workers; what stays behind.

Run: python benchmarks/sandbox.py [gradings]    # 1,000 if not given; the target is 100,000
"""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from astray.data.exercise_families import generate_exercises
from astray.sandbox import Grader, Job, Limits, Pool, Profile, Runner
from astray.sandbox.graders import GRADING_LIMITS, public_tests, pytest_profile, truth_job
from astray.sandbox.hacks import EXAMPLES

GRADINGS = 1_000
RUNS_A_SECOND_AND_CORE, FASTER_THAN_PYTEST = 20, 10
COLD_CALLS, WARM_RUNS, ROUNDS = 3, 60, 3


def main(gradings: int) -> None:
    exercises = generate_exercises(40)
    beside_pytest(exercises)
    growth(exercises)
    leaks(exercises, gradings)


def beside_pytest(exercises) -> None:
    """Warm runs and cold pytest calls take turns; the fastest round of each counts."""
    jobs = {
        "true grader": [truth_job(exercise, exercise.reference, "n", GRADING_LIMITS) for exercise in exercises],
        "careless grader": [Job("careless:script", files(exercise), GRADING_LIMITS) for exercise in exercises],
    }
    best = dict.fromkeys([*jobs, "careless grader, pytest", "cold pytest"], float("inf"))
    with Pool(1) as pool, Pool(1, pytest_profile()) as with_pytest:
        for _ in range(ROUNDS):
            for name, each in jobs.items():
                best[name] = min(
                    best[name], seconds_a_run(partial(pool.run, (each * WARM_RUNS)[:WARM_RUNS]), WARM_RUNS)
                )
            pytest_jobs = [Job("careless:with_pytest", files(exercise), GRADING_LIMITS) for exercise in exercises[:10]]
            best["careless grader, pytest"] = min(
                best["careless grader, pytest"], seconds_a_run(partial(with_pytest.run, pytest_jobs), len(pytest_jobs))
            )
            best["cold pytest"] = min(
                best["cold pytest"],
                seconds_a_run(lambda: [cold(exercise) for exercise in exercises[:COLD_CALLS]], COLD_CALLS),
            )
    for name, seconds in best.items():
        ratio = (
            ""
            if name == "cold pytest"
            else (
                f", {best['cold pytest'] / seconds:.0f} times as fast as a bubblewrapped pytest call each (target "
                f"{FASTER_THAN_PYTEST})"
            )
        )
        print(f"{name}: {1 / seconds:.1f} runs a second on one core (target {RUNS_A_SECOND_AND_CORE}){ratio}")


def cold(exercise) -> None:
    """A sandbox of its own in which pytest starts, runs the public tests and ends."""
    profile = pytest_profile()
    with Runner(Profile(session=True, packages=profile.packages)) as runner:
        script = "\n".join(
            f"cat > {name} <<'END-OF-FILE'\n{text}\nEND-OF-FILE" for name, text in files(exercise)["files"].items()
        )
        command = [
            "/bin/sh",
            "-c",
            f"{script}\nPYTHONPATH=/packages python3 -m pytest -q -p no:cacheprovider test_public.py",
        ]
        run = runner.do(
            "shell:execute",
            {"command": command, "input": "", "cwd": "/work", "env": {}},
            Limits(wall_seconds=60, cpu_seconds=60),
        )
        assert run.code == 0, run


def growth(exercises) -> None:
    """Gradings a second, of two runs each, with one worker and with one a core."""
    rates = {}
    for workers in sorted({1, os.cpu_count() or 1}):
        with Grader(workers=workers) as grader:
            solutions = [exercise.reference for exercise in exercises]
            grader.grade(exercises, solutions)
            rates[workers] = max(
                1 / seconds_a_run(partial(grader.grade, exercises * 5, solutions * 5), 5 * len(exercises))
                for _ in range(ROUNDS)
            )
    print("gradings a second, by workers:", ", ".join(f"{workers}: {rate:.1f}" for workers, rate in rates.items()))


def leaks(exercises, gradings: int) -> None:
    """Honest, hacking and broken solutions; what is left of processes, descriptors and memory."""
    solutions = [exercise.reference for exercise in exercises]
    for place, source in enumerate(
        [
            *EXAMPLES.values(),
            "def {entry}(*a): raise ValueError",
            "1 +",
            "open('left', 'w')",
            "import os\nos.mkfifo('pipe')",
        ]
    ):
        solutions[place] = source.replace("{entry}", "solve")
    before = state()
    with Grader() as grader:
        grader.grade(exercises, solutions)
        warm, begun = state(), time.perf_counter()
        for _ in range(gradings // len(exercises)):
            grader.grade(exercises, solutions)
        seconds, after = time.perf_counter() - begun, state()
    print(f"{gradings:,} gradings in {seconds:.0f} s, {gradings / seconds:.0f} a second")
    print(
        f"processes, descriptors, temporary files: before {before}, while warm {warm}, after them {after}, closed "
        f"{state()}"
    )


def state() -> tuple[int, int, int]:
    """Processes under this one, its open descriptors, and what lies in the folder for temporary files."""
    return (
        len(psutil.Process().children(recursive=True)),
        len(list(Path("/proc/self/fd").iterdir())),
        len(list(Path(tempfile.gettempdir()).iterdir())),
    )


def files(exercise) -> dict[str, dict[str, str]]:
    return {"files": {"solution.py": exercise.reference, "test_public.py": public_tests(exercise)}}


def seconds_a_run(act, runs: int) -> float:
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) / runs


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else GRADINGS)
