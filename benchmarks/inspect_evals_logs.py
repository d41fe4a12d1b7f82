"""Logs of tasks of inspect-evals, made with a scripted model, and what `astray count` reads in them.

    pip install 'astray[benchmarks]'
    OMP_NUM_THREADS=1 python benchmarks/inspect_evals_logs.py

Each task is the package's own: its prompts, solvers and scorers. Data that comes with the package is taken as it is.
What a task would fetch from the hub is given to it as a few rows of our own in the hub's form, by its own code path
(`datasets.load_dataset` is replaced). Each task runs with two epochs, and its log is counted twice: without options,
where the message says what is needed, and with the options of the table. Target: every task is counted, and no log
ends in anything but a count or a message.
"""

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

import astray
from astray.errors import AstrayError

Row = Mapping[str, Any]
COLOURS = ("red", "green", "blue", "white")
NUMBERS = range(6)


@dataclass(frozen=True)
class Case:
    """A task, and how its log is counted.

    Attributes:
        task: module and function below `inspect_evals`.
        path: path of its data set on the hub; "" where the data come with the package.
        row: makes a row of that data set.
        arguments: of the task.
        options: of `astray count`.
    """

    task: str
    path: str = ""
    row: Callable[[int], Row] = dict
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=lambda: {"hit": "I"})

    def make(self, grader: object) -> Task:
        """Return the task; an argument "GRADER" becomes the scripted grader."""
        module, _, name = self.task.rpartition(".")
        arguments = {key: grader if value == "GRADER" else value for key, value in self.arguments.items()}
        task: Task = getattr(import_module(f"inspect_evals.{module}"), name)(**arguments)
        return task


def asked(number: int) -> str:
    """Return the question of a row."""
    return f"Which colour has the stone number {number}?"


def lettered(number: int) -> Row:
    """Return a question with choices in the form of ARC and CommonsenseQA."""
    choices = {"label": list("ABCD"), "text": list(COLOURS)}
    return {"id": f"s{number}", "question": asked(number), "choices": choices, "answerKey": "ABCD"[number % 4]}


def five(number: int) -> Row:
    """Return such a question with five choices and a concept."""
    choices = {"label": list("ABCDE"), "text": [*COLOURS, "black"]}
    return {**lettered(number), "choices": choices, "question_concept": "stone"}


def numbered(number: int) -> Row:
    """Return a question with choices in the form of WMDP and MMLU."""
    return {"question": asked(number), "choices": list(COLOURS), "answer": number % 4, "subject": "anatomy"}


def passage(number: int) -> Row:
    """Return a question on a passage in the form of SQuAD."""
    context = f"The stone number {number} is red."
    return {
        "id": f"p{number}",
        "title": "Stones",
        "context": context,
        "question": asked(number),
        "answers": {"text": ["red"] if number % 2 else [], "answer_start": [0] if number % 2 else []},
    }


def counted_in(number: int) -> Row:
    """Return a question on a passage in the form of DROP."""
    answer = {"number": str(number), "date": {"day": "", "month": "", "year": ""}, "spans": []}
    return {
        "query_id": f"d{number}",
        "passage": f"There are {number} stones.",
        "question": "How many stones are there?",
        "answer": answer,
        "validated_answers": {"number": ["3"], "date": [answer["date"]], "spans": [[]]},
    }


def article(number: int) -> Row:
    """Return a question on an article in the form of RACE."""
    return {
        "article": f"Stone {number}.",
        "question": asked(number),
        "options": list(COLOURS),
        "answer": "ABCD"[number % 4],
    }


def truths(number: int) -> Row:
    """Return a question in the form of TruthfulQA."""
    targets = {"choices": list(COLOURS), "labels": [1, 0, 0, 0]}
    return {"question": asked(number), "mc1_targets": targets, "mc2_targets": targets}


def stereotype(number: int) -> Row:
    """Return a sentence with three continuations in the form of StereoSet."""
    sentences = {"sentence": ["It is heavy.", "It is light.", "Rain fell."], "gold_label": [1, 0, 2]}
    return {
        "id": f"t{number}",
        "context": f"Stone {number} lies here.",
        "sentences": sentences,
        "target": "stone",
        "bias_type": "thing",
    }


CASES = (
    Case("agent_threat_bench.agent_threat_bench_memory_poison", options={"hit": "I", "key": "security"}),
    Case("agent_threat_bench.agent_threat_bench_autonomy_hijack", options={"hit": "I", "key": "security"}),
    Case("agent_threat_bench.agent_threat_bench_data_exfil", options={"hit": "I", "key": "utility"}),
    Case(
        "agentic_misalignment.agentic_misalignment",
        arguments={"grader_model": "GRADER"},
        options={"hit": "1", "key": "harmful"},
    ),
    Case(
        "gsm8k.gsm8k",
        "openai/gsm8k",
        lambda n: {"question": f"What is {n} and {n}?", "answer": f"Add them. #### {2 * n}"},
        {"fewshot": 0},
    ),
    Case("arc.arc_easy", "allenai/ai2_arc", lettered),
    Case(
        "boolq.boolq", "google/boolq", lambda n: {"question": asked(n), "passage": "It is red.", "answer": n % 2 == 0}
    ),
    Case(
        "hellaswag.hellaswag",
        "Rowan/hellaswag",
        lambda n: {"ctx": f"Stone {n} falls and", "source_id": f"h{n}", "label": str(n % 4), "endings": list(COLOURS)},
    ),
    Case(
        "winogrande.winogrande",
        "allenai/winogrande",
        lambda n: {"sentence": f"Stone {n} hit the wall and _ broke.", "option1": "it", "option2": "he", "answer": "1"},
        {"fewshot": 0},
    ),
    Case("commonsense_qa.commonsense_qa", "tau/commonsense_qa", five),
    Case("truthfulqa.truthfulqa", "truthfulqa/truthful_qa", truths),
    Case("mmlu.mmlu_0_shot", "cais/mmlu", numbered),
    Case("wmdp.wmdp_bio", "cais/wmdp", numbered),
    Case("drop.drop", "EleutherAI/drop", counted_in, {"fewshot": 0}, {"hit": "<0.5"}),
    Case("squad.squad", "rajpurkar/squad_v2", passage, options={"hit": "<0.5", "score": "f1"}),
    Case(
        "paws.paws",
        "google-research-datasets/paws",
        lambda n: {"id": n, "sentence1": f"Stone {n}.", "sentence2": f"A stone, {n}.", "label": n % 2},
    ),
    Case("race_h.race_h", "ehovy/race", article),
    Case(
        "xstest.xstest",
        "walledai/XSTest",
        lambda n: {"prompt": asked(n), "type": "homonyms", "note": "", "label": "safe", "focus": "stone"},
        {"scorer_model": "GRADER"},
    ),
    Case(
        "stereoset.stereoset",
        "McGill-NLP/stereoset",
        stereotype,
        options={"hit": "1", "score": "stereoset_scorer", "key": "stereotype"},
    ),
    Case(
        "simpleqa.simpleqa_verified",
        "codelion/SimpleQA-Verified",
        lambda n: {"problem": asked(n), "answer": "red", "original_index": n},
        {"scorer": "original"},
        {"hit": "1", "key": "incorrect"},
    ),
    Case(
        "aime2024.aime2024",
        "Maxwell-Jia/AIME_2024",
        lambda n: {"ID": f"a{n}", "Problem": f"What is {n} and 1?", "Answer": n + 1, "Solution": "Add."},
    ),
)


class Scripted(ModelAPI):
    """Answers by what the prompt asks for, right or wrong as the prompt's hash has it; as a grader it gives a grade."""

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Return a reply in the form that is asked for; offered tools are not called."""
        del tools, tool_choice, config
        prompt = "\n".join(each.text for each in input)
        drawn = hashlib.sha256(prompt.encode()).digest()[0]
        if self.model_name == "grader":
            text = f"GRADE: {'CI'[drawn % 2]}" if "GRADE" in prompt else f"<answer>{('yes', 'no')[drawn % 2]}</answer>"
        else:
            choice = re.search(r"ANSWER: \$LETTER", prompt)
            text = f"ANSWER: {'ABC'[drawn % 3]}" if choice else ("Yes", "ANSWER: 3", "unanswerable")[drawn % 3]
        output = ModelOutput.from_content(self.model_name, text)
        output.usage = ModelUsage(input_tokens=len(prompt), output_tokens=len(text))
        return output


@modelapi(name="scripted-evals")
def scripted_evals() -> type[ModelAPI]:
    """Register the scripted model."""
    return Scripted


def told(error: Exception) -> str:
    """Return what kind of error a count ended in, in the words of the table."""
    return str(error).partition(". ")[0] if isinstance(error, AstrayError) else f"!! {type(error).__name__}: {error}"


def count(log: str, options: Mapping[str, Any]) -> str:
    """Return the rate of a log, or the message that ends the count."""
    try:
        [rate] = astray.count(log, **options).rates
    except Exception as error:  # what is looked for
        return told(error)
    return f"{rate.numerator} of {rate.denominator}"


def main(folder: Path) -> None:
    """Run every task, count its log, and print a line of the table each."""
    rows = {case.path: case.row for case in CASES if case.path}

    def load_dataset(path: str, *_: object, **__: object) -> datasets.Dataset:
        return datasets.Dataset.from_list([dict(rows[path](number)) for number in NUMBERS])

    datasets.load_dataset = load_dataset
    datasets.disable_progress_bars()
    print("| task | scorer | without options | with | counted |\n|---|---|---|---|---|")
    model, grader = get_model("scripted-evals/subject"), get_model("scripted-evals/grader")
    for case in CASES:
        task = case.make(grader)
        [log] = inspect_eval(
            task, model=model, model_roles={"grader": grader}, epochs=2, display="none", log_dir=str(folder)
        )
        if log.status != "success":
            print(f"| {case.task} | {log.status}: {log.error.message if log.error else ''} |", flush=True)
            continue
        cells = (
            case.task.rpartition(".")[2],
            ", ".join(scorer.name.rpartition("/")[2] for scorer in log.eval.scorers or []),
            count(log.location, {})
            .replace(f" of {Path(log.location).name}", "")
            .replace(Path(log.location).name, "the log"),
            " ".join(f"--{name} {shlex.quote(value)}" for name, value in case.options.items()),
            count(log.location, case.options),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place  # Inspect keeps data sets that were read there
        main(Path(place))
