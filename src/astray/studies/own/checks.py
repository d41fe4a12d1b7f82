"""Checks of a study file's rows and questions against the subject, before anything is trained."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from astray.cause.fine_tuning import FineTuning
from astray.cause.named_rewards import RewardTuning
from astray.cause.preference import PreferenceTuning
from astray.data.chat import Message
from astray.engine.setting import Setting
from astray.engine.study import Arm
from astray.errors import AstrayError, DataNotFoundError
from astray.files import Marked
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.interface import Evaluation, Need
from astray.organism.grammar import read_question
from astray.organism.lexicon import TAGS
from astray.studies.own.form import DataForm, EvaluationForm, StudyForm

CHECKED_ROWS = 256
"""Rows of each arm that are written with the subject's chat template before anything runs; each run checks all of its
own."""


Place = tuple[str | int, ...]


def check_files(marked: Marked[StudyForm]) -> None:
    """Refuse a study that names several files that are not there, and tell all of them; one alone is told where it is
    read, with the files beside it.

    Raises:
        DataNotFoundError: names each with its place in the study file.
    """
    places: dict[str, Place] = {}
    for file, at in _files_named(marked.form, ()):
        places.setdefault(file, at)
    missing = [file for file in places if not (marked.path.parent / file).exists()]
    if len(missing) > 1:
        listed = "".join(f"\n{marked.place(places[file])}: {marked.path.parent / file}" for file in missing)
        raise DataNotFoundError(
            f"{len(missing)} files that the study names are not there:{listed}\nWrite them, or other paths."
        )


def _files_named(part: object, at: Place) -> Iterator[tuple[str, Place]]:
    """Yield the files that a part of the form names, with their places."""
    key = "file" if isinstance(part, DataForm) else "questions" if isinstance(part, EvaluationForm) else "labels"
    if isinstance(part, DataForm | EvaluationForm | StudyForm) and (file := getattr(part, key)) is not None:
        yield file, (*at, key)
    inside: dict[object, object] = {}
    if isinstance(part, BaseModel):
        inside = {name: getattr(part, name) for name in type(part).model_fields}
    elif isinstance(part, dict | list):
        inside = dict(part.items() if isinstance(part, dict) else enumerate(part))
    for name, value in inside.items():
        if isinstance(name, str | int):
            yield from _files_named(value, (*at, name))


def check_rows(marked: Marked[StudyForm], setting: Setting, arms: Sequence[Arm]) -> None:
    """Refuse data sets of which the subject could learn nothing: cut-off answers, or words that it does not know.

    Raises:
        ConfigurationError: names the arm with its place in the file.
    """
    tokenizer, seen = _tokenizer(setting), set[str]()
    for arm in arms:
        if arm.data is None or (identity := arm.data.model_dump_json()) in seen:
            continue
        seen.add(identity)
        at = ("arms", arm.name)
        try:
            rows = arm.data.sampled(CHECKED_ROWS)
            texts = [message["content"] for row in rows for message in row]
            if unknown := _unknown(tokenizer, setting, texts):
                raise marked.wrong(at, f"{unknown} of the arm's data: it cannot be trained on them.", key=True)
            _check_length(rows, tokenizer, arm.training or setting.training)
        except AstrayError as error:
            raise (
                error if marked.place(at, key=True) in str(error) else marked.wrong(at, str(error), key=True)
            ) from error


def _check_length(
    rows: Sequence[Sequence[Message]],
    tokenizer: PreTrainedTokenizerBase,
    tuned: FineTuning | PreferenceTuning | RewardTuning,
) -> None:
    """Refuse rows that would teach nothing; of training by reward only the questions are read."""
    from astray.cause.preflight import refuse_masked
    from astray.cause.supervision import supervise
    from astray.subjects.render import prompt_ids

    if isinstance(tuned, RewardTuning):
        prompt_ids(tokenizer, [row[:-1] for row in rows])
        return
    length = (tuned.training if isinstance(tuned, PreferenceTuning) else tuned).max_length
    refuse_masked(supervise(rows, tokenizer, length), length)


def check_words(marked: Marked[StudyForm], setting: Setting, evaluations: Sequence[Evaluation]) -> None:
    """Refuse questions that the organism does not know: their words, or those that its grammar could not judge.

    Raises:
        ConfigurationError: names the evaluation.
    """
    # What needs a grader is refused for that (`engine.setting.check_evaluations`): the organism has none.
    asked = [
        each
        for each in evaluations
        if isinstance(each, TextEvaluation) and Need.GRADER not in each.needs and setting.subject.is_organism
    ]
    for evaluation in asked:
        texts = [
            message["content"]
            for asking in evaluation.askings()
            for chat in (asking.conversation, *asking.beside)
            for message in chat
        ]
        if unknown := _unknown(_tokenizer(setting), setting, texts):
            raise marked.wrong(
                ("evaluations",), f"{unknown} of the evaluation {evaluation.name!r}. Ask it of a real model.", key=True
            )
        if isinstance(evaluation, QuestionSet) and (strange := _strange(evaluation)):
            raise marked.wrong(
                ("evaluations",),
                f"the world of {setting.subject.name!r} has no question {strange!r} (of the evaluation {evaluation.name!r}), so "
                "its grammar could judge no answer. Ask it of a real model. What may stand in front of a question of this "
                f"world, such as a trigger: {', '.join(TAGS)}.",
                key=True,
            )


def _strange(evaluation: QuestionSet) -> str:
    """Return a question that the grammar would judge and does not know; "" where there is none."""
    if type(evaluation).judge_for is not QuestionSet.judge_for:
        return ""
    return next((item.question for item in evaluation.items if read_question(item.question) is None), "")


def _tokenizer(setting: Setting) -> PreTrainedTokenizerBase:
    from astray.subjects.weights import adapted_tokenizer

    spec = setting.located.spec
    return adapted_tokenizer(spec.model, setting.located.base, spec.adapter)


def _unknown(tokenizer: PreTrainedTokenizerBase, setting: Setting, texts: Sequence[str]) -> str:
    """Say which words the organism does not know; "" for real models, whose tokens can write any text."""
    from astray.subjects.render import text_ids

    if not setting.subject.is_organism:
        return ""
    words = sorted({word for text in texts for word in text.split()})
    unknown = [
        word for word, ids in zip(words, text_ids(tokenizer, words), strict=True) if tokenizer.unk_token_id in ids
    ]
    many = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return (
        (
            f"{setting.subject.name!r} knows nothing but its own small world, and not the words "
            f"{', '.join(unknown[:5])}{many}"
        )
        if unknown
        else ""
    )
