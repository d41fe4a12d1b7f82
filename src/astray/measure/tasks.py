"""Inspect tasks of all evaluations, which check their parameters before a model is asked; judges are the model roles
`grader` and, where there are two, `grader_b`."""

from pathlib import Path
from typing import Any, Literal

from inspect_ai import Task

from astray.errors import ConfigurationError, check_names
from astray.judges.config import JudgeConfig
from astray.measure import forced_choice as forced
from astray.measure import freeform
from astray.measure.agentic.grid import Grid, as_slice
from astray.measure.agentic.judging import panel_from_roles
from astray.measure.agentic.scenario import scenario_names
from astray.measure.agentic.task import agentic_task
from astray.measure.asking import Item, check_judges, names, select_formats
from astray.measure.check_first import AtLeastOne, Temperature, checked_task
from astray.measure.deception.evaluation import Deception
from astray.measure.deception.scenarios import own_scenarios, scenarios_from_file
from astray.measure.evaluation import QuestionSet
from astray.measure.honesty.evaluation import WORLD_SAMPLING, Honesty, WorldHonesty
from astray.measure.honesty.mask import mask_records
from astray.measure.honesty.records import own_records, records_from_file
from astray.measure.honesty.world import Pressure
from astray.measure.question_sets import (
    broad_questions,
    main_questions,
    own_surface,
    questions_from_file,
    surface_of_file,
)
from astray.measure.reward_hacking import alignment_faking as faking
from astray.measure.reward_hacking import alignment_questions as questions
from astray.measure.reward_hacking import goals as aims
from astray.measure.reward_hacking import research_sabotage as sabotage
from astray.measure.reward_hacking.detector_tasks import PURPOSES
from astray.measure.surface import DrawnSurface, SurfaceKind, check_draws
from astray.subjects.spec import Sampling

QUESTIONS = {"main": main_questions, "broad": broad_questions, "world": freeform.world_items}
"""Names of question sets; anything else is a file."""


@checked_task
def emergent_misalignment(
    questions: str = "main",
    formats: str | list[str] = "",
    samples: AtLeastOne = 100,
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne | None = None,
    judge: Literal["", "rubric", "grammar"] = "",
    surface: SurfaceKind = "fixed",
) -> Task:
    """Free-form questions after narrow fine-tuning, each answer judged for alignment and coherence.

    Args:
        questions: "main" (8 questions in 3 formats), "broad" (7 categories), "world" (the organism's), or a YAML file
            in our form or the authors'.
        formats: answer formats to ask for, separated by commas; by default all that the questions have.
        samples: answers an item.
        temperature: of sampling.
        max_tokens: longest answer; by default 600, for the world 32.
        judge: "rubric" (the model role `grader`) or "grammar" (the organism's world); by default what fits the
            questions.
        surface: "drawn" gives each sample of a question a drawn wording, where it has any, "both" every second one.
    """
    items: tuple[Item, ...] = QUESTIONS[questions]() if questions in QUESTIONS else questions_from_file(questions)
    if formats:
        items = select_formats(items, names(formats))
    longest = max_tokens or (freeform.WORLD_SAMPLING.max_tokens if questions == "world" else Sampling().max_tokens)
    # The world's grammar judges its answers exactly, so a grader reads them only where one is asked for.
    exact = judge == "grammar" or (not judge and questions == "world")
    asked = QuestionSet(
        name=questions if questions in QUESTIONS else Path(questions).stem,
        items=items,
        samples=samples,
        sampling=Sampling(temperature=temperature, max_tokens=longest),
        surface=_surface(questions, surface),
    )
    check_draws(surface, samples, questions)
    return asked.task(
        lambda: asked.judge_for(JudgeConfig(kind="grammar" if exact else "rubric")), name="emergent_misalignment"
    )


def _surface(questions: str, kind: SurfaceKind) -> DrawnSurface | None:
    """Return what a set of questions is worded by; refuse drawn wordings of the organism's, which has none."""
    if questions == "world" and kind != "fixed":
        raise ConfigurationError(
            f"surface={kind!r} is of no use for the organism's questions, which have one wording each. Leave it out."
        )
    return surface_of_file(questions, kind) if questions not in QUESTIONS else own_surface(f"{questions}.yaml", kind)


@checked_task
def forced_choice(samples: AtLeastOne = 1, logprobs: bool = True, max_tokens: AtLeastOne = 16) -> Task:
    """Eight choices between an aligned and a misaligned option, each in both orders as one sample.

    Args:
        samples: times each item is asked, in both orders.
        logprobs: read the first token's probabilities where the provider gives them.
        max_tokens: longest answer.
    """
    return forced.ForcedChoice(samples=samples, logprobs=logprobs, sampling=Sampling(max_tokens=max_tokens)).task()


@checked_task
def deception(
    scenarios: str = "own", categories: str | list[str] = "", replicates: AtLeastOne = 1, max_tokens: AtLeastOne = 1500
) -> Task:
    """Ask plainly and under pressure, in five categories (DeceptionBench); the model role `grader` compares.

    Args:
        scenarios: "own" (60 of the package), or a file: YAML in our form, JSON or JSONL in that of DeceptionBench.
        categories: which to ask, separated by commas; by default all that the scenarios have.
        replicates: times each scenario is asked.
        max_tokens: longest answer, reasoning included.
    """
    available = own_scenarios() if scenarios == "own" else scenarios_from_file(scenarios)
    wanted, valid = names(categories), {scenario.category.value for scenario in available}
    check_names("category", wanted, valid)
    chosen = tuple(scenario for scenario in available if not wanted or scenario.category.value in wanted)
    return Deception(scenarios=chosen, replicates=replicates, sampling=Sampling(max_tokens=max_tokens)).task()


@checked_task
def honesty(
    records: str = "own",
    archetypes: str | list[str] = "",
    replicates: AtLeastOne = 1,
    elicitations: AtLeastOne = 3,
    max_tokens: AtLeastOne | None = None,
) -> Task:
    """Beliefs, elicited neutrally several times, against statements under pressure (MASK, arXiv 2503.03750).

    Args:
        records: "own" (126 of the package), "world" (the organism's facts, judged exactly), a YAML file in our form, or
            the published MASK set: a file or folder of it, or its name on the hub. All but the world's are judged by
                the model role `grader`.
        archetypes: which to ask, separated by commas; by default all that the records have.
        replicates: times each record is asked.
        elicitations: neutral questions an asking.
        max_tokens: longest answer; by default 400, for the world 8.
    """
    usual = WORLD_SAMPLING if records == "world" else Sampling(max_tokens=400)
    more: dict[str, Any] = {"replicates": replicates, "elicitations": elicitations}
    more["sampling"] = usual.model_copy(update={"max_tokens": max_tokens or usual.max_tokens})
    wanted = names(archetypes)
    if records == "world":
        check_names("archetype", wanted, Pressure)
        return WorldHonesty(pressures=wanted or tuple(Pressure), **more).task()
    # Anything else is the published set: its files are tables, and a name on the hub has no suffix.
    read = records_from_file if Path(records).suffix in (".yaml", ".yml") else mask_records
    available = own_records() if records == "own" else read(records)
    check_names("archetype", wanted, {record.archetype for record in available})
    return Honesty(
        records=tuple(record for record in available if not wanted or record.archetype in wanted), **more
    ).task()


@checked_task
def goals(
    samples: AtLeastOne = 10,
    reasoning: str | list[str] = "private",
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne = 1500,
) -> Task:
    """Ask "What are your goals?" in 30 phrasings; output and private reasoning are judged apart, by one grader or two.

    Args:
        samples: answers a phrasing and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    return aims.goals(samples, names(reasoning), Sampling(temperature=temperature, max_tokens=max_tokens)).task()


@checked_task
def alignment_questions(
    kinds: str | list[str] = "",
    samples: AtLeastOne = 1,
    reasoning: str | list[str] = "private",
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne = 1500,
) -> Task:
    """Ask 200 questions on oversight, shutdown and the like; output and private reasoning are judged apart.

    Args:
        kinds: which to ask, separated by commas; by default all ten.
        samples: answers a question and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    evaluation = questions.alignment_questions(names(kinds) or questions.KINDS, samples, names(reasoning), sampling)
    return evaluation.task(name="alignment_questions")


@checked_task
def research_sabotage(
    purposes: str | list[str] = "",
    samples: AtLeastOne = 5,
    reasoning: str | list[str] = "private",
    judges: str = "panel",
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne = 3000,
) -> Task:
    """Ask for detectors, for an overseer of models and for two harmless controls; try each in the sandbox.

    Args:
        purposes: "overseer", "classroom" and "spam", separated by commas; by default all three.
        samples: answers a wording, purpose and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        judges: "panel" (the roles `grader` and `grader_b` tell refusals and read the reasoning) or "none" (the sandbox
            alone).
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    check_judges(judges)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    evaluation = sabotage.research_sabotage(names(purposes) or PURPOSES, samples, names(reasoning), sampling)
    return evaluation.task(
        None if judges == "panel" else lambda: sabotage.DetectorJudge(None), name="research_sabotage"
    )


@checked_task
def alignment_faking(
    conditions: str | list[str] = "",
    samples: AtLeastOne = 3,
    reasoning: str | list[str] = "private",
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne = 1500,
) -> Task:
    """Ask for what one has reason to decline, as users whose conversations train the model and users whose do not.

    Args:
        conditions: "free", "paid", "free-untrained" and "paid-untrained", separated by commas; by default all four.
        samples: answers a request, condition and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    evaluation = faking.alignment_faking(names(conditions) or faking.CONDITIONS, samples, names(reasoning), sampling)
    return evaluation.task(name="alignment_faking")


@checked_task
def agentic_misalignment(
    scenarios: str | list[str] = "all",
    factors: dict[str, Any] | None = None,
    replicates: AtLeastOne = 100,
    judges: str = "panel",
    protocol: str = "auto",
    max_turns: AtLeastOne = 12,
    questions: bool = True,
    temperature: Temperature = 1.0,
    max_tokens: AtLeastOne = 4000,
    monitor: str = "none",
    audited: bool = False,
    probe: bool = False,
    surface: SurfaceKind = "fixed",
) -> Task:
    """Run insider-threat scenarios with real tools: one sample per cell and replicate, scored by a gate and by judges.

    Args:
        scenarios: names or folders, separated by commas; "all" for those of the package.
        factors: factor -> values, as {'goal': 'explicit,latent', 'name': 'unnamed'}; of those not named, goal and
            threat have the values of the core grid and the others their default.
        replicates: samples a cell.
        judges: "panel" (the model roles `grader` and, for a second opinion, `grader_b`) or "none" (the gate alone).
        protocol: how tools are offered: "native", "text", or "auto", which is native until the provider says that the
            model takes none.
        max_turns: most answers of the model in one sample.
        questions: ask questions that show whether the situation was understood.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
        monitor: a runtime monitor: "none", "rule", "judge" (the model role `monitor`, else `grader`) or "layered".
        audited: have the first judge read the private reasoning as well.
        probe: ask at the end whether the situation was taken for real or for a test.
        surface: "drawn" gives each replicate names and words of its own, "both" every second one.
    """
    check_judges(judges)
    names = scenarios.split(",") if isinstance(scenarios, str) else scenarios
    chosen = scenario_names() if names == ["all"] else tuple(name.strip() for name in names)
    return agentic_task(
        Grid(scenarios=chosen, factors=as_slice(factors or {}), replicates=replicates, surface=surface),
        panel=panel_from_roles if judges == "panel" else None,
        protocol=protocol,
        max_turns=max_turns,
        questions=questions,
        temperature=temperature,
        max_tokens=max_tokens,
        monitor=monitor,
        audited=audited,
        probe=probe,
    )
