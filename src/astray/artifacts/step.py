"""A step: a function, a frozen configuration and the steps whose artifacts it reads.

The key of a step is the hash of exactly these, with the declared name and version of the function: changing any of them
makes another step, whose artifact does not exist yet, and changes every step that builds on it. Raise the version
whenever the function's code changes what it writes. A step that draws random numbers takes its seeds from its
configuration. The name never changes: code may move between modules, and stores keep serving its artifacts. A function
that had another name before declares it as `formerly`; artifacts under the key of that name are carried over
(`Store.adopt`), as are those under keys that held the places of files (`places`). Leaves to others: running steps
(execute.py) and keeping artifacts (store.py).
"""

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from astray.artifacts.contents import Artifact
from astray.artifacts.manifest import Origin, canonical_json, key_of, key_text
from astray.artifacts.places import PLAIN, without_places
from astray.errors import ConfigurationError

Config = TypeVar("Config", bound=BaseModel)
Body = Callable[[Config, Mapping[str, Artifact], Path], str | None]
"""Fills a folder and returns what it has left to try, if anything (see `step`)."""


class StepFunction(Generic[Config]):
    """Function that steps are made of; calling it runs the plain function, so tests and notebooks can use it directly.

    Attributes:
        body: the plain function.
        name: registered name in the keys, wherever its code lies.
        version: declared version of its code.
        formerly: its registered name in older keys; None if it never had another name.
        resumable: whether it works in a folder that survives kills; a function of its configuration where that decides.
        gpu: whether it runs a model; a function of its configuration where that decides.
        reference: import path for worker processes, as module:qualified.name.
    """

    def __init__(
        self,
        body: "Body[Config]",
        name: str,
        version: int,
        formerly: str | None = None,
        *,
        resumable: "bool | Callable[[Config], bool]" = False,
        gpu: "bool | Callable[[Config], bool]" = False,
    ):
        functools.update_wrapper(self, body)
        self.body = body
        self.name = name
        self.version = version
        self.formerly = formerly
        self.resumable = resumable
        self.gpu = gpu
        self.reference = f"{body.__module__}:{body.__qualname__}"

    def __call__(self, config: Config, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
        """Run the function: it reads the inputs' folders and writes into `folder`."""
        return self.body(config, inputs, folder)

    def step(self, config: Config, /, *, name: str | None = None, **inputs: "Step") -> "Step":
        """Return a step of this function with a configuration and the steps that make its inputs.

        Args:
            config: frozen pydantic model; all of it is part of the key.
            name: display name of the step on pages and folders, by default the function's registered name; not part of
                the key.
            inputs: a step for each input, by the name under which the function reads its artifact.

        Raises:
            ConfigurationError: the function cannot be imported by a worker process, or the configuration is not frozen
                or has no exact form in JSON.
        """
        return Step(self, config, MappingProxyType(inputs), self.version, name or self.name)


def step(
    name: str,
    *,
    version: int,
    formerly: str | None = None,
    resumable: bool | Callable[[Any], bool] = False,
    gpu: bool | Callable[[Any], bool] = False,
) -> "Callable[[Body[Config]], StepFunction[Config]]":
    """Register a module-level function so that steps can be made of it.

    Args:
        name: name in the keys: lower-case letters, digits and hyphens, used by no other function, and never changed.
        version: of the function's code; raise it when its output changes, so that it is run again.
        formerly: the name in the keys of older stores, whose artifacts are carried over; for functions that were known
            by their import path, "module:qualified.name".
        resumable: give it a working folder that survives failures and kills: the same step finds there what it had
            written, and its final content becomes the artifact. Without it every attempt begins in an empty folder. A
            function of its configuration where that decides.
        gpu: whether it runs a model, so that a cluster gives it GPUs; a function of its configuration where that
            decides.

    A function may return a text that says what it has left to try, such as samples that ended in an error. Its artifact
    is complete and is used now, but is provisional: the next execution runs the step again, a resumable one from the
    files of the artifact, and after it all steps that build on it.

    Raises:
        ConfigurationError: the name is not valid, or another function has it.

    Example:
        @step("train", version=1)
        def train(config: TrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
            rows = (inputs["dataset"].path / "chat.jsonl").read_text()
            ...

        run = train.step(TrainConfig(seed=3), dataset=mix.step(MixConfig()))
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a step function: names have small letters, digits and single hyphens, "
            "so that keys and "
            'folders can hold them. Write for example: @step("train-probe", version=1).'
        )

    def register(body: "Body[Config]") -> StepFunction[Config]:
        for taken in (name, formerly):
            if taken is not None:
                _claim(taken, body)
        return StepFunction(body, name, version, formerly, resumable=resumable, gpu=gpu)

    return register


_CLAIMED: dict[str, tuple[str, str]] = {}
"""Registered name -> key of the function that has it (file and qualified name), and its import path for errors."""


def _claim(name: str, body: "Body[Config]") -> None:
    """Reserve a name for a function; a module that is loaded again, or under a second name, has the same function."""
    file = getattr(sys.modules.get(body.__module__), "__file__", None) or body.__module__
    own = (f"{file}:{body.__qualname__}", f"{body.__module__}:{body.__qualname__}")
    there = _CLAIMED.setdefault(name, own)
    if there[0] != own[0]:
        raise ConfigurationError(
            f"Two step functions are called {name!r}: {there[1]} and {own[1]}. A store could not tell their "
            "artifacts apart: give one of them another name in @step(...)."
        )


def _processes(config: object) -> int:
    """Return the largest setting `processes` within a configuration, 1 where there is none."""
    if isinstance(config, Mapping):
        own = config.get("processes")
        return max([own if isinstance(own, int) else 1, *map(_processes, config.values())])
    return max(map(_processes, config), default=1) if isinstance(config, list | tuple) else 1


@dataclass(frozen=True, eq=False)
class Step:
    """Function, frozen configuration and input steps; made by `StepFunction.step`.

    Attributes:
        function: the function that writes the artifact.
        config: its configuration.
        inputs: the steps whose artifacts it reads, by name.
        version: declared version of the function.
        name: display name on pages and folders.
        begins_with: keys of other steps of a resumable function, such as the same with fewer samples: the working
            folder starts from the first of them that has an artifact. Not part of the key, since it only saves work.
        origin: everything that determines the artifact, with the keys of the inputs.
        key: SHA-256 of the origin.
        former_key: the key with the function's former name, which also seeds random numbers; None without such a name.
        former_keys: the keys of its artifact in older stores, the latest first.
    """

    function: StepFunction[Any]
    config: BaseModel
    inputs: Mapping[str, "Step"]
    version: int
    name: str
    begins_with: tuple[str, ...] = ()
    origin: Origin = field(init=False)
    key: str = field(init=False)
    former_key: str | None = field(init=False)
    former_keys: tuple[str, ...] = field(init=False)
    _placed: tuple[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_importable("step function", self.function, self.function.reference)
        _check_importable(
            "configuration", type(self.config), f"{type(self.config).__module__}:{type(self.config).__qualname__}"
        )
        config, written = _written(self.config)
        keyed = {name: held for name, held in without_places(self.config, config).items() if held != config[name]}
        origin = Origin(
            name=self.name,
            function=self.function.name,
            version=self.version,
            config=config,
            keyed=keyed,
            inputs={name: source.key for name, source in sorted(self.inputs.items())},
        )
        object.__setattr__(self, "origin", origin)
        text = canonical_json(config | keyed) if keyed else written
        object.__setattr__(self, "key", self._key(text, self.function.name, origin.inputs))
        former = None
        if self.function.formerly is not None:
            inputs = {name: source.former_key or source.key for name, source in self.inputs.items()}
            former = self._key(text, self.function.formerly, inputs)
        object.__setattr__(self, "former_key", former)
        placed = self._placed_keys(text, written)
        object.__setattr__(self, "_placed", placed)
        earlier = dict.fromkeys([*placed, *filter(None, [former])])
        object.__setattr__(self, "former_keys", tuple(key for key in earlier if key != self.key))

    @property
    def may_begin_with(self) -> tuple[str, ...]:
        """Return the keys of artifacts that a resumable step continues: its own of older stores, then `begins_with`."""
        return (*self.former_keys, *self.begins_with)

    def _key(self, config: str, function: str, inputs: Mapping[str, str]) -> str:
        return key_of(key_text(config, function, self.version, inputs))

    def _placed_keys(self, text: str, placed: str) -> tuple[str, str]:
        """Return the keys from when keys held the places of files, with the function's name and its former one.

        Args:
            text: the configuration as the key holds it, in canonical JSON.
            placed: the same with the places.
        """
        sources = sorted(self.inputs.items())
        keys: list[str] = []
        for number, function in enumerate((self.function.name, self.function.formerly)):
            inputs = {name: source._placed[number] for name, source in sources}
            known = (self.key, self.former_key)[number] if placed == text else None
            usual = {name: (source.key, source.former_key or source.key)[number] for name, source in sources}
            if function is None:
                keys.append(keys[0])
            elif known and inputs == usual:  # no place anywhere, so nothing has to be hashed again
                keys.append(known)
            else:
                keys.append(self._key(placed, function, inputs))
        return keys[0], keys[1]

    @property
    def gpu(self) -> int:
        """Return how many processes of it run a model, each of which a place with GPUs gives some; 0 if none does.

        A training run that is shared out has a setting `processes` somewhere in its configuration.
        """
        needs = self.function.gpu
        return _processes(self.origin.config) if (needs(self.config) if callable(needs) else needs) else 0

    @property
    def resumable(self) -> bool:
        """Return whether it works in a folder that survives kills."""
        kept = self.function.resumable
        return kept(self.config) if callable(kept) else kept


def locate(reference: str) -> object:
    """Return the object that "module:qualified.name" names.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such name in it.
    """
    module, _, name = reference.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def config_json(config: BaseModel) -> dict[str, Any]:
    """Return a configuration as JSON, the same for equal configurations in every process (sets are sorted).

    Raises:
        ConfigurationError: it is not frozen, or holds a value without an exact form in JSON.
    """
    return _written(config)[0]


def _written(config: BaseModel) -> tuple[dict[str, Any], str]:
    """Return a configuration as JSON, and as canonical text."""
    kind = type(config).__name__
    if not isinstance(config, BaseModel) or not config.model_config.get("frozen"):
        raise ConfigurationError(
            f"The configuration {kind} of a step can change after the step was named by it. Make it a frozen "
            "pydantic model: "
            f'class {kind}(BaseModel): model_config = ConfigDict(frozen=True, extra="forbid").'
        )
    try:
        values: dict[str, Any] = to_jsonable_python(_sorted_sets(config.model_dump(serialize_as_any=True)))
        return values, canonical_json(values)
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The configuration {config!r} of a step cannot be written as JSON: {error}. "
            f"Use numbers (no NaN, no infinity), strings, paths, enums, tuples, dicts and frozen models."
        ) from error


def _sorted_sets(value: Any) -> Any:
    """Return the value with every set as a sorted list: the order of a set of strings differs between processes."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Mapping):
        return {key: _sorted_sets(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_jsonable_python(_sorted_sets(item)) for item in value), key=canonical_json)
    if isinstance(value, list | tuple):
        return [_sorted_sets(item) for item in value]
    return value


_IMPORTABLE: dict[str, object] = {}
"""What was found where its reference says: a study has many steps of a function."""


def _check_importable(kind: str, thing: object, reference: str) -> None:
    if _IMPORTABLE.get(reference) is thing:
        return
    module, _, name = reference.partition(":")
    if module == "__main__":
        reason = (
            "it is in the script that is being run. Put it into a module, for example my_steps.py, and write: from "
            f"my_steps import {name}"
        )
    elif "<" in name:
        reason = "it is made inside a function. Move it to the top level of its module"
    else:
        try:
            if locate(reference) is thing:
                _IMPORTABLE[reference] = thing
                return
            reason = (
                "that name holds something else there. Define it under its own name; a step function with @step(...) "
                "above it"
            )
        except (ImportError, AttributeError) as error:
            reason = f"{error}. Define it at the top level of a module"
    raise ConfigurationError(f"The {kind} {reference} cannot be imported by a worker process: {reason}.")
