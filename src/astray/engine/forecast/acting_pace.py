"""Pace of a local model that acts, measured: it is asked for its first answers in one of the offices.

How long an answer becomes, whether tools are called at all, and what a token costs a small model (mostly the overhead of
a forward pass) follow neither from its size nor from the scripted courses. A model of random weights, say, calls no
tool and seldom ends. Models that are large or slow on a CPU, or that the free memory of an accelerator cannot hold, are
not asked: their time is counted in operations.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from inspect_ai.model import ChatMessageSystem, ChatMessageUser

from astray.errors import ConfigurationError
from astray.measure.agentic.grid import Cost, Grid, Price
from astray.measure.agentic.lint import tokens
from astray.measure.agentic.render import Office
from astray.measure.agentic.text_protocol import as_text, read_calls
from astray.measure.agentic.tools import infos_of
from astray.subjects.gpu import make_room
from astray.subjects.identity import parameter_count
from astray.subjects.locate import settle
from astray.subjects.precision import held_bytes
from astray.subjects.provider import MAX_CONNECTIONS, messages_of
from astray.subjects.spec import Sampling, SubjectSpec
from astray.subjects.subject import load_subject
from astray.subjects.weights import best_device

MEASURED_BELOW = 10**9
"""Parameters from which on a model is not loaded for a forecast on a CPU."""
SECONDS, TOGETHER = 3.0, 8
"""About the seconds of drawing first answers, and their number."""
FEWEST, PATIENCE = 128, 10.0
"""Tokens of each answer at least, and about the seconds of drawing them that this may take; in fewer tokens a model that
calls tools may not have come to a call."""
SHORTEST, QUICKEST = 16, 2e-3
"""Tokens of each answer whatever it takes; and seconds of a token at least, since a difference of times may be 0."""
QUICK, SLOW = 0.5, 3.0
"""Seconds to read a prompt: from `QUICK` on only two answers are drawn at a time, from `SLOW` on none."""
USUAL = 70
"""Tokens of a usual answer, which counts as one more that was drawn: few tell little, and none may have ended."""
LOADING_SECONDS = 2.0
"""Seconds until a small model is loaded and asked for the first time."""
UNCALLED = 2
"""Turns of an agent that calls no tool: it is reminded once."""


@dataclass(frozen=True)
class ActingPace:
    """Measured pace.

    Attributes:
        ratio: tokens of the model a token by which costs are counted, with the text that offers the tools.
        prompt: tokens of the first prompt.
        reading: seconds a token that is read.
        alone: seconds a token that is written, one answer at a time.
        further: seconds that each further answer at a time adds to that.
        answer: mean tokens of an answer.
        calls_tools: whether a first answer called a tool, or all were cut too early to tell.
        basis: what was measured, in words.
    """

    ratio: float
    prompt: int
    reading: float
    alone: float
    further: float
    answer: float
    calls_tools: bool
    basis: str = ""

    def amounts(self, cost: Cost, asked: int) -> tuple[float, float, float]:
        """Return the calls of the model, and tokens that it reads and writes; `asked` questions follow its work."""
        calls, read = cost.calls, self.ratio * cost.input_tokens
        if not self.calls_tools:
            calls = cost.samples * (UNCALLED + asked)
            read = calls * self.prompt + cost.samples * self.answer * (1 + UNCALLED * asked)
        return float(calls), float(read), calls * self.answer

    def corrected(self, cost: Cost, asked: int, price: Price | None) -> Cost:
        """Return a cost with the calls and tokens of this model, at its price; graders read what they did."""
        calls, read, written = map(round, self.amounts(cost, asked))
        dollars = cost.dollars
        if dollars is not None and price is not None:
            more = (read - cost.input_tokens) * price.input + (written - cost.output_tokens) * price.output
            dollars += more / 1e6
        return replace(cost, calls=calls, input_tokens=read, output_tokens=written, dollars=dollars)

    def seconds(self, cost: Cost, asked: int, limit: int) -> float:
        """Return the seconds of this machine for a grid whose samples act side by side."""
        calls, read, _ = self.amounts(cost, asked)
        batch = min(cost.samples, MAX_CONNECTIONS)
        # A batch takes as long as its longest answer: of lengths without memory the mean times 1 + 1/2 + ... + 1/batch.
        longest = min(limit, self.answer * (math.log(batch) + 1 / 2 + 1 / (2 * batch)))
        step = self.alone + self.further * (batch - 1)
        return read * self.reading + calls / batch * longest * step


def acting_pace(model: SubjectSpec | str, grid: Grid, limit: int) -> ActingPace | None:
    """Return the measured pace of a local model in the first cell of a grid.

    Args:
        model: the subject.
        grid: what it will play.
        limit: most tokens of an answer.

    Returns:
        None where it is too large or too slow to be asked for that, or cannot answer.

    Raises:
        SubjectNotFoundError: there is no such model.
    """
    if best_device().type == "cpu" and parameter_count(settle(model).base) >= MEASURED_BELOW:
        return None
    try:
        return _measured(model, grid.cells[0].office, limit)
    # A prompt longer than its context, say, which the run tells of each sample; or a device that others fill as well.
    except (ConfigurationError, torch.OutOfMemoryError):
        return None


def free_memory(device: torch.device) -> float:
    """Return the bytes that a model may fill on a device; of a CPU no limit, which `MEASURED_BELOW` stands for."""
    if device.type == "cuda":
        make_room()
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return math.inf


@lru_cache(maxsize=64)
def _measured(model: SubjectSpec | str, office: Office, limit: int) -> ActingPace | None:
    located = settle(model)
    if held_bytes(located.base, located.precision) > free_memory(best_device()):
        return None
    infos = infos_of(office)
    asked = as_text([ChatMessageSystem(content=office.system), ChatMessageUser(content=office.task)], infos)
    subject = load_subject(model)
    [prompt] = subject.prompt_ids([messages_of(asked)])

    def drawn(answers: int, most: int) -> tuple[float, list[tuple[int, bool, str]]]:
        """Return seconds, and of each answer its tokens, whether it ended, and its text."""
        begun, used = time.perf_counter(), time.process_time()
        found = subject.answer([prompt] * answers, Sampling(max_tokens=most), None, range(answers))
        ended = [(reply.completion_tokens, reply.stop_reason == "stop", reply.text) for reply in found]
        took, used = time.perf_counter() - begun, time.process_time() - used
        return min(took, used) if subject.device.type == "cpu" else took, ended  # so other load counts little

    reading, _ = drawn(1, 1)
    if reading >= SLOW:
        return None
    is_quick = reading < QUICK
    if is_quick:  # the first pass loads the library's kernels
        reading, _ = drawn(1, 1)
    rows = TOGETHER if is_quick else 2
    took, [(written, *_)] = drawn(1, min(limit, SHORTEST))
    # A single token tells nothing of the next, which takes no longer than the whole prompt.
    alone = max(0.0, took - reading) / (written - 1) if written > 1 else reading
    most = _most(alone if rows == 2 else 2 * alone, limit)  # a row more costs little, many about as much again
    took, answers = drawn(rows, most)
    together = max(0.0, took - rows * reading) / max(1, max(length for length, *_ in answers) - 1)
    whole, ended = sum(length for length, *_ in answers), sum(is_ended for _, is_ended, _ in answers)
    called = sum(bool(read_calls(text, infos)) for *_, text in answers)
    untold = not called and not ended and most < min(FEWEST, limit)
    acts = "too short to tell whether it calls tools" if untold else f"{called or 'none'} called a tool"
    answer = min(float(limit), (whole + USUAL) / (ended + 1))
    return ActingPace(
        ratio=len(prompt) / (tokens(office.system) + tokens(office.task)),
        prompt=len(prompt),
        reading=reading / len(prompt),
        alone=alone,
        further=max(0.0, together - alone) / (rows - 1),
        answer=answer,
        calls_tools=called > 0 or untold,
        basis=(
            f"answers estimated at about {answer:,.0f} tokens from {rows} first answers ({ended or 'none'} ended within "
            f"{most:,}); {acts}"
        ),
    )


def _most(step: float, limit: int) -> int:
    """Return the tokens up to which answers are drawn, by the seconds of a token of each."""
    usual, patient = (round(seconds / max(step, QUICKEST)) for seconds in (SECONDS, PATIENCE))
    return min(limit, max(SHORTEST, usual, min(FEWEST, patient)))
