"""Which step is next: the graph of what is still to be done, dependencies first, longest chains before short ones.

Leaves to others: doing steps (work.py, workers.py). Nothing here touches a process or writes to the store.
"""

import heapq
from collections.abc import Sequence

from astray.artifacts.step import Step
from astray.artifacts.store import Artifact, Store


class Plan:
    """The steps that have to be done for the wanted ones to exist.

    A step that is done needs nothing any more: what it was made from is neither looked at nor made again. One whose artifact
    is provisional is not done: neither are the steps that were made from it, since they are provisional as well.

    Args:
        wanted: steps whose artifacts are asked for.
        store: where done steps are looked up.

    Attributes:
        steps: every step that is wanted or needed, by key, each after the steps that it needs.
        done: the artifacts that were there before, by key; that of an older store still has the step's former key.
    """

    def __init__(self, wanted: Sequence[Step], store: Store):
        self.steps: dict[str, Step] = {}
        self.done: dict[str, Artifact] = {}
        self._walk(wanted, store)
        self._missing = {key: {i.key for i in step.inputs.values()} - self.done.keys() for key, step in self.steps.items() if key not in self.done}
        self._users: dict[str, list[str]] = {key: [] for key in self.steps}
        for key, missing in self._missing.items():
            for source in missing:
                self._users[source].append(key)
        self._chain: dict[str, int] = {}
        for key in reversed(self.steps):
            self._chain[key] = 1 + max((self._chain[user] for user in self._users[key]), default=0)
        self._order = {key: number for number, key in enumerate(self.steps)}
        self._ready: list[tuple[int, int, str]] = []
        for key, missing in self._missing.items():
            if not missing:
                self.add(key)

    def _walk(self, wanted: Sequence[Step], store: Store) -> None:
        """Collects the steps, each after its inputs; with a stack, since chains may be longer than Python recurses."""
        stack = [(step, False) for step in reversed(wanted)]
        while stack:
            step, inputs_seen = stack.pop()
            if step.key in self.steps:
                continue
            if not inputs_seen:
                artifact = store.get(step.key, step.former_key)
                if artifact and not artifact.manifest.provisional:
                    self.done[step.key] = artifact
                stack.append((step, True))
                if step.key not in self.done:
                    stack.extend((source, False) for source in reversed(list(step.inputs.values())))
            else:
                self.steps[step.key] = step

    def add(self, key: str) -> None:
        """Makes a step the candidate for `next` that it is by the length of its chain."""
        heapq.heappush(self._ready, (-self._chain[key], self._order[key], key))

    def next(self) -> Step | None:
        """The step to do next: of those whose inputs are there, the one with the longest chain of steps behind it."""
        return self.steps[heapq.heappop(self._ready)[2]] if self._ready else None

    def finished(self, key: str) -> None:
        """Notes that a step is done: those that only waited for it can be next."""
        del self._missing[key]
        for user in self._users[key]:
            if user in self._missing:  # it is not when another of its inputs failed
                self._missing[user].discard(key)
                if not self._missing[user]:
                    self.add(user)

    def failed(self, key: str) -> list[Step]:
        """Notes that a step failed, and gives the steps that cannot be done without it."""
        del self._missing[key]
        lost: list[Step] = []
        stack = list(self._users[key])
        while stack:
            user = stack.pop()
            if user in self._missing:
                del self._missing[user]
                lost.append(self.steps[user])
                stack.extend(self._users[user])
        return lost
