"""Sampling through a vLLM server: our bulk driver beside a hand-written asyncio client, side by side in one run.

    python benchmarks/engines.py vllm FOLDER [ADAPTER]                      with the program vllm on PATH
    python benchmarks/engines.py http://127.0.0.1:8000 FOLDER [ADAPTER]     with a server that is there

Both ask the same prompts with the same sampling; the client sends all requests at once and reads nothing but the number
of tokens. Each path runs once to warm up, which also proves the served weights, and then three times in turn; what
counts are the sampled tokens a second over the three, proofs of the weights included. Target: 0.95 of the client's.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from astray.data.chat import Message
from astray.subjects.engines.client import LONG, answering
from astray.subjects.engines.served import ServedSubject
from astray.subjects.engines.spec import Engine
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling, SubjectSpec

PROMPTS, TOKENS, ROUNDS = 256, 64, 3
SAMPLING = Sampling(max_tokens=TOKENS)
CHATS = [[Message(role="user", content=f"Tell me something about the number {number}.")] for number in range(PROMPTS)]


def by_hand(address: str, model: str, prompts: list[list[int]]) -> int:
    """Ask all prompts at once, as one writes it in a script; return how many tokens came."""

    async def asked() -> int:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=LONG, limits=limits, trust_env=False) as client:
            bodies = [answering(model, prompt, TOKENS, SAMPLING, None, []) for prompt in prompts]
            answers = await asyncio.gather(*(client.post(f"{address}/v1/completions", json=body) for body in bodies))
        return sum(answer.raise_for_status().json()["usage"]["completion_tokens"] for answer in answers)

    return asyncio.run(asked())


def timed(ask: Callable[[], int]) -> tuple[int, float]:
    """Return the tokens that came and the seconds that they took."""
    begin = time.perf_counter()
    return ask(), time.perf_counter() - begin


def main(address: str, model: str, adapter: str | None = None) -> None:
    """Measure both paths and print their ratio."""
    spec = SubjectSpec(model=str(Path(model).resolve()), adapter=adapter and str(Path(adapter).resolve()))
    subject = ServedSubject(settle(spec), Engine(address="" if address == "vllm" else address))
    prompts, [lane] = subject.prompt_ids(CHATS, answering=True), subject._lanes

    def ours() -> int:
        return sum(answer.completion_tokens for answer in subject.generate(CHATS, SAMPLING))

    def client() -> int:
        return by_hand(lane.server.address, lane.model, prompts)

    paths: dict[str, Callable[[], int]] = {"astray": ours, "by hand": client}
    for path in paths.values():
        path()
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in paths}
    for _ in range(ROUNDS):
        for name, path in paths.items():
            taken[name].append(timed(path))
    subject.close()
    speeds = {}
    for name, rounds in taken.items():
        speeds[name] = sum(tokens for tokens, _ in rounds) / sum(seconds for _, seconds in rounds)
        each = ", ".join(f"{tokens / seconds:.0f}" for tokens, seconds in rounds)
        print(f"{name}: {speeds[name]:.0f} tokens/s ({each})")
    [proof] = subject.proofs
    print(f"vLLM {proof['vllm']}; base off by {proof['noise']:.4f} nats a token, what was asked by {proof['off']:.4f}")
    print(f"ratio {speeds['astray'] / speeds['by hand']:.2f}; target 0.95")


if __name__ == "__main__":
    main(*sys.argv[1:])
