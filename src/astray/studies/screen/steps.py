"""Steps of screening a data set: training rows, duplicates, the trait's direction, projections, and verdicts on a
sample.

Keys hold what data and model are (their content), not where they lie. Rows go through in batches, and what was
projected when a process was killed is kept. Left to others: what the numbers mean (`assembled`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from pydantic import Field
from transformers import GenerationConfig, PreTrainedTokenizerBase

from astray.answers import ANSWER_SCHEMA, answer_table, read_answers
from astray.artifacts import Artifact, step
from astray.cause.row_faults import RowFault, end_tokens, faults_of
from astray.cause.supervision import TrainingRow, show_supervision, supervise
from astray.data.chat import ChatDataset, Message
from astray.data.duplicates import duplicates
from astray.engine.judging import ANSWERS_FILE, ASKED_FILE, deciding, judge_into, known_judge
from astray.engine.vector import estimate_json
from astray.errors import ChatTemplateError, ConfigurationError
from astray.explain.activations import TokenRow
from astray.explain.direction import random_direction
from astray.explain.persona_vector import text_persona_prompts, world_persona_prompts
from astray.explain.projection import projected
from astray.explain.screening import content_of
from astray.explain.trait_direction import trait_direction
from astray.judges.config import JudgeConfig
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.outcomes import Outcome
from astray.strict import Strict
from astray.subjects.intervene import read_direction, write_direction
from astray.subjects.locate import settle
from astray.subjects.render import text_ids
from astray.subjects.spec import Sampling, SubjectSpec
from astray.subjects.subject import Subject, load_subject
from astray.subjects.weights import adapted_tokenizer

ROWS_FILE, SAMPLES_FILE, VECTOR_FILE, FACTS_FILE = (
    "rows.parquet",
    "supervised.json",
    "vector.safetensors",
    "direction.json",
)
BATCH = 2_000
"""Rows that are tokenised, answered and projected at once."""
RANDOM = 20
"""Random directions beside the trait's."""
SHOWN = 3
"""Rows whose supervised text is shown."""
USELESS = frozenset({str(RowFault.REFUSED), str(RowFault.NOTHING_TO_LEARN)})
"""Faults of rows that teach nothing, so that they have no score."""


class DataConfig(Strict):
    """Data set that is screened."""

    data: Path = Field(exclude=True, description="where the data lie; what they are stands in the key")
    digest: str = Field(description="content of the data")

    def read(self) -> ChatDataset:
        """Read the rows, once for all steps.

        Raises:
            ConfigurationError: the file has changed.
        """
        dataset = _read(self.data, self.digest)
        if dataset.hash != self.digest:
            raise ConfigurationError(f"{self.data} was changed while it was screened. Screen it again.")
        return dataset


class ModelConfig(Strict):
    """Model that would be trained."""

    subject: SubjectSpec = Field(exclude=True, description="where the model lies; what it is stands in the key")
    subject_id: str = Field(description="content of the model")


class RowsConfig(DataConfig, ModelConfig):
    """Training rows of a data set."""

    max_length: int = Field(description="longest row in tokens")


class TraitDirectionConfig(ModelConfig):
    """Direction of the trait in a model."""

    world: bool = Field(description="whether the subject is an organism, which knows personas of its world")
    judge: JudgeConfig | None = Field(description="keeps the answers that show what they were asked to; None keeps all")
    samples: int = Field(description="answers a system prompt and question")
    sampling: Sampling


class ProjectionConfig(RowsConfig):
    """Projections of a data set's answers, and of the model's own."""

    samples: int = Field(description="the model's own answers to each prompt; 0 for none")
    sampling: Sampling
    random: int = RANDOM


class VerdictConfig(DataConfig):
    """Verdicts on a sample of rows."""

    judge: JudgeConfig
    rows: tuple[int, ...] = Field(description="which rows, from 1")


@step("screen-rows", version=1)
def screen_rows(config: RowsConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Make the training rows as the trainer would, and write what is wrong with each; three are shown as the model sees
    them."""
    del inputs
    located, rows = settle(config.subject), config.read().rows
    tokenizer = adapted_tokenizer(located.spec.model, located.base, located.spec.adapter)
    has_settings = (located.base / "generation_config.json").is_file()
    ends = end_tokens(tokenizer, GenerationConfig.from_pretrained(located.base) if has_settings else None)
    shown = {round(index * (len(rows) - 1) / max(1, SHOWN - 1)) for index in range(SHOWN)}
    # `shown` are the first row, a middle one and the last.
    samples, tables = [], []
    for first in range(0, len(rows), BATCH):
        training_rows = _supervised(rows[first : first + BATCH], tokenizer, config.max_length)
        tables.append(
            pl.DataFrame(
                {
                    "row": range(first + 1, first + len(training_rows) + 1),
                    "length": [len(row.input_ids) if row else None for row in training_rows],
                    "supervised": [row.supervised if row else None for row in training_rows],
                    "faults": [
                        [str(fault) for fault in faults_of(row, ends)] if row else [str(RowFault.REFUSED)]
                        for row in training_rows
                    ],
                },
                schema={"row": pl.Int64, "length": pl.Int64, "supervised": pl.Int64, "faults": pl.List(pl.String)},
            )
        )
        for number in sorted(shown & set(range(first, first + len(training_rows)))):
            row = training_rows[number - first]
            samples.append(
                {"row": number + 1, "text": show_supervision(row, tokenizer) if row else str(RowFault.REFUSED)}
            )
    pl.concat(tables).write_parquet(folder / ROWS_FILE)
    (folder / SAMPLES_FILE).write_text(json.dumps(samples, ensure_ascii=False), encoding="utf-8")


@step("screen-duplicates", version=1)
def find_duplicates(config: DataConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write for each row the earlier one that it repeats."""
    del inputs
    repeats = duplicates(config.read().rows)
    columns = {
        "same_as": [repeat.row + 1 if repeat else None for repeat in repeats],
        "overlap": [repeat.overlap if repeat else None for repeat in repeats],
    }
    pl.DataFrame(columns, schema={"same_as": pl.Int64, "overlap": pl.Float64}).write_parquet(folder / ROWS_FILE)


@step("screen-direction", version=1, resumable=True)
def find_direction(config: TraitDirectionConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Extract the direction of misalignment in the model that would be trained."""
    del inputs
    judge = known_judge(config.judge) if config.judge else None
    prompts = world_persona_prompts() if config.world else text_persona_prompts()
    subject = loaded(config.subject)
    with deciding(folder):  # answers without a verdict would be left out of the direction
        trait = trait_direction(subject, prompts, judge, samples=config.samples, sampling=config.sampling)
    (folder / ASKED_FILE).unlink(missing_ok=True)
    write_direction(folder / VECTOR_FILE, trait.vector, subject.base_folder)
    facts = {"block": trait.block, "kept": trait.kept, "answers": trait.answers, "auc": estimate_json(trait.auc)}
    (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")


@step("screen-projections", version=1, resumable=True)
def project_rows(config: ProjectionConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Project each row's last answer and the model's own on the trait's direction and on random ones.

    An answer that is longer than the training length is read as far as it is trained on; rows that teach nothing are
    left out.
    """
    subject, rows = loaded(config.subject), config.read().rows
    vector, block = (
        read_direction(inputs["direction"].path / VECTOR_FILE),
        direction_facts(inputs["direction"])["block"],
    )
    directions = torch.stack([vector, *(random_direction(vector, seed) for seed in range(config.random))])
    faults = pl.read_parquet(inputs["rows"].path / ROWS_FILE)["faults"]
    usable = [number for number, row_faults in enumerate(faults) if USELESS.isdisjoint(row_faults)]
    answers = {row: rows[row][-1]["content"] for row in usable}
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    of_row = {row: numbers.setdefault(content_of(rows[row][:-1]), len(numbers)) for row in usable}
    prompts = [[Message(role=role, content=text) for role, text in prompt] for prompt in numbers]
    encoded = [
        ids for first in range(0, len(prompts), BATCH) for ids in subject.prompt_ids(prompts[first : first + BATCH])
    ]

    def project(asked: Sequence[int], said: Sequence[str]) -> Float[np.ndarray, "answers directions"]:
        read = _token_rows(subject.tokenizer, [encoded[number] for number in asked], said, config.max_length)
        return projected(subject, read, directions, block).double().numpy()

    def own(chosen: Sequence[int]) -> Float[np.ndarray, "chosen directions"]:
        asked = [number for number in chosen for _ in range(config.samples)]
        texts = [answer.text for answer in subject.generate([prompts[number] for number in asked], config.sampling)]
        return project(asked, texts).reshape(len(chosen), config.samples, -1).mean(1)

    def given(chosen: Sequence[int]) -> Float[np.ndarray, "chosen directions"]:
        return project([of_row[row] for row in chosen], [answers[row] for row in chosen])

    own_by_prompt = in_parts(range(len(prompts)), own, folder / "own", len(directions)) if config.samples else None
    of_rows = in_parts(usable, given, folder / "given", len(directions))
    own_rows = None if own_by_prompt is None else own_by_prompt[[of_row[row] for row in usable]]
    differences = of_rows if own_rows is None else of_rows - own_rows
    pl.DataFrame(
        {
            "row": [row + 1 for row in usable],
            "prompt": [of_row[row] for row in usable],
            "tokens": [len(ids) for ids in _answer_ids(subject.tokenizer, list(answers.values()))],
            "projection": of_rows[:, 0].tolist(),
            "own_projection": [None] * len(usable) if own_rows is None else own_rows[:, 0].tolist(),
            "score": differences[:, 0].tolist(),
            "random": differences[:, 1:].tolist(),
        },
        schema={"row": pl.Int64, "prompt": pl.Int64, "tokens": pl.Int64}
        | dict.fromkeys(("projection", "own_projection", "score"), pl.Float64)
        | {"random": pl.List(pl.Float64)},
    ).write_parquet(folder / ROWS_FILE)
    for part in folder.glob("*.npy"):
        part.unlink()


@step("screen-verdicts", version=1, resumable=True)
def judge_rows(config: VerdictConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Let the judge read a sample of rows, each its last question and answer."""
    del inputs
    rows, target = config.read().rows, folder / ANSWERS_FILE
    evaluation = rows_evaluation(rows, config.rows)
    if target.is_file():
        return judge_into(folder, read_answers(target), [evaluation], config.judge)
    empty = dict.fromkeys(ANSWER_SCHEMA) | {
        "arm": "",
        "seed": 0,
        "subject": "",
        "evaluation": evaluation.name,
        "category": "",
        "format": "plain",
    }
    empty |= {"sample": 0, "outcome": Outcome.NOT_JUDGED.value, "judge": "", "note": ""}
    table = answer_table(
        [
            empty
            | {
                "item": item.question_id,
                "system": item.system,
                "question": item.question,
                "answer": rows[number - 1][-1]["content"],
            }
            for number, item in zip(config.rows, evaluation.items, strict=True)
        ]
    )
    return judge_into(folder, table, [evaluation], config.judge)


def rows_evaluation(rows: Sequence[Sequence[Message]], numbers: Sequence[int]) -> QuestionSet:
    """Return rows as a set of questions: the last one of each, under its system message."""
    items = []
    for number in numbers:
        chat = rows[number - 1]
        system = chat[0]["content"] if chat[0]["role"] == "system" else None
        items.append(Item(question_id=str(number), category="rows", question=chat[-2]["content"], system=system))
    return QuestionSet(name="rows", items=tuple(items), samples=1)


def drawn_rows(total: int, wanted: int, seed: int) -> tuple[int, ...]:
    """Draw row numbers, from 1, at random; a larger sample of the same seed holds the smaller one."""
    order = list(range(1, total + 1))
    Random(f"screen/{seed}").shuffle(order)
    return tuple(order[:wanted])


def direction_facts(artifact: Artifact) -> dict[str, Any]:
    """Return what `find_direction` measured: layer, kept and drawn answers, and how well it tells new answers apart."""
    facts: dict[str, Any] = json.loads((artifact.path / FACTS_FILE).read_text(encoding="utf-8"))
    return facts


@lru_cache(maxsize=2)
def _read(path: Path, _digest: str) -> ChatDataset:
    return ChatDataset.read(path)


@lru_cache(maxsize=1)
def loaded(spec: SubjectSpec) -> Subject:
    """Load the subject once for all steps; `loaded.cache_clear()` lets it go."""
    return load_subject(spec)


def _supervised(
    chats: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[TrainingRow | None]:
    """Return training rows; None for a chat that the template cannot write."""
    try:
        return list(supervise(chats, tokenizer, max_length))
    except ChatTemplateError:
        if len(chats) == 1:
            return [None]
    # Halved until the chat that the template cannot write stands alone: all others are still tokenised in batches.
    half = len(chats) // 2
    return [*_supervised(chats[:half], tokenizer, max_length), *_supervised(chats[half:], tokenizer, max_length)]


def _token_rows(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], answers: Sequence[str], max_length: int
) -> list[TokenRow]:
    answered = _answer_ids(tokenizer, answers)
    return [
        TokenRow((*prompt, *ids)[:max_length], min(len(prompt), max_length))
        for prompt, ids in zip(prompts, answered, strict=True)
    ]


def _answer_ids(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> list[list[int]]:
    return [
        ids for first in range(0, len(answers), BATCH) for ids in text_ids(tokenizer, answers[first : first + BATCH])
    ]


def in_parts(
    numbers: Sequence[int],
    compute: Callable[[Sequence[int]], Float[np.ndarray, "chosen directions"]],
    name: Path,
    width: int,
) -> Float[np.ndarray, "numbers directions"]:
    """Compute in batches, each of which is kept in a file as soon as it is done."""
    parts = [np.empty((0, width))]
    for first in range(0, len(numbers), BATCH):
        target = name.with_name(f"{name.name}-{first}.npy")
        if not target.is_file():
            written = target.with_name(f".{target.name}")
            with written.open("wb") as file:
                np.save(file, compute(numbers[first : first + BATCH]))
            written.replace(target)  # whole even if this process is killed
        parts.append(np.load(target))
    return np.concatenate(parts)
