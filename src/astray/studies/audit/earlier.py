"""What earlier audits left in a results folder: their models, and where the store keeps what each of them was asked.

A later audit shows them beside its own models, so that its page extends the earlier one and replaces nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from astray.artifacts import Step
from astray.engine.gold import gold_named
from astray.engine.models import NamedModel
from astray.errors import AstrayError, ConfigurationError
from astray.measure.surface import SurfaceKind
from astray.strict import Strict
from astray.studies.audit.battery import Part, parts_for

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

    def besides(self, other: "Manner") -> str:
        """Return the options that another manner has differently, as they are typed; "" where there are none."""
        mine, its = self.model_dump(), other.model_dump()
        return ", ".join(
            f"without --{name.replace('_', '-')}" if value is None else f"with --{name.replace('_', '-')} {value}"
            for name, value in mine.items()
            if value != its[name]
        )


class Asked(Strict):
    """One evaluation of one model that an audit shows.

    Attributes:
        model, evaluation: their names.
        manner: how it was asked.
        last: key of the last step, whose answers are counted.
        heard: key of the step with the answers before they were judged; "" where nobody judges them.
    """

    model: str
    evaluation: str
    manner: Manner
    last: str = Field(min_length=1)
    heard: str = ""

    @classmethod
    def by(cls, key: tuple[str, str], step: Step, manner: Manner) -> "Asked":
        """Return what a step is, of this model and evaluation."""
        heard = step.inputs["answers"].key if step.inputs else ""
        return cls(model=key[0], evaluation=key[1], manner=manner, last=step.key, heard=heard)

    def part(self, model: NamedModel) -> Part | None:
        """Return what was asked and who judged; None where this version has no evaluation of that name."""
        how = self.manner
        gold = gold_named(how.gold, how.gold_grader, str(how.grader))
        return parts_for(model, how.samples, how.max_tokens, how.grader, gold, how.surface).get(self.evaluation)


@dataclass(frozen=True)
class Earlier:
    """What a folder shows already.

    Attributes:
        models: its models, as far as they are still there.
        asked: (model, part) -> how it was asked, and where that is kept.
        parts: (model, part) -> what was asked and who judged.
    """

    models: Sequence[NamedModel] = ()
    asked: Mapping[tuple[str, str], Asked] = field(default_factory=dict)
    parts: Mapping[tuple[str, str], Part] = field(default_factory=dict)


def earlier_in(folder: Path) -> Earlier:
    """Return what an earlier audit left in a folder; a model that was moved, deleted or changed since is left out.

    Raises:
        ConfigurationError: the folder's result is none of an audit.
    """
    path = folder / JSON
    if not path.is_file():
        return Earlier()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        models = [(NamedModel.model_validate(each["found"]), each.get("id")) for each in kept["models"]]
        asked = [Asked.model_validate(each) for each in kept.get("asked", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is no result of an audit ({error}), so its models are not known. "
            "Remove it, or name another folder with --out."
        ) from error
    there = [(model, model.id == known) for model, known in models if _is_there(model)]
    same = {model.name: model for model, is_same in there if is_same}
    parts = {
        (each.model, each.evaluation): part
        for each in asked
        if each.model in same and (part := each.part(same[each.model])) is not None
    }
    by_key = {(each.model, each.evaluation): each for each in asked}
    return Earlier([model for model, _ in there], {key: by_key[key] for key in parts}, parts)


def _is_there(model: NamedModel) -> bool:
    try:
        model.check()
        _ = model.id
    except AstrayError:
        return False
    return True
