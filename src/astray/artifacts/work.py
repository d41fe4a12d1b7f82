"""Running one step in any process: the order, the report, and how the artifact is made.

Only orders and reports pass between processes; results stay in the store. Leaves to others: which step is next
(plan.py) and in which process it runs (workplaces).
"""

import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from astray.artifacts.contents import Artifact
from astray.artifacts.ledger import Ledger, spending
from astray.artifacts.manifest import KEY_DIGITS, Origin
from astray.artifacts.plan import Plan
from astray.artifacts.step import Step, StepFunction, locate
from astray.artifacts.store import Store
from astray.errors import AstrayError, StoreError

ONE_THREAD = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
        "1",
    ),
    "PYTHONHASHSEED": "0",  # the order of a set of strings is then the same in every process
}
"""Environment of processes that run steps, so that all of them leave the same bytes."""


@dataclass(frozen=True)
class Order:
    """Step to run.

    Attributes:
        origin: of the step.
        config: its configuration.
        reference: where its function is imported from, as module:qualified.name.
        seed_key: the key that seeds its random generators.
        resumable: whether it works in a folder that survives kills.
        begins_with: keys of the artifacts that this folder may start from.
        ledger: what all steps may spend together; None for no limit.
        gpu: processes of the step that run a model, each of which a place with GPUs gives some.
        names: folders in which the driver found this step and its inputs, or expects them, by key; None where it did
            not look.
        then: orders that follow in the same process, each once the one before is finished.
    """

    origin: Origin
    config: BaseModel
    reference: str
    seed_key: str
    resumable: bool = False
    begins_with: tuple[str, ...] = ()
    ledger: Ledger | None = None
    gpu: int = 0
    names: Mapping[str, tuple[str, ...]] | None = None
    then: tuple["Order", ...] = ()

    @classmethod
    def of(
        cls, step: Step, ledger: Ledger | None = None, then: Sequence[Step] = (), plan: Plan | None = None
    ) -> "Order":
        """Return the order to run a step of a plan, and steps that follow it."""
        # The former key where there is one: what older stores have and what is made now then come from the same chance.
        seed_key, function = step.former_key or step.key, step.function
        return cls(
            step.origin,
            step.config,
            function.reference,
            seed_key,
            step.resumable,
            step.may_begin_with,
            ledger,
            step.gpu,
            plan.names(step) if plan else None,
            tuple(cls.of(follower, ledger, plan=plan) for follower in then),
        )

    @property
    def line(self) -> "tuple[Order, ...]":
        """Return this order and those that follow it."""
        return self, *self.then


@dataclass(frozen=True)
class Failure:
    """Failure of a step.

    Attributes:
        name: of the step.
        key: of the step.
        reason: type and message of the error; only the message for Astray's own errors.
        traceback: Python's traceback as text.
        is_store: whether the store itself failed (full disk, damaged artifact), so that no other step could be kept.
    """

    name: str
    key: str
    reason: str
    traceback: str
    is_store: bool = False


@dataclass(frozen=True)
class Report:
    """Result of an order.

    Attributes:
        key: of the step.
        result: "busy" means that another process is doing this step.
        seconds: wall-clock time that it took.
        failure: the failure, None otherwise.
        ran: whether the step really ran, and was not finished before.
        memory: largest resident memory of the process by now, in bytes.
        gpu_memory: largest memory that the process held on a GPU by now, in bytes.
    """

    key: str
    result: Literal["finished", "busy", "failed"]
    seconds: float = 0.0
    failure: Failure | None = None
    ran: bool = False
    memory: int = 0
    gpu_memory: int = 0


def carry_out(order: Order, store: Store, started: Callable[[str], None]) -> Report:
    """Run one step unless its artifact exists or another process is running it. Never raises for an error of the step.

    Args:
        order: the step.
        store: holds its inputs and receives its artifact.
        started: called with the key once the step really starts.
    """
    origin = order.origin
    begin, ran = time.monotonic(), []

    def begins(key: str) -> None:
        ran.append(key)
        started(key)

    try:
        done = _carried_out(order, store, begins)
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, AstrayError) else f"{type(error).__name__}: {error}"
        failure = Failure(
            origin.name, origin.key, reason, traceback.format_exc(), is_store=isinstance(error, StoreError)
        )
        return Report(origin.key, "failed", time.monotonic() - begin, failure)
    seconds = time.monotonic() - begin
    return Report(origin.key, "finished" if done else "busy", seconds, None, bool(ran), *_memory())


def _carried_out(order: Order, store: Store, started: Callable[[str], None]) -> bool:
    """Run one step where that can change something; return False where another process is running it."""
    origin = order.origin
    names = order.names or {}
    inputs = {name: _input(store, name, key, names.get(key, ())) for name, key in origin.inputs.items()}
    unsettled = next(
        (f"{each.name} has something left to try" for each in inputs.values() if each.manifest.provisional), ""
    )
    read = {name: each.manifest.content for name, each in inputs.items()}
    listed = names.get(origin.key)
    before = (
        store.search(origin.key, among=None if listed is None else store.since(origin, listed))[0] if read else None
    )
    if before and before.manifest.provisional and before.manifest.read == read:
        # Only inputs had something left to try, and it changed nothing: this step would write the same again.
        return bool(unsettled) or store.reseal(before, "")

    def write(folder: Path) -> str | None:
        started(origin.key)
        function = locate(order.reference)
        if not isinstance(function, StepFunction):
            raise TypeError(f"{order.reference} is no longer a step function")
        seed_generators(order.seed_key)
        with spending(order.ledger):
            left = function(order.config, inputs, folder)
        if left:  # the step itself has to be tried again, whatever it reads
            read.clear()
        return left or unsettled or None

    made = store.make(
        origin, write, wait=False, resumable=order.resumable, begins_with=order.begins_with, read=read, listed=listed
    )
    return made is not None


def _memory() -> tuple[int, int]:
    """Return the largest memory of this process, resident and on a GPU."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch = sys.modules.get("torch")
    on_gpu = torch.cuda.max_memory_reserved() if torch and torch.cuda.is_initialized() else 0
    return largest * (1 if sys.platform == "darwin" else 1024), on_gpu


def seed_generators(key: str) -> None:
    """Seed the global random generators from a step's key, so that one that forgets to seed is repeatable.

    Generators of libraries that are not loaded yet are left alone: loading them here would cost seconds.
    """
    seed = int(key[:8], 16)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _input(store: Store, name: str, key: str, expected: Sequence[str]) -> Artifact:
    """Return the artifact of an input from the folder where it is expected, or else from wherever it lies."""
    there = [folder for folder in expected if store.mirror or (store.folder / folder).is_dir()]
    artifact = (there and store.get(key, among={key[:KEY_DIGITS]: there})) or store.get(key)
    if artifact is None:
        raise StoreError(
            f"The input {name!r} ({key[:16]}) was removed from {store.root} while steps that need it were running. "
            "Run the same again."
        )
    return artifact


def last_line(text: str) -> str:
    """Return the last line of what a place says, which names the cause."""
    return text.strip().rsplit("\n", 1)[-1]
