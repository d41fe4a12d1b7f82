"""Order of steps: the graph of what is still to be done, dependencies first, longest chains before short ones.

Leaves to others: running steps (work.py, workplaces). Nothing here starts a process or writes to the store.
"""

import heapq
from collections.abc import Sequence

from astray.artifacts.contents import Artifact
from astray.artifacts.manifest import KEY_DIGITS
from astray.artifacts.step import Step
from astray.artifacts.store import Store
from astray.errors import DamagedArtifactError


class Plan:
    """Steps that have to be done for the wanted ones to exist, and the order to do them in.

    A finished step needs nothing any more: its inputs are neither looked up nor made again. A step with a provisional
    artifact is not finished, nor are the steps that read it, since they are provisional as well; a step with a damaged
    one is as one without any.

    Args:
        wanted: steps whose artifacts are requested.
        store: where done steps are looked up.

    Attributes:
        steps: every step that is wanted or needed, by key, each after its inputs.
        done: artifacts that existed before, by key; one from an older store still has the step's former key.
        damage: what lies in the place of artifacts and is not what their steps wrote, by key.
        listed: names in the store with the digits of a step that is not done, by key, where there are any.
    """

    def __init__(self, wanted: Sequence[Step], store: Store):
        self.steps: dict[str, Step] = {}
        self.done: dict[str, Artifact] = {}
        self.damage: dict[str, tuple[DamagedArtifactError, ...]] = {}
        self.listed: dict[str, tuple[str, ...]] = {}
        self._walk(wanted, store)
        self._missing = {
            key: {i.key for i in step.inputs.values()} - self.done.keys()
            for key, step in self.steps.items()
            if key not in self.done
        }
        self._users: dict[str, list[str]] = {key: [] for key in self.steps}
        for key, missing in self._missing.items():
            for source in missing:
                self._users[source].append(key)
        self._chain: dict[str, int] = {}
        # `steps` lists inputs first, so in reverse every user's chain is known before the step that it uses.
        for key in reversed(self.steps):
            self._chain[key] = 1 + max((self._chain[user] for user in self._users[key]), default=0)
        self._order = {key: number for number, key in enumerate(self.steps)}
        self._ready: list[tuple[int, int, str]] = []
        self._followers: set[str] = set()
        for key, missing in self._missing.items():
            if not missing:
                self.add(key)

    def _walk(self, wanted: Sequence[Step], store: Store) -> None:
        """Collect the steps, each after its inputs; with a stack, since chains may exceed Python's recursion limit."""
        finished = store.finished([step.origin for step in wanted])
        settled = {key for key, artifact in finished.items() if not artifact.manifest.provisional}
        among = None if {step.key for step in wanted} <= settled else store.by_digits()
        stack = [(step, False) for step in reversed(wanted)]
        while stack:
            step, inputs_seen = stack.pop()
            if step.key in self.steps:
                continue
            if not inputs_seen:
                known = finished.get(step.key)
                artifact, damage = (known, ()) if known else store.search(step.key, *step.former_keys, among=among)
                if damage:
                    self.damage[step.key] = damage
                if artifact and not artifact.manifest.provisional:
                    self.done[step.key] = artifact
                elif among and (names := among.get(step.key[:KEY_DIGITS])):
                    self.listed[step.key] = tuple(names)
                stack.append((step, True))
                if step.key not in self.done:
                    stack.extend((source, False) for source in reversed(list(step.inputs.values())))
            else:
                self.steps[step.key] = step

    def add(self, key: str) -> None:
        """Add a step to those that are ready, ordered by the length of its chain."""
        heapq.heappush(self._ready, (-self._chain[key], self._order[key], key))

    def next(self) -> Step | None:
        """Return the ready step with the longest chain of steps after it; None where no step is ready."""
        return self.steps[heapq.heappop(self._ready)[2]] if self._ready else None

    def followers(self, step: Step) -> list[Step]:
        """Return short steps that may run right after a ready one in the same job, each the only user of the one before.

        They need nothing else, and GPUs only if it does. Resumable ones are long, and get a job of their own.
        """
        line = [step]
        while len(users := [user for user in self._users[line[-1].key] if user in self._missing]) == 1:
            user = self.steps[users[0]]
            if user.resumable or user.gpu != step.gpu or self._missing[user.key] != {line[-1].key}:
                break
            line.append(user)
            self._followers.add(user.key)
        return line[1:]

    def names(self, step: Step) -> dict[str, tuple[str, ...]]:
        """Return the folders in which a step was listed and those in which its inputs are or will be, by key."""
        inputs = {
            key: (self.done[key].manifest.origin if key in self.done else self.steps[key].origin).folder_name
            for key in (source.key for source in step.inputs.values())
        }
        return {step.key: self.listed.get(step.key, ()), **{key: (name,) for key, name in inputs.items()}}

    def unfollow(self, key: str) -> None:
        """Record that a follower was not run, so it becomes ready when its inputs are done."""
        self._followers.discard(key)

    def finished(self, key: str) -> None:
        """Record that a step is done, and add the steps that waited only for it."""
        del self._missing[key]
        for user in self._users[key]:
            if user in self._missing:  # absent once another of its inputs failed
                self._missing[user].discard(key)
                if not self._missing[user] and user not in self._followers:
                    self.add(user)

    def failed(self, key: str) -> list[Step]:
        """Record that a step failed, and return the steps that cannot be done without it."""
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
