"""Resolution of a subject's name to its files: organism, SmolLM2, folder, GGUF file, run id or hub name.

A name is looked up in this order: the embedded organisms and `smollm2`, an existing folder or GGUF file, a run in the
store, a model on the Hugging Face hub. A folder may hold a model (`config.json`), a PEFT adapter
(`adapter_config.json`) or the subject of a run (`subject.json`, see `registered`).
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from astray.artifacts.soundness import is_plain
from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.subjects.adapter_kinds import adapter_settings, changes_base, check_kind
from astray.subjects.base_files import FORMS, HUB_NAME, ORGANISMS, base_folder, download, is_adapter, nearest
from astray.subjects.identity import (
    adapter_identity,
    adapter_weights,
    base_identity,
    digest_of,
    recorded_base,
    template_traits,
)
from astray.subjects.precision import precision_on, usual_precision
from astray.subjects.registered import OWN_NAMES, SUBJECT_FILE, is_folder, is_gguf, read_registered, searched
from astray.subjects.spec import Precision, SubjectSpec

LONGEST_CHAIN = 20
"""Maximum number of subjects of which each names the next one as its model."""


@dataclass(frozen=True)
class Located:
    """Subject with the folders of its files.

    Attributes:
        spec: the specification; `model` names a base, `adapter` its adapter.
        base: folder of the base model.
    """

    spec: SubjectSpec
    base: Path

    @property
    def template_date(self) -> str | None:
        """Return the date that the base's chat template writes; None for one that writes none."""
        return template_traits(self.base).get("date")

    @property
    def precision(self) -> Precision:
        """Return the number format of the weights on this machine's device."""
        return precision_on(_device(self.spec), self.base, self.spec.dtype)

    @property
    def id(self) -> str:
        """Return a stable short hash over everything that affects what the subject says.

        It covers the content of the weights, tokenizer, adapter and direction files, not their paths, so it is the same
        on every machine. See `identity` for the content that is hashed.
        """
        spec = self.spec
        return digest_of(
            {
                "base": base_identity(self.base),
                "adapter": adapter_identity(spec.adapter) if spec.adapter else None,
                "system": spec.system,
                "intervention": [intervention.id for intervention in spec.interventions] or None,
                **template_traits(self.base),
            }
            | ({"scale": spec.scale} if spec.scale != 1 else {})
            | ({"dtype": self.precision} if self.precision != usual_precision(_device(spec)) else {})
        )

    def template_notes(self, who: str) -> Iterator[str]:
        """Yield what the chat template of a model of this name makes of conversations, where that is not what they
        say."""
        from astray.subjects.render import SYSTEM_IN_QUESTION  # loads transformers, which help does without
        from astray.subjects.template import template_of
        from astray.subjects.weights import adapted_tokenizer

        if not template_of(adapted_tokenizer(self.spec.model, self.base, self.spec.adapter)).takes_system:
            yield (
                f"The chat template of {who} has no place for system messages: a system text, inoculation prompts included, "
                f"stands {SYSTEM_IN_QUESTION}, before a blank line, in training and in evaluations."
            )
        if self.template_date:
            yield f"The chat template of {who} writes today's date; here it is always {self.template_date}."


def format_note(specs: Iterable[SubjectSpec | None]) -> Iterator[str]:
    """Yield that models which are compared are held in different number formats; None is a model that is not held here."""
    formats = sorted({settle(spec).precision for spec in specs if spec})
    if len(formats) > 1:
        yield (
            f"The models are held in different number formats ({' and '.join(formats)}), which is part of the difference "
            f"between them. Name each with the same one, as in BASE:{formats[-1]}."
        )


def _device(spec: SubjectSpec) -> str:
    """Return the type of the device that a subject runs on; for an organism, which needs no rule, without loading
    PyTorch."""
    if spec.model in ORGANISMS and spec.dtype is None:
        return "cpu"
    from astray.subjects.weights import best_device

    return best_device().type


def resolve(name: str) -> SubjectSpec:
    """Return the specification of the subject with this name.

    Args:
        name: 'organism', 'smollm2', a folder, a GGUF file, a run id, a hub name, 'base+adapter' or 'base+adapter*1.75'.
            What exists as it is written comes first, so a path may hold '+' and '*'.

    Raises:
        SubjectNotFoundError: the name is none of these.
        ConfigurationError: it can be read in two ways, or its parts do not go together.
    """
    if name in OWN_NAMES or is_gguf(name):
        return SubjectSpec(model=name)
    if folder := _folder_of(name):
        return _in_folder(folder)
    if HUB_NAME.fullmatch(name):
        return SubjectSpec(model=name)
    base, _, dtype = name.rpartition(":")
    if base and dtype in get_args(Precision):
        return spec_of(**{**dict(resolve(base)), "dtype": dtype})
    if joined := _joined(name):
        return joined
    raise SubjectNotFoundError(
        f"There is no folder {name!r}, and it can be no hub name.{nearest(name)} A subject is {FORMS}."
    )


def settle(subject: "SubjectSpec | Located | str") -> Located:
    """Find the files of a subject; a model that is itself an adapter becomes base and adapter.

    Args:
        subject: a name or a specification; an already located subject is returned unchanged.

    Raises:
        SubjectNotFoundError: the model, the adapter or an adapter's base is not there.
        ConfigurationError: an adapter was given for a model that already is one, or subjects name each other as their
            model.
    """
    if isinstance(subject, Located):
        return subject
    if isinstance(subject, SubjectSpec):
        return _settled(subject, ())
    return _settled(spec_of(model=subject), ())


def spec_of(**parts: object) -> SubjectSpec:
    """Return the specification with these parts; what is wrong is told with what a subject is.

    Raises:
        ConfigurationError: a part cannot be one.
    """
    try:
        return SubjectSpec.model_validate(parts)
    except ConfigurationError as error:
        raise ConfigurationError(f"There can be no such subject: {error} A subject is {FORMS}.") from error


def graders_known_as(graders: str | None) -> str:
    """Return what is known of graders beside their names, for the keys of their verdicts: as `served_as`, and the
    content of those that are local subjects.

    Args:
        graders: Inspect names, separated by commas.

    Raises:
        SubjectNotFoundError, JudgeError: a grader that runs here is not there.
    """
    from astray.judges.distilled import is_distilled
    from astray.judges.served import served_as

    names = [name for name in (graders or "").split(",") if name.startswith("astray/") and not is_distilled(name)]
    local = [name.removeprefix("astray/") for name in names if not name.startswith("astray/scripted/")]
    # Those that come with the package or by a pinned digest are what their names say.
    known = [f"subject {settle(name).id}" for name in local if name not in OWN_NAMES]
    return ", ".join(filter(None, [served_as(graders), *known]))


def _settled(spec: SubjectSpec, named: tuple[str, ...]) -> Located:
    """Find the files of a subject that was come to by these names."""
    folder = _folder_of(spec.model)
    own = str(folder.resolve()) if folder else spec.model
    if own in named or len(named) > LONGEST_CHAIN:
        raise ConfigurationError(
            f"The subject {named[0]!r} has no model at its end: {' -> '.join([*named[: LONGEST_CHAIN // 2], own])}. "
            f'Write the base model into {SUBJECT_FILE} ("model") or adapter_config.json ("base_model_name_or_path") '
            "of one of them."
        )
    found = resolve(spec.model)
    itself = str(folder or spec.model)  # "model" for "./model" and "model/" too, as `resolve` writes it
    if found.model == itself and not found.adapter and not (folder and (folder / SUBJECT_FILE).is_file()):
        base = base_folder(itself)
        if not is_adapter(base):
            return Located(_checked(spec.model_copy(update={"model": itself})), base)
        found = _in_folder(base)  # an adapter of the hub
    clashing = [
        part
        for part in ("adapter", "system", "intervention")
        if getattr(spec, part) is not None and getattr(found, part) is not None
    ]
    if clashing:
        raise ConfigurationError(
            f"{spec.model!r} already brings its own {' and '.join(clashing)}, and another was given. "
            f"Name its base {found.model!r} as the model instead."
        )
    parts = ("adapter", "system", "intervention", "dtype")
    given = {part: value for part in parts if (value := getattr(spec, part)) is not None}
    # What was found may name a run or an adapter in turn, so it is settled again.
    inner = found.model_copy(update=given | {"scale": found.scale * spec.scale})
    if inner.adapter is not None:
        inner = _checked(inner)
    try:
        return _settled(inner, (*named, own))
    except SubjectNotFoundError as error:
        if not _names_its_base(found):
            raise
        raise SubjectNotFoundError(
            f"The adapter {found.adapter} names the base {found.model!r}, which is not there{_hub_hint(found.model)}. "
            f"Give base and adapter apart: BASE+{found.adapter}, with the folder or hub name of the base. ({error})"
        ) from error


def _folder_of(name: str) -> Path | None:
    """Return the folder that a name stands for, here or in the store; only a plain name is looked up there, as others
    would lead out of it."""
    places = [Path(name), *([store / name for store in searched()] if is_plain(name) else [])]
    found = None if name in OWN_NAMES else next(filter(is_folder, places), None)
    return found.absolute() if found and str(found) in OWN_NAMES else found  # "./smollm2" is no name of ours


def _in_folder(folder: Path) -> SubjectSpec:
    """Return the specification of the subject in a folder."""
    if (folder / SUBJECT_FILE).is_file():
        return read_registered(folder)
    if is_adapter(folder):
        return SubjectSpec(model=_base_of_adapter(folder), adapter=folder)
    if (folder / "config.json").is_file():
        return SubjectSpec(model=str(folder))
    files = (SUBJECT_FILE, "adapter_config.json", "config.json")
    below = sorted({str(found.parent) for file in files for found in folder.glob(f"*/{file}")})
    hint = "It holds several: name one of" if len(below) > 1 else "It holds one: name"
    several = f" {hint} {', '.join(below[:10])}." if below else ""
    raise SubjectNotFoundError(
        f"The folder {folder} holds no subject: it has none of config.json (a model), adapter_config.json (a PEFT "
        f"adapter) and {SUBJECT_FILE} (a run).{several}"
    )


def _joined(name: str) -> SubjectSpec | None:
    """Return the subject written as base+adapter, base+adapter*factor or adapter*factor; None where it is none of
    these."""
    found: dict[tuple[str, str, float], SubjectSpec] = {}
    for text, scale in _factors(name):
        if scale != 1 and "+" not in text:
            return SubjectSpec(model=text, scale=scale)
        for place in (number for number, sign in enumerate(text) if sign == "+"):
            base, adapter = text[:place], text[place + 1 :]
            if base and adapter and (base in OWN_NAMES or _is_there(base) or HUB_NAME.fullmatch(base)):
                folder = _adapter_folder(adapter)
                if folder is not None:
                    found[base, adapter, scale] = SubjectSpec(model=base, adapter=folder, scale=scale)
    if len(found) > 1:
        forms = " or ".join(
            f"{base!r} + {adapter!r}" + (f" * {scale:g}" if scale != 1 else "") for base, adapter, scale in found
        )
        raise ConfigurationError(
            f"{name!r} can be read as {forms}. Rename a folder, or write SubjectSpec(model=..., adapter=..., "
            "scale=...)."
        )
    if not found and "+" in name:
        text, _ = _factors(name)[-1]
        base, _, adapter = text.partition("+")
        raise SubjectNotFoundError(
            f"{name!r} is read as a base and an adapter, but {adapter!r} is no adapter: no folder, run or hub "
            f"repository with adapter_config.json. A subject is {FORMS}."
        )
    return next(iter(found.values()), None)


def _factors(name: str) -> list[tuple[str, float]]:
    """Return the readings of a name with and without a factor at its end."""
    text, star, factor = name.rpartition("*")
    if not star:
        return [(name, 1.0)]
    try:
        scale = float(factor)
    except ValueError:
        scale = math.nan
    if math.isfinite(scale) and text:
        return [(name, 1.0), (text, scale)]
    if "+" in name and not any(_is_there(part) for part in name.split("+")[1:]):
        raise ConfigurationError(
            f"{factor!r} after '*' in {name!r} is no finite number. Write the factor on the adapter like "
            "BASE+ADAPTER*1.75."
        )
    return [(name, 1.0)]


def _is_there(name: str) -> bool:
    return any(map(is_folder, (Path(name), *(store / name for store in searched()))))


def _adapter_folder(name: str) -> Path | None:
    """Return the folder of the adapter with this name: a folder, a run or a repository of the hub; None where it is no
    adapter."""
    for folder in (Path(name), *(store / name for store in searched())):
        if not is_folder(folder):
            continue
        if (folder / SUBJECT_FILE).is_file():
            run = _in_folder(folder)
            if run.system is not None or run.intervention is not None or run.scale != 1:
                raise ConfigurationError(
                    f"The run {name!r} is more than an adapter (system prompt, intervention or factor): name it alone."
                )
            return run.adapter
        return folder if (folder / "adapter_config.json").is_file() else None
    if not HUB_NAME.fullmatch(name):
        return None
    try:
        folder = download(name)
    except SubjectNotFoundError:
        return None
    return folder if is_adapter(folder) else None


def _base_of_adapter(folder: Path) -> str:
    """Return the base model named in an adapter's configuration, with its revision where it names one of the hub."""
    settings = adapter_settings(folder)
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not base or not isinstance(base, str):
        raise SubjectNotFoundError(
            f"The adapter {folder} does not say which model it belongs to. "
            f'Write "base_model_name_or_path" into its adapter_config.json, or give both: BASE+{folder}.'
        )
    of_hub = base not in OWN_NAMES and not _is_there(base) and HUB_NAME.fullmatch(base)
    return f"{base}@{revision}" if revision and revision != "main" and of_hub and "@" not in base else base


def _names_its_base(found: SubjectSpec) -> bool:
    """Return whether the model of what was found is what its adapter's own configuration names."""
    return found.adapter is not None and is_adapter(found.adapter) and _base_of_adapter(found.adapter) == found.model


def _hub_hint(base: str) -> str:
    """Return a hint for a base that is named by a folder of another machine's hub cache."""
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+)/snapshots/(\w+)", base.replace("\\", "/"))
    return f" (on the hub it is {cached[1]}/{cached[2]}@{cached[3]})" if cached else ""


def _checked(spec: SubjectSpec) -> SubjectSpec:
    """Return the specification if its adapter is complete and of a kind that can be used; in the number format that the
    adapter was trained on, where it records one and no other is asked for.

    Raises:
        SubjectNotFoundError: the folder is no PEFT adapter.
        ConfigurationError: its kind, its factor or its number format cannot be used.
    """
    if spec.model in ORGANISMS and spec.dtype == "nf4":
        raise ConfigurationError(
            f"The {spec.model} cannot be held in nf4: it is small enough for float32 everywhere, and its world is tuned for "
            "that. Leave the number format out."
        )
    if spec.adapter is None:
        if spec.scale != 1:
            raise ConfigurationError(
                f"{spec.model!r} is a whole model, so it has no adapter to scale by {spec.scale:g}. Write "
                f"BASE+ADAPTER*{spec.scale:g}."
            )
        return spec
    missing = [
        file.name
        for file in (spec.adapter / "adapter_config.json", adapter_weights(spec.adapter))
        if not file.is_file()
    ]
    if missing:
        raise SubjectNotFoundError(
            f"{spec.adapter} is no PEFT adapter: {' and '.join(missing)} missing. Save one with "
            "model.save_pretrained(folder)."
        )
    kind, settings = check_kind(spec.adapter, spec.scale), adapter_settings(spec.adapter)
    dtype = spec.dtype or ("nf4" if recorded_base(spec.adapter).get("dtype") == "nf4" else None)
    if dtype == "nf4" and (kind != "LORA" or changes_base(settings.get("init_lora_weights"))):
        raise ConfigurationError(
            f"The adapter {spec.adapter} cannot be put on a base in nf4: only LoRA that leaves the base's weights as they are "
            "can. Leave the number format out, or write bfloat16."
        )
    return spec.model_copy(update={"dtype": dtype})
