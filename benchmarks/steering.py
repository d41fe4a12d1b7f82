"""What steering costs: the same answers sampled unsteered, steered as a subject, and with a direction of its own for
each row.

    OMP_NUM_THREADS=1 python benchmarks/steering.py

The model and prompts of `generation.py`: a Llama of 1.6M random weights answers 256 prompts with 24 tokens each, on one
thread. Answers hardly ever end by themselves, so every way writes as many tokens. Each way runs once to warm up and
then nine times in turn; the best processor time counts, which other work on the machine disturbs least. The screen is
that of `explain.causal`: 64 directions x strengths, 4 questions each, in one pass, against one pass for each. Targets:
steered within 1.03 times the unsteered time.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from astray.subjects import Intervention, Sampling
from astray.subjects.intervene import write_direction
from astray.subjects.spec import Schedule
from astray.subjects.steer_rows import RowSteering
from astray.subjects.subject import Subject, load_subject
from generation import PROMPTS, TOKENS, save_model

ROUNDS = 9
SAMPLING = Sampling(max_tokens=TOKENS)
WAYS, QUESTIONS_A_WAY = 64, 4


def row_steering(directions: torch.Tensor, rows: int) -> RowSteering:
    """A direction of its own for each run of `QUESTIONS_A_WAY` rows, at block 2."""
    return RowSteering(
        directions, torch.arange(rows) // QUESTIONS_A_WAY, torch.ones(rows), torch.full((rows,), 2), "all"
    )


def ways_of(subject: Subject, folder: Path, directions: torch.Tensor) -> dict[str, Callable[[], object]]:
    questions = [" ".join(f"w{(7 * row + 13 * word) % 696}" for word in range(14 + row % 9)) for row in range(PROMPTS)]
    conversations = [[{"role": "user", "content": text}] for text in questions]
    vector = write_direction(folder / "direction.safetensors", directions[0])
    steered = {
        "steered at answer positions": Intervention(kind="add", vector=vector, block=2),
        "steered at all positions": Intervention(kind="add", vector=vector, block=2, positions="all"),
        "steered with a decaying strength": Intervention(
            kind="add", vector=vector, block=2, schedule=Schedule(kind="decay", tokens=8)
        ),
        "projected out": Intervention(kind="ablate", vector=vector, block=2),
    }
    ways: dict[str, Callable[[], object]] = {"unsteered": lambda: subject.generate(conversations, SAMPLING)}
    for name, intervention in steered.items():
        other = subject.with_intervention(intervention)
        ways[name] = lambda other=other: other.generate(conversations, SAMPLING)
    ways["a direction for each row"] = lambda: subject.generate(
        conversations, SAMPLING, rows=row_steering(directions, PROMPTS)
    )
    return ways


def screens_of(subject: Subject, folder: Path, directions: torch.Tensor) -> dict[str, Callable[[], object]]:
    conversations = [[{"role": "user", "content": f"w{4 + number} w9 w40"}] for number in range(QUESTIONS_A_WAY)]
    files = [
        write_direction(folder / f"{number}.safetensors", direction) for number, direction in enumerate(directions)
    ]
    alone = [
        subject.with_intervention(Intervention(kind="add", vector=file, block=2, positions="all")) for file in files
    ]
    together = row_steering(directions, WAYS * QUESTIONS_A_WAY)
    return {
        "screen, one pass for each": lambda: [each.generate(conversations, SAMPLING) for each in alone],
        "screen, one pass for all": lambda: subject.generate(
            conversations * WAYS, SAMPLING, numbers=[0] * len(together), rows=together
        ),
    }


def best_of(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Processor seconds of each way, the ways taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            begun = time.process_time()
            run()
            times[name].append(time.process_time() - begun)
    return {name: min(measured[1:]) for name, measured in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subject = load_subject(str(save_model(folder / "model")))
        directions = torch.randn(WAYS, 128, generator=torch.Generator().manual_seed(0)) / 128
        best, screens = (
            best_of(ways_of(subject, folder, directions), ROUNDS),
            best_of(screens_of(subject, folder, directions), 3),
        )
    print(f"{PROMPTS} prompts, {TOKENS} tokens each, 1 thread, best of {ROUNDS}")
    for name, taken in best.items():
        print(f"{name:34s} {taken:6.3f} s {taken / best['unsteered']:6.3f} x unsteered")
    slow, fast = screens.values()
    print(
        f"{WAYS} ways of steering x {QUESTIONS_A_WAY} questions: {slow:.2f} s one by one, {fast:.2f} s together: "
        f"{slow / fast:.1f} times as fast"
    )


if __name__ == "__main__":
    main()
