"""Evaluations of a study file: by name, from a question file, or one asked again with something in front."""

from collections.abc import Sequence
from pathlib import Path

from astray.errors import AstrayError
from astray.files import Marked, nearest
from astray.measure.evaluation import QuestionSet
from astray.measure.evaluations import EVALUATIONS
from astray.measure.interface import Evaluation
from astray.measure.meter import Meter
from astray.measure.question_sets import OWN_SETS, QUESTIONS, questions_from_file, surface_of_file
from astray.measure.surface import check_draws
from astray.studies.own.form import EvaluationForm, StudyForm

Place = tuple[str | int, ...]


def evaluations_of(
    marked: Marked[StudyForm],
    forms: Sequence[EvaluationForm],
    at: Place,
    usual: Sequence[Evaluation],
    above: Sequence[Evaluation] = (),
) -> tuple[Evaluation, ...]:
    """Return the evaluations of a list in a study file.

    Args:
        marked: the file.
        forms: the list.
        at: its place.
        usual: the setting's own evaluations, which have names too; the first one tells samples and sampling of question
            files.
        above: evaluations that `of` may name besides.

    Raises:
        ConfigurationError: there is no such evaluation, it cannot be asked so, or two have one name.
        DataNotFoundError, DataFormatError, EmptyDataError: a question file cannot be read.
    """
    evaluations: list[Evaluation] = []
    for number, form in enumerate(forms):
        path = (*at, number)
        evaluation = _evaluation(marked, form, path, usual, (*above, *evaluations))
        if evaluation.name in {earlier.name for earlier in (*above, *evaluations)}:
            raise marked.wrong(
                path,
                f"there is an evaluation called {evaluation.name!r} already. Give this one another name: name: "
                f"{evaluation.name}-2",
            )
        if isinstance(evaluation, Meter) and any(isinstance(earlier, Meter) for earlier in (*above, *evaluations)):
            raise marked.wrong(path, "the meter is asked already, and reads each pair once: leave this one out.")
        evaluations.append(evaluation)
    return tuple(evaluations)


def _evaluation(
    marked: Marked[StudyForm], form: EvaluationForm, at: Place, usual: Sequence[Evaluation], above: Sequence[Evaluation]
) -> Evaluation:
    evaluation: Evaluation
    if form.of is not None:
        evaluation = _changed(marked, form, at, above)
    elif form.questions is not None:
        evaluation = _asked_from(marked, form.questions, at, usual[0])
    else:
        evaluation = _known(marked, str(form.evaluation), at, usual)
    evaluation = _worded(marked, form, at, evaluation)
    name = form.name or evaluation.name
    if form.samples is None:
        return _drawn_often_enough(marked, at, evaluation.model_copy(update={"name": name}))
    count = next((field for field in ("samples", "replicates") if field in type(evaluation).model_fields), None)
    if count is None:
        raise marked.wrong(
            (*at, "samples"), f"the evaluation {name!r} asks each question once, so it takes no samples."
        )
    return _drawn_often_enough(marked, at, evaluation.model_copy(update={"name": name, count: form.samples}))


def _drawn_often_enough(marked: Marked[StudyForm], at: Place, evaluation: Evaluation) -> Evaluation:
    """Return an evaluation as it is, which is refused where it would ask no drawn wording."""
    if isinstance(evaluation, QuestionSet):
        try:
            check_draws(evaluation.surface_kind, evaluation.samples, evaluation.name)
        except AstrayError as error:
            raise type(error)(f"{marked.place(at)}: {error}") from error
    return evaluation


def _worded(marked: Marked[StudyForm], form: EvaluationForm, at: Place, evaluation: Evaluation) -> Evaluation:
    """Return an evaluation in the wordings that the form asks for."""
    if form.surface == "fixed":
        return evaluation
    key = (*at, "surface")
    if form.of is not None:
        raise marked.wrong(key, f"it is worded as {form.of} is. Write surface there, and leave it out here.")
    if not isinstance(evaluation, QuestionSet) or form.evaluation not in (None, *OWN_SETS):
        raise marked.wrong(
            key,
            f"a question file, {' and '.join(OWN_SETS)} have other wordings, and this has none. Leave surface out.",
        )
    file = marked.path.parent / str(form.questions) if form.questions else QUESTIONS / f"{form.evaluation}.yaml"
    try:
        return evaluation.model_copy(update={"surface": surface_of_file(file, form.surface)})
    except AstrayError as error:
        raise type(error)(f"{marked.place(key)}: {error}") from error


def _known(marked: Marked[StudyForm], name: str, at: Place, usual: Sequence[Evaluation]) -> Evaluation:
    own = {evaluation.name: evaluation for evaluation in usual}
    if name in own:
        return own[name]
    if name not in EVALUATIONS:
        existing = list(dict.fromkeys([*own, *EVALUATIONS]))
        raise marked.wrong(
            (*at, "evaluation"),
            f"there is no evaluation called {name!r}.{nearest(name, existing)} There are: {', '.join(existing)}.",
        )
    return EVALUATIONS[name].model_validate({}).model_copy(update={"name": name})


def _asked_from(marked: Marked[StudyForm], file: str, at: Place, usual: Evaluation) -> QuestionSet:
    path = marked.path.parent / file
    samples = usual.samples if isinstance(usual, QuestionSet) else 1
    try:
        return QuestionSet(
            name=Path(file).name.split(".")[0],
            items=questions_from_file(path),
            samples=samples,
            sampling=usual.sampling,
        )
    except AstrayError as error:
        raise type(error)(f"{marked.place((*at, 'questions'))}: {error}") from error


def _changed(marked: Marked[StudyForm], form: EvaluationForm, at: Place, above: Sequence[Evaluation]) -> QuestionSet:
    names = [evaluation.name for evaluation in above]
    base = next((evaluation for evaluation in above if evaluation.name == form.of), None)
    if base is None:
        raise marked.wrong(
            (*at, "of"),
            f"there is no evaluation called {form.of!r} above.{nearest(str(form.of), names)} There are: "
            f"{', '.join(names) or 'none'}.",
        )
    if not isinstance(base, QuestionSet):
        raise marked.wrong((*at, "of"), f"{form.of!r} is no set of questions, so nothing can stand in front of them.")
    if form.name is None:
        raise marked.wrong(at, "an evaluation with `of` needs a name of its own, such as name: with-trigger")
    return base.with_prefix(form.prefix, form.name) if form.prefix else base.under_system(str(form.system), form.name)
