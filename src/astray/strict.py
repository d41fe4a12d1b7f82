"""Base of all configurations and file formats: nothing is converted, and faults raise Astray's own errors.

A number written as a text is no number, 1.0 is no whole number and True is neither; NaN and infinity are refused. What
loses nothing is taken: a whole number for a number, a list for a tuple, a text for a path or a choice. Stored
configurations are JSON, where tuples are lists and paths are texts, so they are read back by the same rules.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, model_serializer
from pydantic_core import CoreSchema, ErrorDetails, core_schema
from typing_extensions import override

from astray.errors import AstrayError, ConfigurationError

_Model = TypeVar("_Model", bound="Strict")
_NO_SCHEMA = frozenset({"default", "expected", "metadata", "serialization"})
"""Parts of a schema that hold values or writers, no schema."""
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "nothing",
    list: "a list",
    tuple: "a list",
    dict: "keys with values",
}
_WANTED = {
    "int_type": "write a whole number, such as 3, without quotes and without a point",
    "float_type": "write a number, such as 0.5, without quotes",
    "bool_type": "write true or false (True or False in Python), without quotes",
    "string_type": "write a text (in YAML in quotes where it looks like a number)",
    "finite_number": "write a number that is neither NaN nor infinite",
    "path_type": "write the path as a text",
}


def _make_strict(part: Any, model: type[BaseModel]) -> None:
    """Change the schema of a model so that numbers, truths and texts are taken as they are, and no set has an order."""
    if isinstance(part, list | tuple):
        for item in part:
            _make_strict(item, model)
        return
    if not isinstance(part, dict) or (part.get("type") == "model" and part["cls"] is not model):
        return  # a model inside is as strict as it declares itself
    for name, each in part.items():
        if name not in _NO_SCHEMA:
            _make_strict(each, model)
    match part.get("type"):
        case "int" | "float" | "bool" | "str":
            part["strict"] = True
        case "tuple" | "list":
            inner = dict(part)
            part.clear()
            part.update(core_schema.no_info_before_validator_function(_ordered, inner))


def _ordered(given: object) -> object:
    if isinstance(given, set | frozenset):
        # pydantic tells a ValueError with its place and lets a TypeError through.
        raise ValueError("a set has no order: write a list or a tuple")  # noqa: TRY004
    return given


class Frozen(BaseModel):
    """Frozen model that takes the declared keys only, for what Astray itself writes and reads back."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strict(BaseModel):
    """Frozen model that takes the declared keys and types only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **given: Any) -> None:
        """Check the given values.

        Raises:
            ConfigurationError: a key is unknown or missing, or a value has another type or is out of range.
        """
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise refusal(type(self), error, given) from error

    # Marks it as pydantic's own: models inside models are then made without it, so that all faults are told at once
    # with their places.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    @override
    def model_validate(cls: type[_Model], obj: Any, **options: Any) -> _Model:
        """Return the model with these values.

        Raises:
            ConfigurationError: as for the constructor.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise refusal(cls, error, obj) from error

    @classmethod
    @override
    def model_validate_json(cls: type[_Model], json_data: str | bytes | bytearray, **options: Any) -> _Model:
        """Return the model that a JSON text holds.

        Raises:
            ConfigurationError: it is no JSON, or as for the constructor.
        """
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise refusal(cls, error) from error

    @override
    def model_copy(self: _Model, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> _Model:
        """Return a copy, with other values that are checked as the first ones were.

        Raises:
            ConfigurationError: as for the constructor.
        """
        if not update:
            return super().model_copy(deep=deep)
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | dict(update))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _make_strict(schema, cls)
        return schema


def left_out(**usual: object) -> Any:
    """Return a serializer of a model that leaves fields out while they have their usual value.

    A field that comes later then changes no key of a step, and no identity, that there was before.

    Example:
        class FineTuning(Strict):
            processes: int = 1
            _keys = left_out(processes=1)
    """

    def write(self: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name not in usual or value != usual[name]}

    return model_serializer(mode="wrap")(write)


def validated(form: type[Any], content: object, *, strict: bool | None = None) -> Any:
    """Return content as a form, for those who tell each fault with a place of their own: a line, an option.

    Args:
        form: a model.
        content: its values.
        strict: False reads numbers that are written as texts, as all is on a command line.

    Raises:
        ValidationError: pydantic's own, with the place of each fault.
    """
    return form.__pydantic_validator__.validate_python(content, strict=strict)


def refusal(form: type[BaseModel], error: ValidationError, given: object = None) -> AstrayError:
    """Return Astray's error about values that a model cannot take."""
    details = deepest(error, given)
    if len(details) == 1 and (own := cause(details[0])):
        return own
    told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {fault(one)}".removeprefix(": ") for one in details)
    known = ", ".join(field.alias or name for name, field in form.model_fields.items())
    end = f" {form.__name__} takes: {known}." if any(one["type"] == "extra_forbidden" for one in details) else ""
    return ConfigurationError(f"{form.__name__} cannot be made of what was given: {told}.{end}")


def cause(detail: ErrorDetails) -> AstrayError | None:
    """Return the error of Astray's own that a check of a model raised."""
    error = detail.get("ctx", {}).get("error")
    return error if isinstance(error, AstrayError) else None


def deepest(error: ValidationError, given: object) -> list[ErrorDetails]:
    """Return the faults with their places in what was given; of the forms that a value may have, those of the one that
    fits furthest."""
    details = [ErrorDetails(**{**one, "loc": _real(one["loc"], given)}) for one in error.errors()]
    return [
        one
        for one in details
        if one["type"] in ("missing", "extra_forbidden")
        or not any(other["loc"][: len(one["loc"])] == one["loc"] != other["loc"] for other in details)
    ]


def _real(location: Sequence[int | str], given: object) -> tuple[int | str, ...]:
    """Return the steps of a place that lead into what was given; pydantic names the form that it tried as well."""
    real: list[int | str] = []
    for number, step in enumerate(location, 1):
        if isinstance(given, Mapping) and (step in given or number == len(location)):
            given = given.get(step)
        elif isinstance(given, BaseModel) and step in type(given).model_fields:
            given = getattr(given, str(step))
        elif isinstance(given, list | tuple) and isinstance(step, int) and step < len(given):
            given = given[step]
        elif given is not None:
            continue
        real.append(step)
    return tuple(real)


def fault(detail: ErrorDetails) -> str:
    """Return what is wrong with one value, what was given, and what to write instead."""
    if detail["type"] == "extra_forbidden":
        return "there is no such key"
    if detail["type"] == "missing":
        return "is missing"
    given = detail["input"]
    if isinstance(given, BaseModel | Mapping):
        return reason(detail)
    kind = next((name for known, name in _KINDS.items() if type(given) is known), f"a {type(given).__name__}")
    shown = f"given {str(given)[:60]!r}{f' ({kind})' if detail['type'] in _WANTED else ''}"
    message, *instead = reason(detail).split("; ", 1)
    return "; ".join([f"{message}, {shown}", *instead])


def reason(detail: ErrorDetails) -> str:
    """Return why a value cannot be taken, and what to write instead."""
    wanted = _WANTED.get(detail["type"])
    return f"{detail['msg'].removeprefix('Value error, ')}{f'; {wanted}' if wanted else ''}"
