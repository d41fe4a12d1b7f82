"""Inspect tasks of the evaluations that ask in words; judges are the model roles `grader` and, if given, `grader_b`."""

from inspect_ai import Task

from astray.measure.asking import check_judges, names
from astray.measure.check_first import AtLeastOne, Temperature, checked_task
from astray.measure.reward_hacking import alignment_faking as faking
from astray.measure.reward_hacking import alignment_questions as questions
from astray.measure.reward_hacking import goals as aims
from astray.measure.reward_hacking import research_sabotage as sabotage
from astray.measure.reward_hacking.detector_tasks import PURPOSES
from astray.subjects.spec import Sampling


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
