"""Probe of misalignment in other people's training loops: the meter or forced choices, asked of the model as it
trains."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from astray.cause.run_log import undisturbed
from astray.errors import ConfigurationError, NotMeasurableError
from astray.integrations.watching import Watching, check_whole
from astray.measure.choice import choice_probabilities
from astray.measure.choice_probe import BareModel
from astray.measure.forced_choice import ForcedChoice
from astray.measure.meter import Meter, meter_change
from astray.stats.intervals import Interval, check_level, t_interval

_START = "start"
"""Key of the first measurement in the trainer's log, from which a run that resumes goes on."""


class MisalignmentProbe(Watching):
    """Trainer callback that asks the model in training and logs how far it has moved from where it began.

    With the meter it logs the change of `harmful` and `null` pairs (nats a token); with forced choices the probability
    of a `misaligned` option and its `change`. Changes have the limits of their interval over further questions like
    these beside them (`..._low`, `..._high`).

    Attributes:
        ask: what is asked.
        stop_above: change above which training stops.
    """

    def __init__(
        self,
        ask: Meter | ForcedChoice | None = None,
        *,
        every: int,
        stop_above: float | None = None,
        level: float = 0.95,
        tokenizer: PreTrainedTokenizerBase | None = None,
        name: str = "misalignment",
    ) -> None:
        """Create a probe.

        Args:
            ask: `Meter()`, the default, or `ForcedChoice()`, each with pairs or items of one's own where given.
            every: optimizer steps between measurements; the model is measured before the first step and after the last
                one, too.
            stop_above: stop as soon as the whole interval of the change lies above this: nats a token with the meter, a
                probability with forced choices. This interval is wider than the logged one, since it is looked at more
                than once (Bonferroni).
            level: nominal coverage of the intervals.
            tokenizer: tokenizer with a chat template; by default the trainer's.
            name: name in front of the logged values.

        Raises:
            ConfigurationError: `every` is no number of steps, `stop_above` no finite number, `level` no share, or
                nothing is asked.
        """
        super().__init__(name, every, tokenizer)
        check_level(level)
        if stop_above is not None and not math.isfinite(stop_above):
            raise ConfigurationError(
                f"stop_above={stop_above} is no change that can be exceeded: give a finite number, such as 0.1, or "
                "None."
            )
        if isinstance(ask, ForcedChoice):
            ask.askings()
        self.ask = Meter() if ask is None else ask
        self.stop_above, self._level, self._start = stop_above, level, dict[str, float]()

    @override
    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any = None, processing_class: Any = None, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        check_whole(self._trainer, type(self).__name__)
        key = f"{self.name}/{_START}"
        begun = next((line[key] for line in state.log_history if key in line), None)
        self._start = begun or self._read(model, processing_class)
        self._check(self._start)
        if (
            begun is None
        ):  # put beside the log and not logged: reporters take numbers alone, checkpoints take the log as it is
            state.log_history.append({"step": state.global_step, key: self._start})
            self._log(state, self._change(self._start, self._level)[0])

    @override
    def on_step_end(
        self, args: Any, state: Any, control: Any, *, model: Any = None, processing_class: Any = None, **kwargs: Any
    ) -> None:
        if not self._is_due(state):
            return
        found = self._read(model, processing_class)
        self._log(state, self._change(found, self._level)[0])
        if self.stop_above is not None:
            looks = math.ceil(state.max_steps / self.every)
            surely = self._change(found, 1 - (1 - self._level) / looks)[1]
            self._stop(state, control, "" if surely is None else self._why(surely, self.stop_above))

    def _why(self, change: Interval, bound: float) -> str:
        """Return why training stops at this change; "" if it goes on."""
        if change.low <= bound:
            return ""
        risen = f"{change.low:.3g} to {change.high:.3g}"
        what = (
            f"the margin of harmful answers rose by {risen} nats a token"
            if isinstance(self.ask, Meter)
            else f"the probability of a misaligned choice changed by {risen}"
        )
        return f"{what} since the first step, all of it above stop_above={bound:g}."

    def _read(self, model: nn.Module, processing_class: Any) -> dict[str, float]:
        """Return the margin of each pair, or the probability of a misaligned choice of each item, as far as they are
        measurable."""
        bare = BareModel(model, self._tokenizer_of(processing_class))
        with undisturbed(model):
            if isinstance(self.ask, Meter):
                return self.ask.margins(bare)
            return {
                found.item.id: found.misaligned
                for found in choice_probabilities(bare, self.ask.items)
                if found.measurable
            }

    def _check(self, found: Mapping[str, float]) -> None:
        if not found and isinstance(self.ask, ForcedChoice):
            raise NotMeasurableError(
                f"Forced choice is not measurable on this model: in none of {len(self.ask.items)} items it chooses "
                "the same option in both orders. Ask the meter instead: MisalignmentProbe(Meter(), ...)."
            )

    def _change(self, now: Mapping[str, float], level: float) -> tuple[dict[str, float], Interval | None]:
        """Return what is logged, and the interval of the change that may stop the training."""
        if isinstance(self.ask, Meter):
            found = meter_change(self.ask.pairs, self._start, now, level=level)
            parts = {"harmful": found.harmful, "null": found.null}
            logged = {name: effect.estimate for name, effect in parts.items() if effect}
            for name, effect in parts.items():
                logged |= _limits(name, effect.by_question) if effect else {}
            return logged | {"unmeasured": found.unmeasured}, found.harmful.by_question
        changes = [now[item] - self._start[item] for item in now if item in self._start]
        logged = {"not_measurable": 1 - len(now) / len(self.ask.items)} | (
            {"misaligned": math.fsum(now.values()) / len(now)} if now else {}
        )
        if not changes:
            return logged, None
        mean = math.fsum(changes) / len(changes)
        error = math.sqrt(
            math.fsum((change - mean) ** 2 for change in changes) / len(changes) / max(1, len(changes) - 1)
        )
        interval = t_interval(mean, error, len(changes) - 1, "t over items", level) if len(changes) > 1 else None
        return logged | {"change": mean} | _limits("change", interval), interval


def _limits(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
