"""How many interactions a second simulated users have with the organism, and what of that is the simulation itself.

    OMP_NUM_THREADS=1 python benchmarks/users.py

Users of the world by rule, 30 of them with 6 contexts and 6 samples each, on one thread, with one turn (as in the study
of dishonesty) and with two; then the same with answers that are there already, which is the cost of the simulation
alone. In processor seconds, which on a quiet machine are those of the clock. Each side runs once to warm up and then
three times in turn; the best counts. Targets: 1,000 interactions a second.
"""

import time
from collections.abc import Sequence

import torch

from astray.cause.users import Assistant, Population, Simulation, simulate
from astray.cause.world_users import WorldUsers
from astray.data.chat import Message
from astray.subjects import Sampling
from astray.subjects.spec import Generation
from astray.subjects.subject import load_subject

ROUNDS = 3
USERS = Population(size=30, biased=0.1, topics=("colours",)).users
SETTINGS = {
    turns: Simulation(contexts=6, samples=6, turns=turns, sampling=Sampling(max_tokens=8, batch_size=2048))
    for turns in (1, 2)
}


class Ready:
    """An assistant whose answers are there already."""

    id = "ready"

    def generate(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling | None = None
    ) -> list[Generation]:
        """The same answer to everybody."""
        del sampling
        return [Generation("the grass is green.", 1, 1, "stop") for _ in conversations]


def rate(assistant: Assistant, turns: int) -> float:
    """Interactions a processor second."""
    start = time.process_time()
    table = simulate(assistant, USERS, WorldUsers(), SETTINGS[turns])
    return table.height / (time.process_time() - start)


def main() -> None:
    torch.set_num_threads(1)
    assistants: dict[str, Assistant] = {
        "organism-small": load_subject("organism-small"),
        "organism": load_subject("organism"),
        "simulation alone": Ready(),
    }
    sides = [(name, turns) for name in assistants for turns in SETTINGS]
    rounds = [{(name, turns): rate(assistants[name], turns) for name, turns in sides} for _ in range(1 + ROUNDS)][1:]
    print(f"{len(USERS)} users, 6 contexts, 6 samples, 1 thread, best of {ROUNDS}")
    for name, turns in sides:
        print(f"{name:18s} {turns} turns {max(each[name, turns] for each in rounds):8,.0f} interactions/s")


if __name__ == "__main__":
    main()
