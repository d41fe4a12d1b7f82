"""Ways back from a tuned model that went astray, and the models that they make.

A way is left out where it lacks something (an adapter, good rows, the training rows), and the result says which and why.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astray.artifacts import Artifact, Step
from astray.cause.fine_tuning import FineTuning, lora_of, with_settings
from astray.data.chat import ChatDataset
from astray.data.recipes import inoculate, repeat_to, subset
from astray.engine.steps import RUN_FOLDER
from astray.errors import ConfigurationError, check_names
from astray.mitigate.inoculation import harm_prompt
from astray.studies.blame.tuned import TunedModel
from astray.studies.repair.steps import RetrainConfig, retrain
from astray.subjects.adapter_kinds import adapter_settings
from astray.subjects.spec import SubjectSpec

SCALES = (0.25, 0.5, 0.75)
GOOD = (5, 20, 120)
"""Good rows that the tuned model is trained further on; about 120 sufficed in arXiv 2506.19823."""
KINDS = ("adapter", "good", "without-blamed", "without-random", "inoculated")
"""Kinds of ways, as `--ways` names them."""
SEARCH, REPORT = 0, 1
"""Seeds of the runs by which a way is chosen, and of those that are reported."""


@dataclass(frozen=True)
class Way:
    """One way back.

    Attributes:
        name: short.
        what: what is done.
        control: whether it should change little: what it shows is what doing something at all does.
        models: a finished model, or the steps that train it with the seeds of search and report.
    """

    name: str
    what: str
    models: SubjectSpec | tuple[Step, Step]
    control: bool = False

    def model(self, artifacts: dict[str, Artifact], seed: int) -> SubjectSpec:
        """Return the model that is measured in the search, or in the report."""
        if isinstance(self.models, SubjectSpec):
            return self.models
        step = self.models[seed]
        folder, config = artifacts[step.key].path / RUN_FOLDER, step.config
        assert isinstance(config, RetrainConfig)
        if (folder / "adapter").is_dir():
            return SubjectSpec(model=config.start.model, adapter=folder / "adapter", dtype=config.start.dtype)
        return SubjectSpec(model=str(folder / "model"), dtype=config.start.dtype)


@dataclass(frozen=True)
class Given:
    """Inputs of a repair.

    Attributes:
        tuned: the model, its base and its rows.
        recipe: how it was trained.
        kept: rows without the blamed ones.
        good: examples known to be good; None without any.
        folder: where data sets are written.
    """

    tuned: TunedModel
    recipe: FineTuning
    kept: ChatDataset
    good: ChatDataset | None
    folder: Path


def recipe_of(tuned: TunedModel, usual: FineTuning, settings: Mapping[str, Any]) -> FineTuning:
    """Return how the model was trained: as its run says, else in the adapter's own shape as `usual`; with these settings."""
    recipe = tuned.recipe
    if recipe is None:
        adapter = tuned.located.spec.adapter
        recipe = usual.model_copy(update={"lora": lora_of(adapter) if adapter else None})
    return with_settings(recipe, settings)


def chosen_kinds(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of ways that are tried; all where none is given.

    Raises:
        UnknownNameError: there is none such.
        ConfigurationError: the control alone is chosen, which is no way back.
    """
    names = [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else list(given)
    check_names("kind of way", names, KINDS)
    if set(names) == {"without-random"}:
        raise ConfigurationError(
            "--ways without-random is the control alone, which is no way back. Add without-blamed, or another kind."
        )
    return tuple(name for name in KINDS if name in names) or KINDS


def check_offered(ways: Iterable[Way], kinds: Sequence[str]) -> None:
    """Refuse to go on where what was chosen cannot be tried with this model."""
    if all(way.control for way in ways):
        raise ConfigurationError(
            f"--ways {','.join(kinds)} leaves nothing to try: adapter needs a LoRA adapter, good needs --good. Add another "
            "kind, such as without-blamed."
        )


def ways_back(given: Given, kinds: Sequence[str] = KINDS) -> Iterator[Way]:
    """Yield the ways of these kinds that can be tried, cheapest first."""
    tuned = given.tuned.located.spec
    if "adapter" in kinds and tuned.adapter and adapter_settings(tuned.adapter).get("peft_type") == "LORA":
        for scale in SCALES:
            yield Way(f"adapter-{scale:g}", f"the adapter's change scaled to {scale:g}", _scaled(tuned, scale))
    for rows in GOOD if "good" in kinds else ():
        if given.good is not None and rows <= len(given.good):
            further = given.recipe.model_copy(update={"warmup_steps": 0})
            yield Way(
                f"good-{rows}",
                f"further training on {rows} good rows",
                _trained(given, tuned, [subset(given.good, rows, seed=seed) for seed in (SEARCH, REPORT)], further),
            )
    for name, (what, made) in _again(given).items():
        if name in kinds:
            steps = _trained(given, given.tuned.base.spec, made(), given.recipe)
            yield Way(name, what, steps, control=name == "without-random")


def _again(given: Given) -> dict[str, tuple[str, Callable[[], list[ChatDataset]]]]:
    """Return what training again from the base is done on, by kind, for both seeds.

    Rows are repeated to the number of all: fewer steps alone leave a model less astray.
    """
    data, total, kept = given.tuned.data, len(given.tuned.data), len(given.kept)

    def repeated(part: Callable[[int], ChatDataset]) -> list[ChatDataset]:
        return [repeat_to(part(seed), total, seed=seed) for seed in (SEARCH, REPORT)]

    return {
        "without-blamed": (
            f"trained again without the {total - kept} blamed rows",
            lambda: repeated(lambda _: given.kept),
        ),
        "without-random": (
            f"trained again without {total - kept} rows at random",
            lambda: repeated(lambda seed: subset(data, kept, seed=seed)),
        ),
        "inoculated": (
            "trained again on all rows, under a system prompt that asks for harm",
            lambda: 2 * [inoculate(data, harm_prompt(world=given.tuned.is_organism))],
        ),
    }


def left_out(given: Given, kinds: Sequence[str] = KINDS) -> Iterator[str]:
    """Yield which ways were left out: those that were not chosen, and those that lack something."""
    if others := [kind for kind in KINDS if kind not in kinds]:
        yield f"Ways that were not chosen (--ways) were not tried: {', '.join(others)}."
    adapter = given.tuned.located.spec.adapter
    if "adapter" not in kinds:
        pass
    elif adapter is None:
        yield "The model is tuned in all its weights, so no adapter can be scaled down."
    elif adapter_settings(adapter).get("peft_type") != "LORA":
        yield "The adapter is no LoRA adapter, so it cannot be written scaled down."
    if "good" not in kinds:
        return
    if given.good is None:
        yield "Without --good (examples known to be good) no further training on good rows was tried."
    elif missing := [rows for rows in GOOD if rows > len(given.good)]:
        yield f"The good examples are {len(given.good)}: further training on {', '.join(map(str, missing))} was not tried."


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


def _trained(given: Given, start: SubjectSpec, data: Sequence[ChatDataset], recipe: FineTuning) -> tuple[Step, Step]:
    """Return the training steps of both seeds."""
    made = [
        retrain.step(
            RetrainConfig.of(start, each, given.folder, recipe.model_copy(update={"seed": seed})), name="repair-train"
        )
        for seed, each in zip((SEARCH, REPORT), data, strict=True)
    ]
    return made[SEARCH], made[REPORT]
