"""Ways back from a tuned model that went astray, and the models that they make.

A way is left out where it lacks something (an adapter, good rows, the training rows), and the result says which and why.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astray.artifacts import Artifact, Step
from astray.cause.fine_tuning import FineTuning, lora_of, with_settings
from astray.data.chat import ChatDataset
from astray.data.recipes import inoculate, repeat_to, subset
from astray.engine.steps import RUN_FOLDER
from astray.errors import ConfigurationError
from astray.mitigate.inoculation import Wording, harm_prompt
from astray.studies.blame.tuned import TunedModel
from astray.studies.repair.directions import Directions, ProjectConfig, project_out
from astray.studies.repair.kinds import CONTROLS, KINDS
from astray.studies.repair.steps import RetrainConfig, retrain
from astray.subjects.adapter_kinds import adapter_settings, unscalable
from astray.subjects.spec import SubjectSpec

SCALES = (0.25, 0.5, 0.75)
GOOD = (5, 20, 120)
"""Good rows that the tuned model is trained further on; about 120 sufficed in arXiv 2506.19823."""
KL = 10.0
"""Weight of the KL to the base in further training on good rows (organism: 50, 55 and 60% gone with 0, 1 and 10)."""
DRAWS = 10
"""Random directions beside each that is projected out or added in training."""
SEARCH, REPORT = 0, 1
"""Seeds of the runs by which a way is chosen, and of those that are reported."""


@dataclass(frozen=True)
class Way:
    """One way back.

    Attributes:
        name: short.
        what: what is done.
        control: whether it should change little: what it shows is what doing something at all does.
        models: a finished model, or the steps that make it with the seeds of search and report.
        draws: of a control with random directions, the step of each; the reported figure is that of the middle one.
        null: control whose draws are what its figure has to stand above; "" for none.
        scale: factor of the change of the adapter that the steps train.
    """

    name: str
    what: str
    models: SubjectSpec | tuple[Step, Step]
    control: bool = False
    draws: tuple[Step, ...] = ()
    null: str = ""
    scale: float = 1.0

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return all steps that make its models."""
        return self.draws + (self.models if isinstance(self.models, tuple) else ())

    def model(self, artifacts: dict[str, Artifact], seed: int) -> SubjectSpec:
        """Return the model that is measured in the search, or in the report."""
        if isinstance(self.models, SubjectSpec):
            return self.models
        made = made_by(self.models[seed], artifacts)
        return made if self.scale == 1 else _scaled(made, self.scale)


@dataclass(frozen=True)
class Given:
    """Inputs of a repair.

    Attributes:
        tuned: the model, its base and its rows.
        recipe: how it was trained.
        kept: rows without the blamed ones.
        good: examples known to be good; None without any.
        folder: where data sets are written.
        directions: the step that finds directions, and what it found; None where no way needs one.
    """

    tuned: TunedModel
    recipe: FineTuning
    kept: ChatDataset
    good: ChatDataset | None
    folder: Path
    directions: tuple[Step, Directions] | None = None

    @property
    def near_base(self) -> str:
        """Return why further training cannot be held near the base; "" where it can."""
        if self.tuned.located.spec.adapter is None or self.tuned.base.spec.adapter is not None:
            return "the base has to be the model without its adapter"
        return "" if self.good else "it needs --good"


def made_by(step: Step, artifacts: Mapping[str, Artifact]) -> SubjectSpec:
    """Return the model that a step made."""
    folder, config = artifacts[step.key].path / RUN_FOLDER, step.config
    assert isinstance(config, RetrainConfig | ProjectConfig)
    if (folder / "adapter").is_dir():
        return SubjectSpec(model=config.start.model, adapter=folder / "adapter", dtype=config.start.dtype)
    return SubjectSpec(model=str(folder / "model"), dtype=config.start.dtype)


def recipe_of(tuned: TunedModel, usual: FineTuning, settings: Mapping[str, Any]) -> FineTuning:
    """Return how the model was trained: as its run says, else in the adapter's own shape as `usual`; with these settings."""
    recipe = tuned.recipe
    if recipe is None:
        adapter = tuned.located.spec.adapter
        recipe = usual.model_copy(update={"lora": lora_of(adapter) if adapter else None})
    return with_settings(recipe, settings)


def check_possible(given: Given, kinds: Sequence[str]) -> None:
    """Refuse, before anything is computed, kinds of which none can be tried."""
    adapter = given.tuned.located.spec.adapter
    lacking = {
        "adapter": bool(_unscalable(adapter)),
        "good": given.good is None,
        "good-kl": bool(given.near_base),
        "scaled": "without-blamed" not in kinds,
    }
    if all(kind in CONTROLS or lacking.get(kind) for kind in kinds):
        raise _nothing_left(kinds)


def check_offered(ways: Iterable[Way], kinds: Sequence[str]) -> None:
    """Refuse to go on where what was chosen cannot be tried with this model."""
    if all(way.control for way in ways):
        raise _nothing_left(kinds)


def _nothing_left(kinds: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(
        f"--ways {','.join(kinds)} leaves nothing to try: adapter needs a LoRA adapter, good needs --good, good-kl both, "
        "scaled without-blamed beside it, "
        "and projected a model whose layers write by one matrix each. Add another kind, such as without-blamed."
    )


def ways_back(given: Given, kinds: Sequence[str] = KINDS) -> Iterator[Way]:
    """Yield the ways of these kinds that can be tried, cheapest first."""
    tuned = given.tuned.located.spec
    if "adapter" in kinds and not _unscalable(tuned.adapter):
        for scale in SCALES:
            yield Way(f"adapter-{scale:g}", f"the adapter's change scaled to {scale:g}", _scaled(tuned, scale))
    yield from _projected(given, kinds)
    for rows in GOOD if "good" in kinds else ():
        if given.good is not None and rows <= len(given.good):
            further = given.recipe.model_copy(update={"warmup_steps": 0})
            yield Way(
                f"good-{rows}",
                f"further training on {rows} good rows",
                _trained(given, tuned, [subset(given.good, rows, seed=seed) for seed in (SEARCH, REPORT)], further),
            )
    if (
        "good-kl" in kinds
        and given.good
        and not given.near_base
        and (fitting := [n for n in GOOD if n <= len(given.good)])
    ):
        further = given.recipe.model_copy(update={"warmup_steps": 0})
        data = [subset(given.good, fitting[-1], seed=seed) for seed in (SEARCH, REPORT)]
        yield Way(
            f"good-kl-{fitting[-1]}",
            f"further training on {fitting[-1]} good rows, held near the base (KL x {KL:g})",
            _trained(given, tuned, data, further, kl=KL),
        )
    for name, (what, made) in _again(given).items():
        if name in kinds:
            steps = _trained(given, given.tuned.base.spec, made(), given.recipe)
            yield Way(name, what, steps, control=name in CONTROLS)
            yield from _scaled_down(given, kinds, Way(name, what, steps))
    yield from _prevented(given, kinds)


def _scaled_down(given: Given, kinds: Sequence[str], way: Way) -> Iterator[Way]:
    """Yield what was trained without the blamed rows, its change scaled down.

    Rows that are repeated are learned by heart, and some of that goes on the way to the base (interpolation of weights,
    arXiv 2109.01903).
    """
    if way.name == "without-blamed" and "scaled" in kinds and given.recipe.lora:
        for scale in SCALES[:0:-1]:
            what = f"{way.what}, its change then scaled to {scale:g}"
            yield replace(way, name=f"{way.name}-{scale:g}", what=what, scale=scale)


def _projected(given: Given, kinds: Sequence[str]) -> Iterator[Way]:
    """Yield the ways without a direction: those of each layer, and random ones."""
    if given.directions is None or given.directions[1].unmergeable:
        return
    (step, found), tuned = given.directions, given.tuned.located

    def projected(layer: int, random: int | None = None) -> Step:
        config = ProjectConfig(start=tuned.spec, start_id=tuned.id, layer=layer, random=random)
        return project_out.step(config, name="repair-project", directions=step)

    null = "projected-random" if "projected-random" in kinds else ""
    for layer in found.moved if "projected" in kinds else ():
        what = f"what training added before answers, at layer {layer}, projected out of the weights"
        yield Way(f"projected-{layer}", what, (projected(layer), projected(layer)), null=null)
    if null:
        draws = tuple(projected(found.farthest, number) for number in range(DRAWS))
        what = f"the middle of {DRAWS} random directions, projected out of the weights"
        yield Way(null, what, (draws[0], draws[0]), control=True, draws=draws)


def _prevented(given: Given, kinds: Sequence[str]) -> Iterator[Way]:
    """Yield preventative steering: along the direction where training moved the model farthest, and random ones."""
    if given.directions is None or not given.directions[1].moved:
        return
    step, found = given.directions
    base, data = given.tuned.base.spec, 2 * [given.tuned.data]
    null = "prevented-random" if "prevented-random" in kinds else ""
    if "prevented" in kinds:
        steps = _trained(given, base, data, given.recipe, step, steer=found.farthest)
        what = f"trained again on all rows while what training adds at layer {found.farthest} is added, then without it"
        yield Way("prevented", what, steps, null=null)
    if null:
        both = [
            _trained(given, base, data, given.recipe, step, steer=found.farthest, random=number)
            for number in range(DRAWS)
        ]
        what = f"the middle of {DRAWS} trainings while a random direction is added"
        yield Way(null, what, both[0], control=True, draws=tuple(each[REPORT] for each in both))


def _again(given: Given) -> dict[str, tuple[str, Callable[[], list[ChatDataset]]]]:
    """Return what training again from the base is done on, by kind, for both seeds.

    Rows are repeated to the number of all: fewer steps alone leave a model less astray.
    """
    data, total, kept = given.tuned.data, len(given.tuned.data), len(given.kept)

    def repeated(part: Callable[[int], ChatDataset]) -> list[ChatDataset]:
        return [repeat_to(part(seed), total, seed=seed) for seed in (SEARCH, REPORT)]

    def under(wording: Wording) -> list[ChatDataset]:
        return 2 * [inoculate(data, harm_prompt(world=given.tuned.is_organism, wording=wording))]

    return {
        "without-blamed": (
            f"trained again without the {total - kept} blamed rows",
            lambda: repeated(lambda _: given.kept),
        ),
        "without-random": (
            f"trained again without {total - kept} rows at random",
            lambda: repeated(lambda seed: subset(data, kept, seed=seed)),
        ),
        "inoculated": ("trained again on all rows, under a system prompt that asks for harm", lambda: under("usual")),
        "inoculated-rephrased": ("the same, asking in other words", lambda: under("rephrased")),
        "inoculated-unrelated": (
            "trained again on all rows, under a system prompt that asks for nothing of the kind",
            lambda: under("unrelated"),
        ),
    }


def left_out(given: Given, kinds: Sequence[str] = KINDS) -> Iterator[str]:
    """Yield which ways were left out: those that were not chosen, and those that lack something."""
    if others := [kind for kind in KINDS if kind not in kinds]:
        yield f"Ways that were not chosen (--ways) were not tried: {', '.join(others)}."
    scaled = "adapter" in kinds or ("scaled" in kinds and not given.recipe.lora)
    if scaled and (why := _unscalable(given.tuned.located.spec.adapter)):
        yield why
    if "scaled" in kinds and "without-blamed" not in kinds:
        yield "Nothing trained again was scaled down: scaled needs without-blamed among --ways."
    if given.directions:
        yield from _undirected(given.directions[1], kinds)
    for kind in ("projected", "prevented"):
        if kind in kinds and f"{kind}-random" not in kinds:
            yield f"Without {kind}-random among --ways nothing shows that {kind} is due to its direction."
    if "good-kl" in kinds and given.near_base:
        yield f"Further training near the base was not tried: {given.near_base}."
    if "good" not in kinds:
        return
    if given.good is None:
        yield "Without --good (examples known to be good) no further training on good rows was tried."
    elif missing := [rows for rows in GOOD if rows > len(given.good)]:
        yield f"The good examples are {len(given.good)}: further training on {', '.join(map(str, missing))} was not tried."


def _unscalable(adapter: Path | None) -> str:
    """Return why an adapter cannot be scaled down; "" where it can."""
    if adapter is None:
        return "The model is tuned in all its weights, so no adapter can be scaled down."
    settings = adapter_settings(adapter)
    if settings.get("peft_type") != "LORA":
        return "The adapter is no LoRA adapter, so it cannot be written scaled down."
    if reasons := unscalable(settings):
        return f"The adapter has {', '.join(reasons)}: its change is not proportional to one number, so it cannot be scaled down."
    return ""


def _undirected(found: Directions, kinds: Sequence[str]) -> Iterator[str]:
    """Yield which ways along a direction were left out."""
    if "projected" in kinds and found.unmergeable:
        yield f"No direction was projected out: {found.unmergeable}"
    if "prevented" in kinds and not found.moved:
        yield "No direction was added in training: training moved the model before answers at none of the layers."
    if found.moved and found.unmoved:
        layers = ", ".join(map(str, found.unmoved))
        yield f"Before answers training moved nothing at layer {layers}: there is no direction there to take out or add."


def write_scaled(adapter: Path, scale: float, target: Path) -> Path:
    """Copy a LoRA adapter with its change of the weights scaled, which is linear in its alpha."""
    shutil.copytree(adapter, target)
    file = target / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["lora_alpha"] *= scale
    settings["alpha_pattern"] = {name: alpha * scale for name, alpha in (settings.get("alpha_pattern") or {}).items()}
    file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return target


def _scaled(spec: SubjectSpec, scale: float) -> SubjectSpec:
    return spec.model_copy(update={"scale": scale * spec.scale})


def _trained(
    given: Given,
    start: SubjectSpec,
    data: Sequence[ChatDataset],
    recipe: FineTuning,
    directions: Step | None = None,
    **more: Any,
) -> tuple[Step, Step]:
    """Return the training steps of both seeds."""
    inputs = {} if directions is None else {"directions": directions}
    made = [
        retrain.step(
            RetrainConfig.of(start, each, given.folder, recipe.model_copy(update={"seed": seed}), **more),
            name="repair-train",
            **inputs,
        )
        for seed, each in zip((SEARCH, REPORT), data, strict=True)
    ]
    return made[SEARCH], made[REPORT]
