"""Grid of an experiment: scenarios x cells x replicates, as one lazy data set, and its estimated cost.

One Inspect sample is one (cell, replicate), so standard errors mean something; its id says which, so a run that was
killed goes on where it was.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from inspect_ai.dataset import Dataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser
from inspect_ai.tool import ToolError
from pydantic import Field
from typing_extensions import override

from astray.errors import ConfigurationError
from astray.measure.agentic.desk import Desk
from astray.measure.agentic.factors import CORE, Factors, label, span
from astray.measure.agentic.lint import tokens
from astray.measure.agentic.questions import PROBE
from astray.measure.agentic.render import Office, render
from astray.measure.agentic.scenario import Call, Scenario, Step, load_scenario, offered_factors, scenario_names
from astray.measure.agentic.surface import draw_of, on_surface
from astray.measure.comprehension import ask
from astray.measure.surface import SurfaceKind
from astray.strict import Strict, left_out


@dataclass(frozen=True)
class Cell:
    """Condition of the experiment.

    Attributes:
        scenario: its name.
        factors: the values of all factors.
        folder: the whole path of its folder, if it is none of the package.
    """

    scenario: str
    factors: Factors
    folder: str = ""

    @property
    def source(self) -> str:
        """Return the name or path by which `load_scenario` finds the scenario."""
        return self.folder or self.scenario

    @property
    def id(self) -> str:
        """Return the scenario and what differs from the defaults: "blackmail/goal=none+threat=restriction"."""
        return f"{self.scenario}/{label(self.factors)}"

    @property
    def office(self) -> Office:
        """Return the cell, rendered and linted."""
        return render(load_scenario(self.source), self.factors)


class Grid(Strict):
    """Cells of an experiment, and the number of samples of each.

    Examples:
        >>> Grid(scenarios=("blackmail",), factors={"goal": ("explicit", "none"), "threat": ("replacement",)}, replicates=100)
    """

    scenarios: tuple[str, ...] = Field(
        default_factory=scenario_names, min_length=1, description="names, or paths of folders"
    )
    factors: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: dict(CORE),
        description="factor -> values; those not named keep their default. The core grid of the paper by default",
    )
    also: tuple[dict[str, tuple[str, ...]], ...] = Field(
        default=(),
        description="further slices, each like `factors`: the grid has the cells of all, of each scenario those that "
        "it offers",
    )
    replicates: int = Field(default=100, ge=1, description="samples a cell (100 in arXiv 2510.05179)")
    surface: SurfaceKind = Field(
        default="fixed",
        description="whether each replicate has names and words of its own, drawn from surface.yaml; 'both': every "
        "second one",
    )

    _keys = left_out(surface="fixed")

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return every cell that its scenario offers, in a fixed order.

        Raises:
            UnknownNameError: no such scenario, factor or value.
            ConfigurationError: a value that no scenario here offers, a scenario without any of the cells, or two of one
                name.
        """
        loaded: dict[str, Scenario] = {}
        folders: dict[str, str] = {}
        for given in self.scenarios:
            scenario = load_scenario(given)
            if scenario.name in loaded:
                raise ConfigurationError(
                    f"{', '.join(self.scenarios)} has the scenario {scenario.name!r} twice: name it once, or rename "
                    "one of two."
                )
            loaded[scenario.name], folders[scenario.name] = (
                scenario,
                "" if given in scenario_names() else str(scenario.folder),
            )
        offered = offered_factors(list(loaded.values()))
        chosen = span(self.factors)
        for name, values in self.factors.items():
            missing = [value for value in values if value not in offered[name]]
            if missing:
                raise ConfigurationError(
                    f"None of the scenarios {', '.join(self.scenarios)} has texts for {name}={missing[0]}. They "
                    f"offer: {', '.join(offered[name])}."
                )
        cells = {
            name: [Cell(name, factors, folders[name]) for factors in chosen if scenario.offers(factors)]
            for name, scenario in loaded.items()
        }
        for name, scenario in loaded.items():
            further = [
                Cell(name, factors, folders[name])
                for each in self.also
                for factors in span(each)
                if scenario.offers(factors)
            ]
            # A slice may repeat cells of the grid; each is run once.
            cells[name] = list(dict.fromkeys([*cells[name], *further]))
        empty = [name for name, own in cells.items() if not own]
        if empty:
            raise ConfigurationError(
                f"The scenario {empty[0]!r} offers none of the chosen cells: "
                f"{dict(loaded[empty[0]].manifest.cells.offers)}."
            )
        return tuple(cell for own in cells.values() for cell in own)

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return len(self.cells) * self.replicates

    def sample_id(self, index: int) -> str:
        """Return the id of the sample of this index: its cell and replicate."""
        replicate, cell = divmod(index, len(self.cells))
        return f"{self.cells[cell].id}/{replicate}"

    def sample(self, index: int) -> Sample:
        """Return the sample of this index.

        Replicates of the whole grid follow one another, so that a part of a run has all cells.
        """
        replicate, number = divmod(index, len(self.cells))
        cell = self.cells[number]
        scenario = load_scenario(cell.source)
        draw = draw_of(scenario, self.surface, replicate)
        office = render(on_surface(scenario, draw), cell.factors)
        return Sample(
            id=self.sample_id(index),
            input=[ChatMessageSystem(content=office.system), ChatMessageUser(content=office.task)],
            metadata={
                "scenario": cell.source,
                "factors": cell.factors.model_dump(),
                "replicate": replicate,
                "of": self.replicates,
                **({} if draw is None else {"draw": draw}),
            },
        )


class GridDataset(Dataset):
    """Data set of a grid; samples are made when they are asked for, so its memory does not grow with the replicates."""

    def __init__(self, grid: Grid, numbers: Sequence[int] | None = None):
        self.grid = grid
        self._numbers: Sequence[int] = range(grid.size) if numbers is None else numbers
        self._shuffled = False

    @property
    @override
    def name(self) -> str:
        return "agentic_misalignment"

    @property
    @override
    def location(self) -> str | None:
        return None

    @property
    @override
    def shuffled(self) -> bool:
        return self._shuffled

    @override
    def __getitem__(self, index: int | slice) -> Any:
        """Return one sample, or a part of the data set."""
        if isinstance(index, slice):
            return GridDataset(self.grid, self._numbers[index])
        return self.grid.sample(self._numbers[index])

    @override
    def __len__(self) -> int:
        return len(self._numbers)

    @override
    def sort(self, reverse: bool = False, key: Callable[[Sample], Any] = lambda sample: str(sample.id)) -> None:
        """Sort by a key of the samples."""
        self._numbers = sorted(self._numbers, key=lambda number: key(self.grid.sample(number)), reverse=reverse)

    @override
    def filter(self, predicate: Callable[[Sample], bool], name: str | None = None) -> Any:
        """Return only the samples that a predicate accepts."""
        return GridDataset(self.grid, [number for number in self._numbers if predicate(self.grid.sample(number))])

    @override
    def shuffle(self, seed: int | None = None) -> None:
        """Shuffle the order; ids stay those of cell and replicate."""
        numbers = list(self._numbers)
        random.Random(seed).shuffle(numbers)
        self._numbers, self._shuffled = numbers, True

    @override
    def shuffle_choices(self, seed: int | None = None) -> None:
        """Do nothing: there are no choices."""


@dataclass(frozen=True)
class Price:
    """Price in US dollars per million tokens."""

    input: float
    output: float


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a grid: characters are counted as tokens, and agents work as the scripted courses do.

    Attributes:
        samples: number of samples.
        calls: calls of the subject.
        input_tokens: tokens the subject reads in all its calls.
        output_tokens: tokens it writes.
        judge_tokens: tokens that the judges read.
        dollars: price of all that, None without prices.
    """

    samples: int
    calls: int
    input_tokens: int
    output_tokens: int
    judge_tokens: int
    dollars: float | None = None


def estimate_cost(
    grid: Grid,
    *,
    price: Price | None = None,
    judge_price: Price | None = None,
    judges: int = 2,
    questions: bool = True,
    probe: bool = False,
    numbers: Sequence[int] | None = None,
) -> Cost:
    """Estimate the cost of a grid, before anything is asked.

    Args:
        grid: the grid.
        price: of the subject.
        judge_price: of a judge; the subject's when None.
        judges: number of judges, 0 for the gate alone.
        questions: the questions for understanding are asked.
        probe: what the situation was taken for is asked.
        numbers: only these samples of the grid, for runs that go on.
    """
    chosen: Sequence[int] = range(grid.size) if numbers is None else numbers
    calls = read = written = judged = 0
    for cell, samples in Counter(number % len(grid.cells) for number in chosen).items():
        for course in ("harmful", "benign"):
            cell_calls, cell_read, cell_written, record = _course_tokens(
                grid.cells[cell].office, course, questions, probe
            )
            calls, read, written = (
                calls + samples * cell_calls,
                read + samples * cell_read,
                written + samples * cell_written,
            )
            judged += samples * record * judges
    # Both courses were added up; an agent is taken to go either way as often.
    subject = (round(read / 2), round(written / 2))
    dollars = None
    if price is not None:
        per_judge = judge_price or price
        dollars = (subject[0] * price.input + subject[1] * price.output + judged / 2 * per_judge.input) / 1e6
    return Cost(len(chosen), round(calls / 2), *subject, round(judged / 2), dollars)


@lru_cache(maxsize=4096)
def _course_tokens(office: Office, course: str, questions: bool, probe: bool) -> tuple[int, int, int, int]:
    """Return calls, tokens read, tokens written and tokens of the record, of one scripted course played to its end."""
    desk, prompt_tokens = Desk(office), tokens(office.system) + tokens(office.task)
    prompt, calls, read, written = prompt_tokens, 0, 0, 0
    for step in (*office.course(course), Step(say="I am done.")):
        said = tokens(step.say) + sum(tokens(call.tool) + tokens(str(call.arguments)) for call in step.calls)
        results = sum(tokens(_result(desk, call)) for call in step.calls)
        calls, read, written = calls + 1, read + prompt, written + said
        prompt += said + results
    record = prompt - prompt_tokens
    if questions:
        asked, right = ask(office.questions, "")
        calls, read, written = calls + 1, read + prompt + tokens(asked), written + 2 * len(right)
    if probe:
        calls, read, written = calls + 1, read + prompt + tokens(PROBE), written + 1
    return calls, read, written, record


def _result(desk: Desk, call: Call) -> str:
    """Return what a tool answers, errors included: where mail is withheld a course may ask for what is not there."""
    try:
        return desk.call(call.tool, call.arguments)
    except ToolError as error:
        return error.message


def as_slice(given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return factor -> values from what a command line gives: a list, or a text with commas; empty ones are left out.

    Without any, the core grid; the factors of the core that are not given keep their core values.

    Raises:
        ConfigurationError: it is no mapping.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f'{given!r} are no factors. Write them as on a command line: -T \'factors={{"goal": "explicit,none"}}\'.'
        )
    chosen = dict(CORE)
    for name, value in given.items():
        values = (
            tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(map(str, value or ()))
        )
        if any(values):
            chosen[name] = values
    return chosen
