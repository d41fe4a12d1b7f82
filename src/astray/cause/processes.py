"""One training run in several processes, one a GPU: data parallelism of torch, gloo where there is no GPU.

With `sharded` each process holds a share of the weights (FSDP2, through accelerate), and gathers a layer's where it
runs it.

Every process makes the same call, and TRL's trainers share the batches of a step out among them. What is written once
(logs, marks of checkpoints, the result) is written by the first process; the others wait for it.
"""

import contextlib
import datetime
import functools
import inspect
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from astray.cause import checkpoints
from astray.errors import AstrayError, ConfigurationError, TrainingProcessLostError, TrainingRefusedError
from astray.judges.patience import current_patience, patience
from astray.kept import keeping, kept_in

_Given = ParamSpec("_Given")
_Run = TypeVar("_Run")
_LONGEST_WAIT = datetime.timedelta(hours=2)
"""Time that a process waits for the others: one probe of a large model may take longer than torch's ten minutes."""


def is_first() -> bool:
    """Return whether this process writes the files of its run: the first of several, or the only one."""
    return PartialState().is_main_process


def once(action: Callable[_Given, object], *args: _Given.args, **kwargs: _Given.kwargs) -> None:
    """Do something in the first process only."""
    if is_first():
        action(*args, **kwargs)


def wait_for_all() -> None:
    """Wait until every process of the run is here."""
    PartialState().wait_for_everyone()


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gather the trained weights of a model whose weights are sharded, whole in the first process and empty in the
    others; every process has to call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))


def load_trained_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Load the trained weights in a checkpoint into a model whose weights are sharded."""
    weights = torch.load(checkpoint / f"{FSDP_MODEL_NAME}.bin", weights_only=True)
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, strict=False))


def give_back(model: torch.nn.Module) -> None:
    """Let each process of a model whose weights are sharded hold its own share only, after passes outside training."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextlib.contextmanager
def read_by_first() -> Iterator[None]:
    """Let one process of a machine read a model's weights; the others get theirs when the weights are sharded."""
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}  # by transformers, while it loads
    before = {name: os.environ.get(name) for name in asked}
    os.environ |= asked
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def shared_out(train: Callable[_Given, _Run]) -> Callable[_Given, _Run]:
    """Let a training function start the processes that its recipe asks for, each of which makes the same call.

    Args:
        train: a function of the top level of a module, with arguments called `recipe` and `folder`, which keeps its
            result in a folder of that folder and returns at once where it is there.
    """

    @functools.wraps(train)
    def trained(*args: _Given.args, **kwargs: _Given.kwargs) -> _Run:
        given = inspect.signature(train).bind(*args, **kwargs).arguments
        finished = any((Path(given["folder"]) / result).exists() for result in ("adapter", "model"))
        try:
            if not finished and _must_start(given["recipe"].processes):
                _train_in(given["recipe"].processes, functools.partial(trained, *args, **kwargs))
            return train(*args, **kwargs)
        except TrainingRefusedError:  # of sharded weights the first step refuses, when the folder is claimed
            checkpoints.release(Path(given["folder"]))
            raise

    return trained


def _must_start(processes: int) -> bool:
    """Return whether the processes of a run have still to be started, because this process is not one of them.

    Raises:
        ConfigurationError: this process is one of another number, or there are fewer GPUs.
    """
    here = int(os.environ.get("WORLD_SIZE", "1"))  # torchrun sets it, as `_take_part` does
    if here > 1:
        PartialState(cpu=not torch.cuda.is_available())  # accelerate takes no gloo without being asked
    if here == processes:
        return False
    if here > 1:
        raise ConfigurationError(
            f"This is one of {here} processes, and the recipe says processes={processes}. Write processes={here} into "
            f"the recipe, or start {processes} processes."
        )
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise ConfigurationError(
            f"A run in {processes} processes needs as many GPUs, and this machine has {torch.cuda.device_count()}. "
            f"Give {torch.cuda.device_count()} or fewer."
        )
    return True


def _train_in(processes: int, train: Callable[[], object]) -> None:
    """Let every process of a run make the same call, and wait for the end of all.

    Args:
        processes: their number.
        train: the call, which can be pickled; it leaves its result in files.

    Raises:
        ConfigurationError: the call holds something that no other process can be given.
        TrainingProcessLostError: a process was killed.
        AstrayError: whatever the call raised, in the first process that failed.
    """
    try:
        call = pickle.dumps(functools.partial(_as_around, current_patience().strict, kept_in(), train))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"This run cannot be shared out among {processes} processes, since its probe, rewards or callbacks cannot "
            f"be sent to them ({error}). Define them at the top level of a module, or give processes=1."
        ) from error
    with tempfile.TemporaryDirectory(prefix="astray-processes-") as folder:
        try:
            start_processes(_take_part, (processes, call, Path(folder)), nprocs=processes, start_method="spawn")
        except ProcessRaisedException as error:
            raised = Path(folder) / f"error-{error.error_index}"
            if raised.is_file():
                kind, message = pickle.loads(raised.read_bytes())
                raise kind.__new__(kind, message) from error
            raise
        except ProcessExitedException as error:
            raise TrainingProcessLostError(
                f"Process {error.error_index + 1} of the {processes} that trained together was lost ({error}), often "
                "for want of memory. The same call goes on from the last checkpoint; a smaller batch_size needs less."
            ) from error


def _as_around(strict: bool, kept: Path | None, train: Callable[[], object]) -> None:
    """Make the call with what is around it in the process that shares it out: verdicts that decide, and kept replies."""
    with contextlib.ExitStack() as stack:
        if strict:
            stack.enter_context(patience(strict=True))
        if kept is not None:
            stack.enter_context(keeping(kept))
        train()


def _take_part(rank: int, processes: int, call: bytes, folder: Path) -> None:
    """Make the call as one of several processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    number = str(processes)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=processes,
        timeout=_LONGEST_WAIT,
    )
    try:
        if PartialState(cpu=not on_gpu).num_processes != processes:  # else each of them would start its own
            raise RuntimeError("accelerate does not see the process group")
        pickle.loads(call)()
        wait_for_all()
    except AstrayError as error:
        # Its own constructor may want other arguments: kind and message are enough to raise it again.
        (folder / f"error-{rank}").write_bytes(pickle.dumps((type(error), str(error))))
        raise
    finally:
        with contextlib.suppress(Exception):  # a process that failed leaves the others waiting, who are then ended
            torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """End this process when its parent ends, even if that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
