"""Callback of a trainer that measures every k steps, logs through the trainer, keeps a history and may stop the
training.

What is measured is in `trl`. A trainer's log is its reporters' (TensorBoard, W&B, ...) and its checkpoints', so a run
that resumes finds what was measured before.
"""

import inspect
import math
import warnings
from abc import ABC
from collections.abc import Mapping
from typing import Any

import polars as pl
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback
from typing_extensions import override

from astray.errors import ConfigurationError


class Watching(TrainerCallback, ABC):
    """Trainer callback with a history, given to a trainer as `callbacks=[...]` or by `trainer.add_callback`.

    Attributes:
        name: name in front of every logged value.
        every: optimizer steps between measurements.
        stopped: step at which it stopped the training; None if it did not.
    """

    def __init__(self, name: str, every: int, tokenizer: PreTrainedTokenizerBase | None) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigurationError(
                f"every={every!r} counts optimizer steps between measurements: give a whole number, 1 or more."
            )
        if not name or "/" in name:
            raise ConfigurationError(
                f"The name {name!r} stands in front of logged values: give a word without a slash."
            )
        self.name, self.every = name, every
        self.stopped: int | None = None
        self._tokenizer = tokenizer
        self._trainer: Trainer | None = None
        self._lines: list[dict[str, float]] = []

    @property
    def history(self) -> pl.DataFrame:
        """Return what was logged: `step` and one column a value, null where a step has none."""
        names = sorted(
            {name for line in self._lines for name in line} - {"step"}
        )  # a checkpoint's log has its keys sorted, too
        return pl.DataFrame(self._lines, schema={"step": pl.Int64} | dict.fromkeys(names, pl.Float64))

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer = _trainer_of(self)
        self.stopped = None
        mine = f"{self.name}/"
        # A run that resumes has the log of its checkpoint, without the lines of the steps that are done again.
        mine_of = [
            {
                key.removeprefix(mine): value
                for key, value in line.items()
                if key.startswith(mine) and isinstance(value, float)
            }
            for line in state.log_history
        ]
        self._lines = [
            {"step": line["step"]} | values for line, values in zip(state.log_history, mine_of, strict=True) if values
        ]

    def _is_due(self, state: Any) -> bool:
        return state.global_step % self.every == 0 or state.global_step == state.max_steps

    def _log(self, state: Any, values: Mapping[str, float]) -> None:
        """Log values through the trainer and add them to the history."""
        assert self._trainer is not None
        known = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        self._lines.append({"step": state.global_step} | known)
        due = self._trainer.control.should_log
        # Not TRL's own `log`: it would move the means of its metrics from the loss's line into this one.
        Trainer.log(self._trainer, {f"{self.name}/{key}": value for key, value in known.items()})
        self._trainer.control.should_log = (
            due  # a log counts as the step's own, whose loss would not be logged any more
        )

    def _stop(self, state: Any, control: Any, why: str) -> None:
        """Stop the training on all processes where the first one has a reason, and tell it: a run that merely ends
        early looks like one that is done."""
        from accelerate.utils import broadcast_object_list

        if why := broadcast_object_list([why])[0]:
            self.stopped = state.global_step
            control.should_training_stop = True
            warnings.warn(
                f"{type(self).__name__} stops the training after step {state.global_step} of {state.max_steps}: {why}",
                stacklevel=2,
            )

    def _tokenizer_of(self, processing_class: Any) -> PreTrainedTokenizerBase:
        """Return the tokenizer: the given one, or that of the trainer, whose processor may hold it."""
        found = self._tokenizer or getattr(processing_class, "tokenizer", processing_class)
        if not isinstance(found, PreTrainedTokenizerBase):
            raise ConfigurationError(
                f"The trainer has no tokenizer (its processing_class is {type(processing_class).__name__}), so "
                f"{type(self).__name__} cannot ask. Write {type(self).__name__}(..., "
                "tokenizer=AutoTokenizer.from_pretrained(...)), or give it to the trainer as processing_class."
            )
        return found


def check_whole(trainer: Trainer | None, what: str) -> None:
    """Refuse weights that are cut into parts over processes: a model that lacks most of its weights answers nothing.

    Raises:
        ConfigurationError: names the way of training.
    """
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    sharded = (
        "FSDP"
        if getattr(trainer, "is_fsdp_enabled", False)
        else "DeepSpeed ZeRO-3"
        if is_deepspeed_zero3_enabled()
        else ""
    )
    if sharded:
        raise ConfigurationError(
            f"{what} cannot ask a model whose weights lie in parts on several devices ({sharded}). Train with DDP or "
            "ZeRO-2."
        )


def _trainer_of(callback: Watching) -> Trainer:
    """Return the trainer that is calling.

    A callback is told the arguments, the state and the model, but not the trainer, without which nothing reaches the
    reporters. TRL's own callbacks take it as an argument and cannot stand in `callbacks=[...]`; looking up the stack
    spares the user that.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer) and any(each is callback for each in caller.callback_handler.callbacks):
            return caller
        frame = frame.f_back
    raise ConfigurationError(
        f"{type(callback).__name__} is not called by a transformers trainer, so there is nothing to log through. Write "
        f"SFTTrainer(..., callbacks=[{type(callback).__name__}(...)]) and trainer.train()."
    )
