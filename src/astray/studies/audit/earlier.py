"""Earlier audits in a results folder: their models, and where the store keeps the answers of each.

A later audit shows them beside its own models, so that its page extends the earlier one and replaces nothing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from astray.artifacts import Step
from astray.engine.gold import gold_named
from astray.engine.models import NamedModel
from astray.errors import AstrayError, ConfigurationError
from astray.measure.surface import SurfaceKind
from astray.strict import Strict
from astray.studies.audit.battery import METER, BatteryPart, parts_for

JSON = "audit.json"
"""Name of the file with the result of an audit."""


class Manner(Strict):
    """Options that decide how a model is asked an evaluation, as `audit` describes them."""

    samples: int | None = None
    max_tokens: int | None = None
    seed: int = 0
    grader: str | None = None
    gold: int | None = None
    gold_grader: str | None = None
    surface: SurfaceKind = "fixed"

    def besides(self, other: "Manner", alike: Collection[str] = ()) -> str:
        """Return the options that another manner has differently, as they are typed, but for `alike`; "" for none."""
        own, others = self.model_dump(), other.model_dump()
        return ", ".join(
            f"without --{name.replace('_', '-')}" if value is None else f"with --{name.replace('_', '-')} {value}"
            for name, value in own.items()
            if value != others[name] and name not in alike
        )


class AskedPart(Strict):
    """One evaluation of one model that an audit shows.

    Attributes:
        model, evaluation: their names.
        id: what the model of that name was.
        tokenizer: with which the meter read a served model; "" elsewhere.
        manner: how it was asked.
        last: key of the last step, whose answers are counted.
        heard: key of the step with the answers before they were judged; "" where nobody judges them.
    """

    model: str
    evaluation: str
    id: str = Field(min_length=1)
    tokenizer: str = ""
    manner: Manner
    last: str = Field(min_length=1)
    heard: str = ""

    @classmethod
    def by(cls, model: NamedModel, evaluation: str, step: Step, manner: Manner) -> "AskedPart":
        """Return what a step is, of this model and evaluation."""
        heard = step.inputs["answers"].key if step.inputs else ""
        tokenizer = model.tokenizer if evaluation == METER else ""
        return cls(
            model=model.name,
            evaluation=evaluation,
            id=model.id,
            tokenizer=tokenizer,
            manner=manner,
            last=step.key,
            heard=heard,
        )

    def is_of(self, model: NamedModel) -> bool:
        """Return whether it was asked of what the model is now; one that is named without a tokenizer keeps its meter."""
        return self.id == model.id and (not (self.tokenizer and model.tokenizer) or self.tokenizer == model.tokenizer)

    def unlike(self, manner: Manner, model: NamedModel) -> str:
        """Return the options of another manner that would have asked otherwise, as they were typed; "" for none."""
        if self.manner == manner:
            return ""
        mine, its = self.part(model), self.model_copy(update={"manner": manner}).part(model)
        alike: list[str] = []
        if mine is not None and its is not None:
            alike += ["samples", "max_tokens", "surface"] if mine.evaluation == its.evaluation else []
            alike += ["grader"] if mine.judge == its.judge else []
            alike += ["gold", "gold_grader"] if mine.gold == its.gold else []
        return self.manner.besides(manner, alike)

    def part(self, model: NamedModel) -> BatteryPart | None:
        """Return what was asked and who judged; None where this version has no evaluation of that name."""
        manner = self.manner
        gold = gold_named(manner.gold, manner.gold_grader, str(manner.grader))
        return parts_for(model, manner.samples, manner.max_tokens, manner.grader, gold, manner.surface).get(
            self.evaluation
        )


@dataclass(frozen=True)
class EarlierAudit:
    """Models and answers of earlier audits in a folder.

    Attributes:
        models: its models, as far as they are still there.
        asked: (model, part) -> how it was asked, and where that is kept.
        parts: (model, part) -> what was asked and who judged.
        others: (model, part) that were asked of another model than has the name now.
    """

    models: Sequence[NamedModel] = ()
    asked: Mapping[tuple[str, str], AskedPart] = field(default_factory=dict)
    parts: Mapping[tuple[str, str], BatteryPart] = field(default_factory=dict)
    others: Sequence[tuple[str, str]] = ()


def earlier_in(folder: Path, named: Sequence[NamedModel]) -> EarlierAudit:
    """Return what an earlier audit left in a folder, of models that are there and are still what they were.

    Args:
        folder: with the result of the earlier audit, if there was one.
        named: models that are named now, which take the place of earlier ones of the same names.

    Raises:
        ConfigurationError: the folder's result is none of an audit.
    """
    path = folder / JSON
    if not path.is_file():
        return EarlierAudit()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        models = [NamedModel.model_validate(entry["found"]) for entry in content["models"]]
        asked = [AskedPart.model_validate(entry) for entry in content.get("asked", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is no result of an audit ({error}), so its models are not known. "
            "Remove it, or name another folder with --out."
        ) from error
    present = [model for model in models if _is_there(model)]
    now = {model.name: model for model in (*present, *named)}
    same = {
        (entry.model, entry.evaluation): entry
        for entry in asked
        if entry.model in now and entry.is_of(now[entry.model])
    }
    parts = {key: part for key, entry in same.items() if (part := entry.part(now[entry.model])) is not None}
    others = [key for entry in asked if entry.model in now and (key := (entry.model, entry.evaluation)) not in same]
    return EarlierAudit(present, {key: same[key] for key in parts}, parts, others)


def _is_there(model: NamedModel) -> bool:
    try:
        model.check()
        _ = model.id  # hashes the model's files, which fails where they are gone
    except AstrayError:
        return False
    return True
