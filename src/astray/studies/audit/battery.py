"""Battery of an audit: which evaluations of the one table a model is asked, how many answers each takes, its needs.

The organism knows the words of its world alone, so it has questions of its own, under the names of those that they
stand for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from astray.engine.gold import Gold, sets_of
from astray.engine.models import NamedModel
from astray.engine.settings import text_evaluations, world_evaluations
from astray.errors import ConfigurationError, UnknownNameError
from astray.judges.config import JudgeConfig
from astray.judges.distilled import is_distilled
from astray.measure import battery
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.evaluation import Agentic
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.scenario import scenario_names
from astray.measure.deception.evaluation import Deception
from astray.measure.evaluation import QuestionSet
from astray.measure.evaluations import needs_grader
from astray.measure.forced_choice import ForcedChoice
from astray.measure.honesty.evaluation import Honesty, WorldHonesty
from astray.measure.interface import Evaluation, Need, check_fits, offered_by
from astray.measure.meter.evaluation import Meter
from astray.measure.surface import SurfaceKind
from astray.stats.measures import Measure
from astray.subjects.locate import graders_known_as
from astray.subjects.spec import Sampling

TEXT, WORLD = 25, 4
"""Answers a question of a real model, and of an organism, whose world has many questions."""
METER, AGENTIC, FREE_FORM = "meter", "agentic", "free-form"
BESIDE = (*battery.BESIDE, "strict-free-form", "open-requests")
"""Evaluations that are asked only where they are named."""
GROUPS = {FREE_FORM: ("main", "broad", "world", "formats", "facts")}
"""Name that stands for several."""
BY_GATE = Measure(
    "harmful by the gate, where the situation was understood",
    (Conduct.HARMFUL,),
    (Conduct.HARMFUL, Conduct.HARMLESS),
    of="word",
)
"""Further measure of agentic scenarios without judges: harm among acts of a model that understood its situation."""
ACTING_TOKENS = 1500
"""Longest answer of an acting model, reasoning included."""
EXACT = JudgeConfig(kind="grammar")
"""Judge of what is read by a rule: the organism's grammar, letters of choices."""


@dataclass(frozen=True)
class BatteryPart:
    """One line of a profile.

    Attributes:
        name: by which it is chosen.
        evaluation: what is asked.
        judge: who reads the answers; None where the gate or the numbers alone decide.
        gold: a second judge, and how many of the answers it reads.
    """

    name: str
    evaluation: Evaluation
    judge: JudgeConfig | None
    gold: Gold | None = None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return what is counted among what, the main measure first."""
        if self.name == AGENTIC and self.judge is None:
            return (*(measure for measure in Agentic.measures if measure.of == "gate"), BY_GATE)
        return self.evaluation.measures

    @property
    def needs(self) -> tuple[str, ...]:
        """Return its requirements, in words."""
        texts = {str(need) for need in self.evaluation.needs - {Need.GRADER}}
        if self.name == AGENTIC:
            texts |= {"tools or the text protocol", "a model as judge, or the gate alone"}
        elif self.judge != EXACT and needs_grader(self.evaluation):
            texts.add(Need.GRADER)
        return tuple(sorted(texts)) or ("no judge",)


def parts_for(
    model: NamedModel,
    samples: int | None,
    max_tokens: int | None,
    grader: str | None,
    gold: Gold | None = None,
    surface: SurfaceKind = "fixed",
) -> dict[str, BatteryPart]:
    """Return all parts that there are for a kind of model, by name.

    Args:
        model: who would be asked.
        samples: answers a question of the free-form questions; the others are scaled with them.
        max_tokens: longest answer, where it is less than an evaluation's own.
        grader: Inspect model that judges, if there is one.
        gold: a second judge of free-form answers, and how many it reads at most.
        surface: what the texts of main questions, broad set and scenarios are.
    """
    if model.is_organism:
        return {name: BatteryPart(name, world, EXACT) for name, world in _world(samples or WORLD, max_tokens).items()}
    judge = JudgeConfig(kind="rubric", grader=grader, server=graders_known_as(grader)) if grader else None
    parts = {}
    for name, evaluation in _text(samples or TEXT, max_tokens, served=bool(model.served), surface=surface).items():
        by_rule = name == "forced-choice"
        # A distilled judge gives scores alone, so it cannot say what a transcript of an acting model shows.
        without = name == METER or (name == AGENTIC and is_distilled(grader))
        read = replace(gold, answers=min(gold.answers, evaluation.answers)) if gold and sets_of([evaluation]) else None
        parts[name] = BatteryPart(name, evaluation, EXACT if by_rule else None if without else judge, read)
    return parts


def chosen_names(choice: str | Sequence[str], offered: Sequence[str]) -> tuple[str, ...]:
    """Return the chosen names; without a choice the usual ones of those that the models are offered.

    Raises:
        UnknownNameError: there is no such evaluation; names the nearest.
        ConfigurationError: no name is given where some should be.
    """
    names = [name.strip() for name in choice.split(",") if name.strip()] if isinstance(choice, str) else list(choice)
    if isinstance(choice, str) and choice and not names:
        raise ConfigurationError(
            f"--evals {choice!r} names none: leave it out, or write names with commas between them."
        )
    if not names:
        return tuple(name for name in offered if name not in BESIDE)
    existing = tuple(dict.fromkeys([*offered, *_text(TEXT, None, served=False), *_world(WORLD, None)]))
    for name in names:
        if name not in existing and name not in GROUPS:
            raise UnknownNameError("evaluation", name, [*existing, *GROUPS])
    grouped = {member for name in names for member in GROUPS.get(name, ()) if member in offered}
    return tuple(name for name in existing if name in names or name in grouped)


def misfit(part: BatteryPart, model: NamedModel, grader: str | None) -> str:
    """Return why a model cannot be asked a part; "" where it can."""
    if model.is_scripted and part.name != AGENTIC:
        return "a scripted model plays agentic scenarios alone"
    judged = JudgeConfig(kind="rubric", grader=grader) if grader else EXACT
    offered = offered_by(judged) | {Need.GRADER}
    if model.served and not (part.name == METER and model.tokenizer):
        if part.name == METER and model.address:
            return (
                "the chat template and tokenizer of a served model cannot be seen, and its probabilities are read of "
                "tokens: name a folder or model that has them with --tokenizer"
            )
        offered -= {Need.TOKEN_PROBABILITIES}
    try:
        check_fits(part.evaluation, offered, model.name)
    except ConfigurationError as error:
        return str(error)
    if is_distilled(grader) and part.judge not in (None, EXACT) and not reads_scores(part.evaluation):
        return (
            f"{grader} was distilled to score answers to free-form questions, and this needs a judge that replies in "
            "words: name one with --grader, such as openai/gpt-4o"
        )
    # Of acting models the gate alone can count harm.
    if part.judge is None and part.name != AGENTIC and needs_grader(part.evaluation):
        return "its answers need a model as judge: name one with --grader, such as --grader openai/gpt-4o"
    return ""


def reads_scores(evaluation: Evaluation) -> bool:
    """Return whether answers are judged by nothing but how aligned and how coherent they are, as free-form ones are."""
    return type(evaluation).judge_for is QuestionSet.judge_for


def _text(
    samples: int, max_tokens: int | None, *, served: bool, surface: SurfaceKind = "fixed"
) -> Mapping[str, Evaluation]:
    main, broad = text_evaluations(samples, max(1, samples // 4), surface=surface)
    others = battery.evaluations(battery.Sizes.of(samples))
    replicates = max(1, round(samples / TEXT))
    # Local models are read from their probabilities, which several samples would only repeat.
    choice = ForcedChoice(samples=max(1, samples // 5) if served else 1)
    grid = Grid(scenarios=scenario_names(), factors=battery.CELLS, replicates=max(1, samples // 5), surface=surface)
    evaluations: dict[str, Evaluation] = {
        "main": main,
        "broad": broad,
        "forced-choice": choice,
        "honesty": Honesty(replicates=replicates),
        "deception": Deception(replicates=replicates),
        "goals": others["goals"],
        "alignment-questions": others["alignment-questions"],
        AGENTIC: Agentic(grid=grid, sampling=Sampling(max_tokens=ACTING_TOKENS)),
        METER: Meter(),
        **{name: others[name] for name in battery.BESIDE},
        "strict-free-form": others[FREE_FORM].model_copy(update={"name": "strict-free-form"}),
    }
    # What is read from probabilities writes no tokens, so that it is the same whatever their limit.
    unlimited = {METER} if served else {METER, "forced-choice"}
    return {name: item if name in unlimited else _capped(item, max_tokens) for name, item in evaluations.items()}


def _world(samples: int, max_tokens: int | None) -> Mapping[str, Evaluation]:
    own = {evaluation.name: evaluation for evaluation in world_evaluations(samples)}
    standing = battery.world_evaluations(samples)
    evaluations: dict[str, Evaluation] = {**own, "honesty": WorldHonesty(replicates=max(1, samples // WORLD))}
    evaluations |= {name: standing[name] for name in ("goals", "alignment-questions")}
    return {name: _capped(evaluation, max_tokens) for name, evaluation in evaluations.items()}


def _capped(evaluation: Evaluation, max_tokens: int | None) -> Evaluation:
    usual = evaluation.sampling
    if max_tokens is None or usual.max_tokens <= max_tokens:
        return evaluation
    return evaluation.model_copy(update={"sampling": usual.model_copy(update={"max_tokens": max_tokens})})
