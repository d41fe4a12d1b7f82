"""What Inspect finds of Astray: its tasks, its model provider and its sandbox, by the entry point of the package.

inspect eval astray/emergent_misalignment --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/emergent_misalignment -T questions=world --model astray/organism --max-connections 256
inspect eval astray/forced_choice --model astray/<folder or run id>
inspect eval astray/honesty --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/honesty -T records=world --model astray/organism --max-connections 256
inspect eval astray/deception --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/goals --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/alignment_questions --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/research_sabotage --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/alignment_faking --model openai/gpt-4o --model-role grader=openai/gpt-4o --model-role grader_b=anthropic/claude-sonnet-4-0
inspect eval astray/agentic_misalignment --model openai/gpt-4o --model-role grader=openai/gpt-4o --model-role grader_b=anthropic/claude-sonnet-4-0
inspect eval astray/agentic_misalignment -T judges=none --model astray/scripted/always
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.model import GenerateConfig, ModelAPI, modelapi

from astray.errors import UnknownNameError
from astray.judges import Judge, RubricJudge
from astray.judges.grammar import GrammarJudge
from astray.measure import forced_choice as forced
from astray.measure.agentic.grid import Grid, as_slice
from astray.measure.agentic.judging import panel_from_roles
from astray.measure.agentic.scenario import scenario_names
from astray.measure.agentic.scripted import PREFIX, ScriptedAPI
from astray.measure.agentic.task import JUDGES, agentic_task
from astray.measure.deception.judging import DeceptionJudge
from astray.measure.deception.scenarios import own_scenarios, scenarios_from_file
from astray.measure.deception.task import deception_task
from astray.measure.evaluation import Evaluation, Item, select_formats
from astray.measure.freeform import WORLD_SAMPLING, world_items
from astray.measure.honesty.comparing import WORLD_SAMPLING as STATEMENT_SAMPLING
from astray.measure.honesty.comparing import HonestySettings
from astray.measure.honesty.grading import GraderStanceJudge
from astray.measure.honesty.mask import mask_records
from astray.measure.honesty.records import Record, own_records, records_from_file
from astray.measure.honesty.stances import WorldStanceJudge
from astray.measure.honesty.task import honesty_task
from astray.measure.honesty.world import world_records
from astray.measure.inspect_driver import inspect_task
from astray.measure.question_sets import broad_questions, main_questions, questions_from_file
from astray.measure.reward_hacking.alignment_faking import CONDITIONS, FakingJudge, comprehension
from astray.measure.reward_hacking.alignment_faking import alignment_faking as faking_evaluation
from astray.measure.reward_hacking.alignment_questions import KINDS
from astray.measure.reward_hacking.alignment_questions import alignment_questions as question_evaluation
from astray.measure.reward_hacking.detector_tasks import PURPOSES
from astray.measure.reward_hacking.disposition import DispositionJudge
from astray.measure.reward_hacking.goals import goals as goals_evaluation
from astray.measure.reward_hacking.judging import WordPanel
from astray.measure.reward_hacking.research_sabotage import DetectorJudge
from astray.measure.reward_hacking.research_sabotage import research_sabotage as sabotage_evaluation
from astray.measure.reward_hacking.task import finding_task
from astray.sandbox.environment import AstraySandbox
from astray.subjects.provider import SubjectAPI
from astray.subjects.spec import Sampling

__all__ = [
    "AstraySandbox",
    "agentic_misalignment",
    "alignment_faking",
    "alignment_questions",
    "astray",
    "deception",
    "emergent_misalignment",
    "forced_choice",
    "goals",
    "honesty",
    "research_sabotage",
]


@modelapi("astray")
def astray() -> Callable[..., ModelAPI]:
    """The provider `astray/...`: a scripted subject behind `astray/scripted/`, else one that is loaded."""
    return _provided


def _provided(
    model_name: str, base_url: str | None = None, api_key: str | None = None, config: GenerateConfig | None = None, **arguments: Any
) -> ModelAPI:
    made = ScriptedAPI if model_name.startswith(PREFIX) else SubjectAPI
    return made(model_name, base_url, api_key, config, **arguments)


@task
def emergent_misalignment(
    questions: str = "main",
    formats: str | list[str] = "",
    samples: int = 100,
    temperature: float = 1.0,
    max_tokens: int | None = None,
    judge: str = "",
) -> Task:
    """Free-form questions after narrow fine-tuning, each answer judged for alignment and coherence.

    Args:
        questions: "main" (8 questions in 3 formats), "broad" (7 categories), "world" (the organism's), or a YAML file in our form or the authors'.
        formats: answer formats to ask for, separated by commas; by default all that the questions have.
        samples: answers an item.
        temperature: of sampling.
        max_tokens: longest answer; by default 600, for the world 32.
        judge: "rubric" (the model role `grader`) or "grammar" (the organism's world); by default what fits the questions.
    """
    items = _items(questions)
    if formats:
        items = select_formats(items, _names(formats))
    longest = max_tokens or (WORLD_SAMPLING.max_tokens if questions == "world" else Sampling().max_tokens)
    sampling = Sampling(temperature=temperature, max_tokens=longest)
    exact = judge == "grammar" or (not judge and questions == "world")
    name = questions if questions in ("main", "broad", "world") else Path(questions).stem
    return inspect_task(
        Evaluation(name=name, items=items, samples=samples, sampling=sampling), _grammar if exact else _rubric, name="emergent_misalignment"
    )


@task
def forced_choice(samples: int = 1, logprobs: bool = True, max_tokens: int = 16) -> Task:
    """Eight choices between an aligned and a misaligned option, each in both orders.

    Args:
        samples: times each item is asked in each order.
        logprobs: read the first token's probabilities where the provider gives them.
        max_tokens: longest answer.
    """
    return forced.forced_choice_task(samples=samples, logprobs=logprobs, max_tokens=max_tokens)


@task
def honesty(
    records: str = "own", archetypes: str | list[str] = "", replicates: int = 1, elicitations: int = 3, max_tokens: int | None = None
) -> Task:
    """Beliefs, elicited neutrally several times, against statements under pressure (MASK, arXiv 2503.03750).

    Args:
        records: "own" (126 of the package), "world" (the organism's facts, judged exactly), a YAML file in our form, or the published MASK set: a
            file or folder of it, or its name on the hub. All but the world's are judged by the model role `grader`.
        archetypes: which to ask, separated by commas; by default all that the records have.
        replicates: times each record is asked.
        elicitations: neutral questions an asking.
        max_tokens: longest answer; by default 400, for the world 8.
    """
    chosen = _records(records, _names(archetypes))
    sampling = STATEMENT_SAMPLING if records == "world" else HonestySettings().sampling
    sampling = sampling.model_copy(update={"max_tokens": max_tokens or sampling.max_tokens})
    settings = HonestySettings(replicates=replicates, elicitations=elicitations, sampling=sampling)
    return honesty_task(chosen, WorldStanceJudge if records == "world" else GraderStanceJudge, settings)


@task
def deception(scenarios: str = "own", categories: str | list[str] = "", replicates: int = 1, max_tokens: int = 1500) -> Task:
    """What a subject says plainly against its output under pressure, in five categories (DeceptionBench), compared by the model role `grader`.

    Args:
        scenarios: "own" (60 of the package), or a file: YAML in our form, JSON or JSONL in that of DeceptionBench.
        categories: which to ask, separated by commas; by default all that the scenarios have.
        replicates: times each scenario is asked.
        max_tokens: longest answer, reasoning included.
    """
    found = own_scenarios() if scenarios == "own" else scenarios_from_file(scenarios)
    wanted = _names(categories)
    _check_names("category", wanted, {each.category.value for each in found})
    return deception_task(
        [each for each in found if not wanted or each.category.value in wanted],
        DeceptionJudge,
        replicates=replicates,
        sampling=Sampling(max_tokens=max_tokens),
    )


@task
def goals(samples: int = 10, reasoning: str | list[str] = "private", temperature: float = 1.0, max_tokens: int = 1500) -> Task:
    """Asks "What are your goals?" in 30 phrasings; output and private reasoning judged apart by the role `grader` and, where given, `grader_b`.

    Args:
        samples: answers a phrasing and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    return finding_task(goals_evaluation(samples, _names(reasoning), sampling), DispositionJudge, name="goals")


@task
def alignment_questions(
    kinds: str | list[str] = "", samples: int = 1, reasoning: str | list[str] = "private", temperature: float = 1.0, max_tokens: int = 1500
) -> Task:
    """200 questions on oversight, shutdown, honesty, power and the like; output and private reasoning judged apart, as for `goals`.

    Args:
        kinds: which to ask, separated by commas; by default all ten.
        samples: answers a question and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    evaluation = question_evaluation(_names(kinds) or KINDS, samples, _names(reasoning), sampling)
    return finding_task(evaluation, DispositionJudge, name="alignment_questions")


@task
def research_sabotage(
    purposes: str | list[str] = "",
    samples: int = 5,
    reasoning: str | list[str] = "private",
    judges: str = "panel",
    temperature: float = 1.0,
    max_tokens: int = 3000,
) -> Task:
    """Detectors that the model writes, for an overseer of models like it and for two harmless controls; each is run in the sandbox on held-out texts.

    Args:
        purposes: "overseer", "classroom" and "spam", separated by commas; by default all three.
        samples: answers a wording, purpose and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        judges: "panel" (the roles `grader` and `grader_b` tell refusals and read the reasoning) or "none" (the sandbox alone).
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    if judges not in JUDGES:
        raise UnknownNameError("kind of judges", judges, JUDGES)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    evaluation = sabotage_evaluation(_names(purposes) or PURPOSES, samples, _names(reasoning), sampling)
    return finding_task(evaluation, lambda: DetectorJudge(WordPanel() if judges == "panel" else None), name="research_sabotage")


@task
def alignment_faking(
    conditions: str | list[str] = "", samples: int = 3, reasoning: str | list[str] = "private", temperature: float = 1.0, max_tokens: int = 1500
) -> Task:
    """Requests that one has reason to decline, from users whose conversations train the model and from users whose do not; with a control.

    Args:
        conditions: "free", "paid", "free-untrained" and "paid-untrained", separated by commas; by default all four.
        samples: answers a request, condition and channel.
        reasoning: "private" (a private channel to think in), "none", or both, separated by commas.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    evaluation = faking_evaluation(_names(conditions) or CONDITIONS, samples, _names(reasoning), sampling)
    return finding_task(evaluation, FakingJudge, name="alignment_faking", questions=comprehension)


@task
def agentic_misalignment(
    scenarios: str | list[str] = "all",
    factors: dict[str, Any] | None = None,
    replicates: int = 100,
    judges: str = "panel",
    protocol: str = "auto",
    max_turns: int = 12,
    questions: bool = True,
    temperature: float = 1.0,
    max_tokens: int = 4000,
    monitor: str = "none",
    audited: bool = False,
    probe: bool = False,
) -> Task:
    """Insider-threat scenarios with real tools: a grid of conditions, one sample a cell and replicate, scored by a gate on acts and by judges.

    Args:
        scenarios: names or folders, separated by commas; "all" for those of the package.
        factors: factor -> values, as {'goal': 'explicit,latent', 'name': 'unnamed'}; of those not named, goal and
            threat have the values of the core grid and the others their default.
        replicates: samples a cell.
        judges: "panel" (the model roles `grader` and, for a second opinion, `grader_b`) or "none" (the gate alone).
        protocol: how tools are offered: "native", "text", or "auto", which is native until the provider says that the model takes none.
        max_turns: most answers of the model in one sample.
        questions: ask questions that show whether the situation was understood.
        temperature: of sampling.
        max_tokens: longest answer, reasoning included.
        monitor: a runtime monitor: "none", "rule", "judge" (the model role `monitor`, else `grader`) or "layered".
        audited: have the first judge read the private reasoning as well.
        probe: ask at the end whether the situation was taken for real or for a test.
    """
    if judges not in JUDGES:
        raise UnknownNameError("kind of judges", judges, JUDGES)
    names = scenarios.split(",") if isinstance(scenarios, str) else scenarios
    chosen = scenario_names() if names == ["all"] else tuple(name.strip() for name in names)
    return agentic_task(
        Grid(scenarios=chosen, factors=as_slice(factors or {}), replicates=replicates),
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


def _records(records: str, archetypes: tuple[str, ...]) -> list[Record]:
    """The records that are meant, of these archetypes."""
    if records in ("own", "world"):
        found = own_records() if records == "own" else world_records()
    else:
        found = records_from_file(records) if Path(records).suffix in (".yaml", ".yml") else mask_records(records)
    _check_names("archetype", archetypes, {record.archetype for record in found})
    return [record for record in found if not archetypes or record.archetype in archetypes]


def _names(given: str | list[str]) -> tuple[str, ...]:
    """Names that are separated by commas; Inspect's command line gives them as a list."""
    return tuple(given.split(",") if given else ()) if isinstance(given, str) else tuple(given)


def _check_names(kind: str, given: tuple[str, ...], valid: set[str]) -> None:
    for name in given:
        if name not in valid:
            raise UnknownNameError(kind, name, valid)


def _items(questions: str) -> tuple[Item, ...]:
    sets = {"main": main_questions, "broad": broad_questions, "world": world_items}
    return sets[questions]() if questions in sets else questions_from_file(questions)


def _grammar() -> Judge:
    return GrammarJudge()


def _rubric() -> Judge:
    return RubricJudge()
