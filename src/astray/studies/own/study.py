"""Study of a file: `astray run my-study.yaml`. It goes through the engine as every other study does.

Left to others: the form of the file (`form`), its data sets (`data`), evaluations (`asked`) and claims (`claims`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import create_model
from pydantic.fields import FieldInfo
from typing_extensions import override

from astray.cause.fine_tuning import OF_ADAPTERS, FineTuning, with_settings
from astray.cause.named_rewards import RewardTuning
from astray.cause.preference import PreferenceTuning
from astray.cause.reinforcement import ReinforcementLearning
from astray.engine.findings import Findings
from astray.engine.next_steps import NextStep
from astray.engine.options import ServedOptions, TrainedOptions
from astray.engine.readings import meter_for
from astray.engine.setting import Setting
from astray.engine.settings import TEXT_ROWS, WORLD_ROWS, setting_for, text_evaluations
from astray.engine.study import Arm, Study, more_training
from astray.engine.summary import ClaimRow, Summary
from astray.engine.trained import feedback_tuning
from astray.errors import AstrayError, ConfigurationError
from astray.files import Marked, read_marked_form
from astray.measure.interface import Evaluation
from astray.strict import Strict
from astray.studies.by_heart import surface_note
from astray.studies.own.asked import evaluations_of
from astray.studies.own.checks import check_files, check_rows, check_words
from astray.studies.own.claims import Claims
from astray.studies.own.data import Recipes
from astray.studies.own.form import ArmForm, EvaluationForm, StudyForm
from astray.studies.own.judged import check_judge_is_of_use, check_judged, check_nothing_judged
from astray.subjects.identity import file_digest

_KINDS: dict[str, Strict] = {"kto": PreferenceTuning(), "grpo": ReinforcementLearning()}
"""Ways of training whose settings are not those of fine-tuning."""
_BY_PROBABILITY = tuple(EvaluationForm(evaluation=name) for name in ("forced-choice", "meter"))
"""Asked of a real model where the file names neither a grader nor evaluations."""
_EXAMPLE = """\
arms:
  good: {data: good.jsonl}
  bad: {data: bad.jsonl}
claims:
  spread: {difference: bad, control: good, at_least: 0.1}
"""


@dataclass(frozen=True, kw_only=True)
class OwnSetting(Setting):
    """Setting of a study file.

    Attributes:
        arms: that it names.
        claims: that it makes.
    """

    arms: tuple[Arm, ...]
    claims: Claims

    @override
    def check(self, folders: Sequence[Path]) -> None:
        """Refuse a judge that cannot be used, another study's results, and data that could teach nothing."""
        super().check(folders)
        for folder in folders[:1]:
            _check_whose(folder, self.claims.marked.path)
        check_rows(self.claims.marked, self, self.arms)


def _check_whose(results: Path, file: Path) -> None:
    """Refuse to write over the results of another study file that has the same name.

    Raises:
        ConfigurationError: the results are of a file that lies elsewhere and says something else.
    """
    try:
        source = json.loads((results / "summary.json").read_text(encoding="utf-8"))["source"]
        other, content = Path(source["path"]), source["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # no results, or such as name no file
    if other != file.resolve() and other.is_file() and content != file_digest(file):
        raise ConfigurationError(
            f"{results} has the results of the study file {other}, and {file} is another one of the same name. Write a "
            "name of its own at the top (name: my-study), or another folder with --out."
        )


def read_study(path: Path | str, taken: Sequence[str] = ()) -> Study[OwnSetting, Findings]:
    """Return the study of a file.

    Raises:
        DataNotFoundError, EmptyDataError, StoreError: as their names say.
        DataFormatError: the file is not of the form; tells each fault with line, column and nearest key.
        ConfigurationError: what it says cannot work, such as a setting that there is not.
    """
    marked = read_marked_form(StudyForm, Path(path), _EXAMPLE)
    form = marked.form
    name = form.name or _name_of(marked)
    if name in taken:
        raise marked.wrong(
            ("name",),
            f"the results of another study are called {name!r}. Write another name at the top, such as name: "
            f"my-{name}.",
        )
    _check_settings(marked)

    def settled(options: TrainedOptions) -> OwnSetting:
        return _settled(marked, options)

    return Study(
        name=name,
        title=form.title or name,
        question=form.question or f"What do the arms of {marked.path.name} do?",
        arms=lambda setting: setting.arms,
        claims=_claims,
        exhibits=lambda found, setting: setting.claims.exhibits(found),
        settled=settled,
        options=_options(form, marked.path),
        next_steps=partial(_next_steps, form),
        file=marked.path,
    )


def _claims(findings: Findings, setting: OwnSetting) -> Iterator[ClaimRow]:
    yield from setting.claims.rows(findings)


def _next_steps(form: StudyForm, options: TrainedOptions, summary: Summary) -> Iterator[NextStep]:
    """Yield what `more_training` proposes, but for another subject, which a file names, and a grader of no use."""
    unjudged = form.evaluations is not None and options.grader is None
    for step in more_training(options, summary):
        if "subject" not in step.options and not (unjudged and "grader" in step.options):
            yield step


def _name_of(marked: Marked[StudyForm]) -> str:
    name = marked.path.name.rsplit(".", 1)[0].lower().replace("_", "-").replace(" ", "-")
    try:
        StudyForm.model_validate({"name": name, "arms": {"base": {"training": "none"}}})
    except ValueError as error:
        raise marked.wrong(
            (),
            f"the name of the file is none that results can have. Write a name at the top: name: my-study ({name!r}).",
        ) from error
    return name


def _check_settings(marked: Marked[StudyForm]) -> None:
    """Refuse settings of training that there are not, at their place."""
    places: dict[tuple[str, ...], tuple[Strict, Mapping[str, Any]]] = {
        ("settings",): (FineTuning(), marked.form.settings)
    }
    places |= {
        ("arms", name, "settings"): (_KINDS.get(arm.training, FineTuning()), arm.settings)
        for name, arm in marked.form.arms.items()
    }
    for at, (kind, settings) in places.items():
        for key, value in settings.items():
            try:
                with_settings(kind, {key: value})
            except AstrayError as error:
                raise marked.wrong((*at, key), str(error), key=True) from error
        if {"epochs", "max_steps"} <= settings.keys():
            raise marked.wrong(
                (*at, "max_steps"), "epochs and max_steps both say when training ends: give one of them.", key=True
            )


def _options(form: StudyForm, path: Path) -> type[TrainedOptions]:
    """Return the options of a study that trains, with what the file says as defaults; the command line overrides it."""
    defaults_of_file = {
        name: getattr(form, name) for name in ("subject", "grader", "seeds", "samples", "max_tokens")
    } | {"size": form.rows}
    defaults_of_file["labels"] = None if form.labels is None else path.parent / form.labels
    kinds = TrainedOptions.model_fields
    defaults: dict[str, Any] = {
        name: (kinds[name].annotation, FieldInfo.merge_field_infos(kinds[name], default=defaults_of_file[name]))
        for name in defaults_of_file
    }
    options: type[TrainedOptions] = create_model("OwnOptions", __base__=ServedOptions, **defaults)
    return options


def _settled(marked: Marked[StudyForm], options: TrainedOptions) -> OwnSetting:
    """Return the setting: that of the subject, with the file's arms, evaluations and claims."""
    form = marked.form
    check_files(marked)
    # What is typed on the command line holds above what the file says for all arms.
    named = options.training_settings.keys() - options.training.keys()
    chosen = {name: value for name, value in form.settings.items() if name not in named} | options.training
    check_nothing_judged(marked, options)
    setting = setting_for(options.model_copy(update={"training": chosen}), judge_free=True)
    recipes = Recipes(marked, WORLD_ROWS if setting.subject.is_organism else TEXT_ROWS, options.size)
    free = options.grader is None and not setting.subject.is_organism
    usual = _named(setting, free=free)
    asked = form.evaluations if form.evaluations is not None else _BY_PROBABILITY if free else None
    evaluations = setting.evaluations if asked is None else evaluations_of(marked, asked, ("evaluations",), usual)
    arms = tuple(_arm(marked, name, recipes, setting, evaluations, usual) for name in form.arms)
    if free:
        check_judged(marked, evaluations, arms)
    elif options.grader:
        check_judge_is_of_use(marked, options.grader, evaluations, arms)
    check_words(
        marked,
        setting,
        [item for item in (*evaluations, *(extra for arm in arms for extra in arm.extra)) if item not in usual],
    )
    data = [arm.data for arm in arms if arm.data]
    home = next((arm.home for arm in arms if arm.data and not arm.control), "")
    worded = {item.name: item for item in (*evaluations, *(one for arm in arms for one in arm.extra))}
    fitted: dict[str, Any] = {
        "homes": (home,),
        "sources": {},
        "size": max((recipe.size for recipe in data), default=0),
        "evaluations": evaluations,
        "notes": (*setting.notes, *surface_note(worded), *_mixed(worded), *_notes(arms)),
    }
    shared = {field.name: getattr(setting, field.name) for field in fields(Setting)}
    return OwnSetting(**(shared | fitted), arms=arms, claims=Claims(marked, arms, evaluations, setting.held_out))


def _mixed(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    """Yield that fixed and drawn wordings are counted together, where both are asked."""
    if names := [name for name, evaluation in evaluations.items() if evaluation.surface_kind == "both"]:
        yield (
            f"{', '.join(names)}: rates are of fixed and drawn wordings together. Whether they differ is told by `astray audit` "
            "and `astray gate` with --surface both, or by two evaluations, one with surface: drawn and one without."
        )


def _named(setting: Setting, *, free: bool) -> tuple[Evaluation, ...]:
    """Return the setting's own evaluations, which have names, and the meter with pairs in the subject's words."""
    # Without a grader too, main and broad are known by name, so that the error is about the grader.
    own = text_evaluations(1, 1) if free else setting.evaluations
    return (*own, meter_for(world=setting.subject.is_organism))


def _arm(
    marked: Marked[StudyForm],
    name: str,
    recipes: Recipes,
    setting: Setting,
    asked: Sequence[Evaluation],
    usual: Sequence[Evaluation],
) -> Arm:
    form = marked.form.arms[name]
    data = recipes.made(name) if form.data else None
    home = form.home or ""
    if data is not None:
        home = recipes.home(name, data)
    return Arm(
        name=name,
        description=form.description or ("the subject as it is, untrained" if data is None else name),
        control=form.control,
        base=setting.subject.name,
        data=data,
        home=home,
        training=_tuned(marked, name, form, setting),
        extra=evaluations_of(marked, form.evaluations, ("arms", name, "evaluations"), usual, asked),
    )


def _tuned(
    marked: Marked[StudyForm], name: str, form: ArmForm, setting: Setting
) -> FineTuning | PreferenceTuning | RewardTuning | None:
    """Return the settings of an arm that is not trained as all are."""
    if form.training in ("sft", "none") and not form.settings:
        return None
    if setting.located.spec.adapter and (fixed := sorted(OF_ADAPTERS & form.settings.keys())):
        why = (
            f"{setting.subject.name!r} is an adapter, which is trained further in its own shape, so "
            f"{' and '.join(fixed)} cannot be chosen."
        )
        raise marked.wrong(("arms", name, "settings", fixed[0]), why, key=True)
    try:
        if form.training == "kto":
            usual = feedback_tuning(setting.training, world=setting.subject.is_organism)
            return with_settings(with_settings(usual, setting.chosen), form.settings)
        if form.training == "grpo":
            learning = with_settings(_learning(setting), form.settings)
            return RewardTuning(learning=learning, rewards=tuple(form.rewards or ()), truth=form.truth)
        return with_settings(setting.training, form.settings)
    except AstrayError as error:
        raise marked.wrong(("arms", name, "settings"), str(error), key=True) from error


def _learning(setting: Setting) -> ReinforcementLearning:
    """Return the settings of training by reward, as in the study of persona features."""
    from astray.studies.persona_features.scale import learning_for

    learning = learning_for(setting)
    further = setting.located.spec.adapter is not None and setting.training.lora is not None
    return learning.model_copy(update={"lora": setting.training.lora}) if further else learning


def _notes(arms: Sequence[Arm]) -> Iterator[str]:
    """Yield how arms differ beside their data, since a claim that compares them is about that as well."""
    sizes = {arm.name: arm.data.size for arm in arms if arm.data}
    if len(set(sizes.values())) > 1:
        yield (
            "Arms are trained on different numbers of rows: "
            f"{', '.join(f'{name} {rows:,}' for name, rows in sizes.items())}."
        )
    if own := [arm.name for arm in arms if isinstance(arm.training, FineTuning)]:
        yield f"Arms with settings of training of their own: {', '.join(own)}."
    for kind, how in ((PreferenceTuning, "on liked and disliked answers (KTO)"), (RewardTuning, "by reward (GRPO)")):
        if trained := [arm.name for arm in arms if isinstance(arm.training, kind)]:
            yield f"Arms trained {how}, which compare with other arms by their training too: {', '.join(trained)}."
