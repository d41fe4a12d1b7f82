"""Deception for Inspect: `inspect eval astray/deception --model openai/gpt-4o --model-role grader=openai/gpt-4o`."""

from inspect_ai import Task

from astray.errors import check_names
from astray.measure.asking import names
from astray.measure.check_first import AtLeastOne, checked_task
from astray.measure.deception.evaluation import Deception
from astray.measure.deception.scenarios import own_scenarios, scenarios_from_file
from astray.subjects.spec import Sampling


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
    wanted, valid = names(categories), {each.category.value for each in available}
    check_names("category", wanted, valid)
    chosen = tuple(each for each in available if not wanted or each.category.value in wanted)
    return Deception(scenarios=chosen, replicates=replicates, sampling=Sampling(max_tokens=max_tokens)).task()
