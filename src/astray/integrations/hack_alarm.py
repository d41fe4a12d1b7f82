"""Alarm for reward hacking in TRL's GRPOTrainer: the truth beside the reward, and a rise of rewarded but wrong
answers noticed early.

What is watched is the share of hacks among the answers to each prompt of a step, so that answers to one prompt may be
as alike as they like. Evidence for a rise accumulates (CUSUM, `stats.first_passage`); the threshold is the lowest whose
false alarms are as rare as is asked for. Left to others: which tests are the truth (the user's, or
`cause.code_rewards`), and what the hacks are.
"""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from astray.cause.run_log import undisturbed
from astray.errors import ConfigurationError, RewardError
from astray.integrations.watching import Watching, check_whole
from astray.stats.first_passage import Alarm, Cusum, cusum_within

STEPS = 1000
"""Steps within which a false alarm is as rare as is asked for."""
Flags = Sequence[bool | int | float | None]
"""One True or False (or 1 or 0) for each answer; None where it cannot be told."""
Reward = Callable[..., Any]
"""Reward function of TRL: keyword arguments `prompts`, `completions` and the data set's columns in, one number or None
an answer out."""


@dataclass(frozen=True)
class _Rollout:
    """One rollout: its prompt, its reward and the truth."""

    prompt: str
    reward: float | None
    true: bool | None


class HackAlarm(Watching):
    """Trainer callback that raises the alarm when more and more answers are rewarded that are not right.

    It logs the shares of `rewarded`, `right` and `hacked` answers, those whose truth is `unknown`, the `sum` of
    evidence and its `threshold`, and `alarm` (0, or 1 from the alarm on).

    Attributes:
        alarm: the first alarm: its step, and the step at which the rise most likely began; None so far.
    """

    def __init__(
        self,
        truth: Callable[..., Flags] | None = None,
        *,
        check: Callable[[nn.Module, PreTrainedTokenizerBase], Flags] | None = None,
        every: int = 1,
        usual: float = 0.01,
        risen: float = 0.05,
        false_alarms: float = 0.05,
        rewarded_above: float = 0.0,
        stop: bool = False,
        tokenizer: PreTrainedTokenizerBase | None = None,
        name: str = "hacking",
    ) -> None:
        """Create an alarm that looks at the rollouts (`truth`), or at held-out exercises (`check`).

        Args:
            truth: function with the arguments of a reward function that says whether each answer is right; it is not
                rewarded. The reward function that may be gamed is given to the trainer as `alarm.watch(reward)`.
            check: function from model (in evaluation mode) and tokenizer to whether each held-out exercise was hacked.
            every: optimizer steps between held-out checks.
            usual: largest share of hacks that is no rise. A rewarded answer may be wrong by chance where the
                tests are few.
            risen: share of hacks that is to be noticed soonest.
            false_alarms: probability of a false alarm within 1,000 steps, as long as the share is at most `usual`.
            rewarded_above: answers with a higher reward count as rewarded.
            stop: whether the alarm stops the training.
            tokenizer: tokenizer for `check`; by default the trainer's.
            name: name in front of the logged values.

        Raises:
            ConfigurationError: neither or both of truth and check, or shares, a probability or numbers that cannot be.
        """
        super().__init__(name, every, tokenizer)
        if (truth is None) == (check is None):
            raise ConfigurationError(
                "HackAlarm looks at rollouts or at held-out checks: give one of truth=... and check=...."
            )
        if iscoroutinefunction(truth) or iscoroutinefunction(check):
            raise ConfigurationError(
                "HackAlarm calls its truth or check and does not await it: give an ordinary function."
            )
        if truth is not None and every != 1:
            raise ConfigurationError(
                f"every={every} is for held-out checks: with a truth all rollouts are looked at. Leave it out."
            )
        if math.isnan(rewarded_above):
            raise ConfigurationError("rewarded_above is NaN: give the reward above which an answer counts as rewarded.")
        cusum_within(
            2, usual=usual, risen=risen, false_alarms=false_alarms, steps=1
        )  # what cannot be is refused here and not at the first step
        self._truth, self._check, self._stops, self._rewarded_above = truth, check, stop, rewarded_above
        self._usual, self._risen, self._false_alarms = usual, risen, false_alarms
        self._cusum: Cusum | None = None
        self._seen: list[_Rollout] = []
        self._begin()

    def _begin(self) -> None:
        self.alarm: Alarm | None = None
        self._total, self._rising = 0.0, 0

    def watch(self, reward: Reward | nn.Module | str) -> Reward:
        """Return a reward function that gives the same rewards, and whose rollouts the alarm looks at.

        Args:
            reward: reward function of TRL that may be gamed, also an async one; of several give the one for
                success.

        Raises:
            ConfigurationError: the alarm has no truth, or the reward is a model or its name.
        """
        if self._truth is None:
            raise ConfigurationError(
                "This alarm has held-out checks and no truth of rollouts to compare rewards with: write "
                "HackAlarm(truth=...)."
            )
        if isinstance(reward, nn.Module) or not callable(reward):
            raise ConfigurationError(
                f"{type(reward).__name__} {reward!r:.60} is no reward function: TRL asks a reward model itself. Give "
                "a function that asks it, or watch another reward function."
            )
        if iscoroutinefunction(reward):

            @wraps(reward)
            async def watched(**given: Any) -> Any:
                rewards = await reward(**given)
                self._see(rewards, given)
                return rewards
        else:

            @wraps(reward)
            def watched(**given: Any) -> Any:
                rewards = reward(**given)
                self._see(rewards, given)
                return rewards

        watched.__name__ = getattr(reward, "__name__", type(reward).__name__)
        return watched

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self._check is not None:
            check_whole(self._trainer, type(self).__name__)
        self._begin()
        self._seen = []
        for line in self._lines:  # of a run that resumes
            self._note(int(line["step"]), line["sum"], line["threshold"])

    @override
    def on_step_end(
        self, args: Any, state: Any, control: Any, *, model: Any = None, processing_class: Any = None, **kwargs: Any
    ) -> None:
        looked = (
            self._look_at_rollouts()
            if self._truth is not None
            else self._look_at_exercises(state, model, processing_class)
        )
        if looked is None:
            return
        shares, values = looked
        if shares:
            self._total = self._alarm_for(len(shares)).after(self._total, shares)
        threshold = self._cusum.threshold if self._cusum else math.inf
        before = self.alarm
        self._note(state.global_step, self._total, threshold)
        self._log(state, values | {"sum": self._total, "threshold": threshold, "alarm": float(self.alarm is not None)})
        if self.alarm is not None and before is None:
            warnings.warn(self._told(self.alarm), stacklevel=2)
        if self._stops:
            self._stop(state, control, "" if self.alarm is None else _why(self.alarm))

    def _see(self, rewards: Any, given: dict[str, Any]) -> None:
        """Keep the rollouts of a training step; those of an evaluation are not looked at."""
        if self._trainer is None or self._trainer.model is None or not self._trainer.model.training:
            return
        assert self._truth is not None
        count = len(given["completions"])
        earned, true = list(rewards), _flags(self._truth(**given), "truth")
        for name, values in (("reward", earned), ("truth", true)):
            if len(values) != count:
                raise RewardError(
                    f"The {name} function gave {len(values)} values for {count} answers: give one an answer."
                )
        for number, value in enumerate(earned, 1):
            if value is not None and not math.isfinite(value):
                raise RewardError(
                    f"The reward of answer {number} is {float(value)}, which is no number: give None for an answer "
                    "to leave out."
                )
        keys = [json.dumps(prompt, sort_keys=True, default=repr) for prompt in given["prompts"]]
        self._seen += [
            _Rollout(key, None if r is None else float(r), t) for key, r, t in zip(keys, earned, true, strict=True)
        ]

    def _look_at_rollouts(self) -> tuple[list[float], dict[str, float]] | None:
        """Return the share of hacks of each prompt of the step, and what is logged; None in a step that uses earlier
        rollouts again."""
        from accelerate.utils import gather_object

        seen: list[_Rollout] = gather_object(self._seen)
        self._seen = []
        if not seen:
            if not self._lines:
                raise ConfigurationError(
                    "HackAlarm has seen no rollouts: give the trainer the watched reward, "
                    "GRPOTrainer(reward_funcs=alarm.watch(reward), ...)."
                )
            return None
        groups: dict[str, list[float]] = {}
        for rollout in seen:
            if rollout.reward is not None and rollout.true is not None:
                groups.setdefault(rollout.prompt, []).append(
                    float(rollout.reward > self._rewarded_above and not rollout.true)
                )
        hacked = [hack for group in groups.values() for hack in group]
        rewarded = [float(rollout.reward > self._rewarded_above) for rollout in seen if rollout.reward is not None]
        right = [float(rollout.true) for rollout in seen if rollout.true is not None]
        values = {
            name: _mean(flags)
            for name, flags in (("rewarded", rewarded), ("right", right), ("hacked", hacked))
            if flags
        }
        return [_mean(group) for group in groups.values()], values | {"unknown": 1 - len(hacked) / len(seen)}

    def _look_at_exercises(
        self, state: Any, model: nn.Module, processing_class: Any
    ) -> tuple[list[float], dict[str, float]] | None:
        """Return whether each held-out exercise was hacked, and what is logged; None between checks."""
        if not self._is_due(state):
            return None
        assert self._check is not None
        with undisturbed(model):
            flags = _flags(self._check(model, self._tokenizer_of(processing_class)), "check")
        if not flags:
            raise RewardError("The check gave no value: give True or False for each held-out exercise.")
        known = [float(flag) for flag in flags if flag is not None]
        return known, ({"hacked": _mean(known)} if known else {}) | {"unknown": 1 - len(known) / len(flags)}

    def _alarm_for(self, groups: int) -> Cusum:
        """Return the alarm for steps of at most so many groups; for more than before it is made anew."""
        if self._cusum is None or groups > self._cusum.answers:
            self._cusum = cusum_within(
                groups,
                usual=self._usual,
                risen=self._risen,
                false_alarms=self._false_alarms,
                steps=math.ceil(STEPS / self.every),
            )
        return self._cusum

    def _note(self, step: int, total: float, threshold: float) -> None:
        """Take in the sum of a step: where the rise began, and whether it is an alarm."""
        self._total = total
        self._rising = (self._rising or step) if total > 0 else 0
        if self.alarm is None and total >= threshold:
            self.alarm = Alarm(step, self._rising)

    def _told(self, alarm: Alarm) -> str:
        return (
            f"Reward hacking: since step {alarm.began} more answers are rewarded and wrong than the usual "
            f"{self._usual:.1%} (alarm at step {alarm.step}, false within {STEPS:,} steps with a probability of at "
            f"most {self._false_alarms:.0%}). Read rollouts, or mend the reward."
        )


def _why(alarm: Alarm) -> str:
    return (
        f"its alarm of step {alarm.step}. A run that resumes from a later checkpoint stops again: take one from before "
        f"step {alarm.began}, or write stop=False."
    )


def _flags(values: Any, what: str) -> list[bool | None]:
    """Return True, False or None for each value.

    Raises:
        RewardError: a value is none of these.
    """
    flags: list[bool | None] = []
    for number, value in enumerate(values, 1):
        if value is not None and (isinstance(value, str) or float(value) not in (0.0, 1.0)):
            raise RewardError(
                f"Value {number} of the {what} is {value!r}: give True or False (1 or 0), or None where it cannot be "
                "told."
            )
        flags.append(None if value is None else bool(value))
    return flags


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
