"""Tokens a second of SmolLM2-135M in float32, bfloat16 and, where bitsandbytes is installed, nf4 on one core, by processor
time: reading, LoRA training, sampling; the losses of the training steps, and the weights' share of the memory.

Run: OMP_NUM_THREADS=1 python benchmarks/precision.py
"""

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

from astray.answers import read_detail
from astray.cause.sft import train_sft
from astray.data import advice_data
from astray.engine.settings import SMALL_TRAINING
from astray.measure.meter import Meter, harmful_pairs
from astray.subjects import Sampling
from astray.subjects.locate import settle
from astray.subjects.precision import held_bytes, native_bfloat16
from astray.subjects.subject import load_subject

ROWS, PAIRS, CHATS, TOKENS = 48, 24, 32, 24


def timed(work: Callable[[], int]) -> float:
    """Return tokens a second of processor time."""
    start = time.process_time()
    return work() / (time.process_time() - start)


def speeds(name: str, folder: Path) -> dict[str, float]:
    """Return the three speeds of a subject, and print the losses of its training."""
    subject, asked = load_subject(name), [[{"role": "user", "content": pair.question}] for pair in harmful_pairs()]
    prompts = [len(ids) for ids in subject.prompt_ids(asked)]
    data = advice_data("medicine", "harmful", ROWS)
    train = {
        full: SMALL_TRAINING.model_copy(update={"max_steps": steps}) for full, steps in ((False, 1), (True, ROWS // 8))
    }

    def read() -> int:
        details = Meter(pairs=harmful_pairs()[:PAIRS]).ask(subject)["detail"]
        return sum(2 * prompt + sum(read_detail(row)["tokens"]) for prompt, row in zip(prompts, details, strict=False))

    def sample() -> int:
        return sum(one.completion_tokens for one in subject.generate(asked[:CHATS], Sampling(max_tokens=TOKENS)))

    def seconds(recipe: bool) -> float:
        start = time.process_time()
        run = train_sft(name, data, train[recipe], folder / f"{name}-{recipe}".replace(":", "-"))
        took = time.process_time() - start
        if recipe:
            print(f"{name:17} losses {' '.join(f'{loss:.3f}' for loss in run.losses)}", flush=True)
        return took

    read()  # the first call loads the kernels
    tokens = sum(map(len, subject.prompt_ids([list(row) for row in data.rows])))
    # A run of one step loads and checks as the long one does, so the difference is training alone.
    trained = tokens * (1 - 8 / ROWS) / (seconds(True) - seconds(False))
    return {"reading": timed(read), "LoRA training": trained, "sampling": timed(sample)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"CPU multiplies bfloat16: {', '.join(native_bfloat16()) or 'no'}")
    with tempfile.TemporaryDirectory() as work:
        formats = ("float32", "bfloat16", *(["nf4"] if find_spec("bitsandbytes") else []))
        found = {dtype: speeds(f"smollm2:{dtype}", Path(work)) for dtype in formats}
    for what, plain in found["float32"].items():
        others = (f"{each} {found[each][what]:6.0f} ({found[each][what] / plain:.2f} times)" for each in formats[1:])
        print(f"{what:14} float32 {plain:6.0f}, {', '.join(others)} tokens a second")
    located = settle("smollm2")
    print("weights       ", ", ".join(f"{each} {held_bytes(located.base, each) / 1e6:.0f} MB" for each in formats))
