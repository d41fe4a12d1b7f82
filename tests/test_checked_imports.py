"""The package's functions are held to their annotations while tests run, array shapes within a call included."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, ForwardRef, Literal

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Float, TypeCheckError

from astray.stats.detection import correlation_estimate
from astray.stats.intervals import wilson
from checked_imports import _holds, _is_array, _is_name, _shaped

Rows = Float[np.ndarray, "rows"]


def test_shapes_are_compared_within_a_call() -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        correlation_estimate(np.ones(9), np.ones(8), range(9), "row")


def test_what_is_returned_is_compared_with_what_was_given() -> None:
    def first(rows: Rows, much: int) -> Rows:
        return rows[:much]

    checked = _shaped(first)
    assert len(checked(np.ones(3), 3)) == len(checked(np.ones(4), much=4)) + len(checked(np.ones(2), 2)) - 3
    with pytest.raises(BeartypeCallHintReturnViolation):
        checked(np.ones(4), 3)


def test_a_generator_that_is_begun_within_another_call_has_shapes_of_its_own() -> None:
    @contextmanager
    @_shaped
    def opened(rows: Rows, others: Rows) -> Iterator[Rows]:
        yield rows[1:]

    @_shaped
    def outer(rows: Rows) -> int:
        with opened(rows[1:], rows[1:]) as given:
            return len(given)

    assert outer(np.ones(4)) == 2
    with pytest.raises(TypeCheckError):
        opened(np.ones(3), np.ones(2))


def test_functions_without_shapes_are_held_to_their_types() -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        wilson("1", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotation", "holds"),
    [
        (Rows, "an array"),
        (Rows | None, "an array"),
        (tuple[int, Rows], "an array"),
        (Mapping[str, Sequence[Rows]], "an array"),
        (Callable[[Rows], float], "an array"),
        (Callable[[int], Rows], "an array"),
        (Annotated[Rows, "of a table"], "an array"),
        ("PeftModel", "a name"),
        (list[ForwardRef("PeftModel")], "a name"),
        (np.ndarray, ""),
        (Literal["rows"], ""),
        (Callable[..., float] | None, ""),
        (None, ""),
    ],
)
def test_what_is_left_to_jaxtyping(annotation: object, holds: str) -> None:
    assert _holds(annotation, _is_array) is (holds == "an array")
    assert _holds(annotation, _is_name) is (holds == "a name")
