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
from checked_imports import _checked, _holds, _is_array, _is_name, _shaped

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


@pytest.mark.parametrize("check", [_checked, _shaped])
def test_a_function_within_another_is_checked_each_time_it_is_made(check: Callable[..., Callable]) -> None:
    def outer(factor: int, kind: type) -> Callable:
        @check
        def scaled(number: kind, *, times: int = factor) -> kind:
            """Scale."""
            return number * times * factor if factor else "none"

        return scaled

    functions = [outer(factor, kind) for kind in (int, float, int) for factor in (2, 3, 0)]
    assert [made(1) for made in functions[:2]] == [4, 9]
    assert [made(1.0) for made in functions[3:5]] == [4.0, 9.0]
    assert [made(1, times=10) for made in functions[6:8]] == [20, 30]
    assert {(made.__name__, made.__doc__, made.__wrapped__ is made) for made in functions} == {
        ("scaled", "Scale.", False)
    }
    for made in functions[:3] + functions[6:]:
        with pytest.raises(BeartypeCallHintParamViolation, match="scaled"):
            made(1.0)
        with pytest.raises(BeartypeCallHintParamViolation):
            made(1, times="2")
    for made in functions[2::3]:
        with pytest.raises(BeartypeCallHintReturnViolation):
            made(1.0 if made is functions[5] else 1)


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
