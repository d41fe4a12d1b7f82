"""A Ray cluster as a place for steps: each step is a task, with the GPUs and the memory that it needs.

Keys of the store go through Ray, and never weights. A step that raises is never tried again; one whose node is lost is.
The driver is the owner of its tasks: Ray ends them when it ends, and the same command begins them again. Leaves to
others: running a step (work.py) and looking at the store from a node (probe.py).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from astray.artifacts.store import Store
from astray.artifacts.work import ONE_THREAD, Failure, Order, Report, last_line
from astray.artifacts.workplaces.probe import probing
from astray.artifacts.workplaces.ray_task import Starts, run
from astray.errors import ConfigurationError, MissingExtraError, StoreError

_TRIES = 3
"""Runs of a step whose nodes are lost."""
_AHEAD = 64
"""Tasks that wait in Ray beside those that run: it waits for each of them at every look."""
_LOOK = 0.2


@dataclass(frozen=True)
class Ray:
    """A Ray cluster, and what a step gets there.

    Attributes:
        address: of the cluster, such as "auto" or "ray-head:6379"; None for the one that this process is connected to or
            that RAY_ADDRESS names, else a new one on this machine.
        gpus: GPUs of a step that runs a model, also a part of one; all other steps get none.
        memory: GB of a step; None for no account of memory.
        patience: seconds until Ray must have noticed that a node is lost; else it was the worker alone that died.
    """

    address: str | None = None
    gpus: float = 0.0
    memory: float | None = None
    patience: float = 30.0

    @property
    def label(self) -> str:
        """Name of the place, and what a step that runs a model gets there."""
        return f"ray, {self.gpus:g} GPUs a model"

    @contextlib.contextmanager
    def opened(self, store: Store, started: Callable[[str], None]) -> "Iterator[RayTasks]":
        """Connect to the cluster, and let every node look at the store.

        Raises:
            MissingExtraError: Ray is not installed.
            ConfigurationError: there is no cluster at this address, or it has too few GPUs.
            StoreError: nodes cannot reach the store.
        """
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "--on ray", "pip install 'astray[ray]'") from error
        connected = ray.is_initialized()
        if not connected:
            try:
                ray.init(
                    address=self.address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ConfigurationError(
                    f"There is no Ray cluster at {self.address!r} that this process can reach: {error}. Start one with "
                    "`ray start --head`, or name another with --address."
                ) from error
        try:
            self.check(ray.nodes())
            tasks = RayTasks(self, store, started)
            tasks.probe()
            try:
                yield tasks
            finally:
                tasks.cancel()
        finally:
            if not connected:
                ray.shutdown()

    def check(self, nodes: list[dict[str, Any]], processes: int = 1) -> None:
        """Refuse a step that would wait for ever.

        Raises:
            ConfigurationError: no node has GPUs for that many.
        """
        most = max(node["Resources"].get("GPU", 0.0) for node in nodes if node["Alive"])
        if self.gpus * processes > most:
            together = f" in each of {processes} processes" if processes > 1 else ""
            raise ConfigurationError(
                f"--gpus {self.gpus:g}{together}: no node of this Ray cluster has more than {most:g}, so the steps would wait for "
                "ever. Give fewer, or start the nodes with GPUs first."
            )


@dataclass
class _Task:
    """A step that was given to Ray."""

    order: Order
    ref: Any
    crashed: float | None = None
    """When its worker was found dead."""


@dataclass
class RayTasks:
    """The tasks of one driver."""

    settings: Ray
    store: Store
    started: Callable[[str], None]
    chains: bool = False
    retry: float = 1.0
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)
    """Node on which each step was last started."""
    _tries: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._root = self.store.root if self.store.mirror else str(self.store.folder)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._starts: Any = ray.remote(Starts).options(num_cpus=0, scheduling_strategy=here).remote()
        self._most = int(ray.cluster_resources().get("CPU", 1)) + _AHEAD

    @property
    def free(self) -> bool:
        """Whether another step may be given to Ray."""
        return len(self._tasks) < self._most

    def start(self, order: Order) -> None:
        """Give a step to Ray."""
        import ray

        given: dict[str, Any] = {"num_gpus": self.settings.gpus * order.gpu}
        self.settings.check(ray.nodes(), order.gpu)
        if self.settings.memory:
            given["memory"] = round(self.settings.memory * 2**30)
        task = ray.remote(run).options(
            num_cpus=1, max_retries=0, runtime_env={"env_vars": ONE_THREAD}, name=order.origin.name, **given
        )
        self._tasks[order.origin.key] = _Task(order, task.remote(order, self._root, self._starts))

    def wait(self, timeout: float | None) -> list[Report]:
        """Wait until a step ends."""
        import ray

        end = None if timeout is None else time.monotonic() + timeout
        while True:
            refs = [task.ref for task in self._tasks.values() if task.crashed is None]
            if refs:
                ray.wait(refs, num_returns=1, timeout=_LOOK)
            else:
                time.sleep(_LOOK)
            self._hear_starts()
            ended, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
            reports = [*self._ended(set(ended)), *self._crashed()]
            if reports or (end is not None and time.monotonic() >= end):
                return reports

    def cancel(self) -> None:
        """End the tasks that are left; what they had finished is kept."""
        import ray

        for task in self._tasks.values():
            ray.cancel(task.ref, force=True)

    def probe(self) -> None:
        """Let every node look at the store.

        Raises:
            ConfigurationError: a node cannot run Astray.
            StoreError: a node cannot reach it, or has another version of Astray.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from astray.artifacts.workplaces.ray_task import look

        with probing(self.store) as probe:
            looks = [
                ray.remote(look)
                .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
                .remote(probe, version("astray"))
                for node in ray.nodes()
                if node["Alive"]
            ]
            told = [_looked(one) for one in looks]
        wrong = "; ".join(filter(None, told))
        if wrong:
            raise StoreError(
                f"Nodes of the Ray cluster cannot use the store {self.store.root}: {wrong}. Give --store a folder that "
                "all nodes mount and may write to, or a URL such as s3://bucket/runs."
            )

    def _hear_starts(self) -> None:
        import ray

        for key, node in ray.get(self._starts.take.remote()):
            self._nodes[key] = node
            if key in self._tasks:
                self.started(key)

    def _ended(self, refs: set[Any]) -> list[Report]:
        import ray

        reports = []
        for key, task in list(self._tasks.items()):
            if task.ref not in refs:
                continue
            try:
                reports.append(ray.get(task.ref))
            except ray.exceptions.OutOfMemoryError as error:
                told = f"its node had no memory left ({last_line(str(error))}). Give more with --memory"
                reports.append(_failed(task.order, told))
            except (
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.NodeDiedError,
                ray.exceptions.LocalRayletDiedError,
            ):
                task.crashed = time.monotonic()
                continue
            except ray.exceptions.RayError as error:
                reports.append(_failed(task.order, f"Ray could not run it: {last_line(str(error))}"))
            del self._tasks[key]
        return reports

    def _crashed(self) -> list[Report]:
        """Give steps whose node is lost to Ray again; those whose worker alone died have failed."""
        import ray

        crashed = {key: task for key, task in self._tasks.items() if task.crashed is not None}
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if crashed else set()
        reports = []
        for key, task in crashed.items():
            if self._nodes.get(key) not in alive:  # also one that never started
                self._tries[key] = self._tries.get(key, 0) + 1
                if self._tries[key] < _TRIES:
                    self.start(task.order)
                    continue
                reports.append(_failed(task.order, f"{_TRIES} nodes were lost on which it ran"))
            elif time.monotonic() - (task.crashed or 0.0) < self.settings.patience:
                continue
            else:
                told = "its worker process died, as when memory runs out or a library crashes"
                reports.append(_failed(task.order, f"{told}. Give more memory with --memory"))
            del self._tasks[key]
        return reports


def _looked(look: Any) -> str:
    """Return what a node's look at the store found wrong; of a node that was lost meanwhile, nothing."""
    import ray

    try:
        return str(ray.get(look))
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError):
        return ""
    except ray.exceptions.RayError as error:
        raise ConfigurationError(
            f"A node of the Ray cluster cannot run Astray: {last_line(str(error))}. Install the same version of it on "
            "every node."
        ) from error


def _failed(order: Order, reason: str) -> Report:
    return Report(order.origin.key, "failed", failure=Failure(order.origin.name, order.origin.key, reason, reason))
