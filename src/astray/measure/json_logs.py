"""Read Inspect logs that are one JSON document (.json) a sample at a time, so that memory does not grow with the log.

A key that stands twice in an object is refused, since each reader would take another one of the two.
"""

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import ijson  # a dependency of Inspect, which reads headers with it
from inspect_ai._util.constants import get_deserializing_context
from inspect_ai.log import EvalSample, read_eval_log

from astray.errors import DataFormatError

WHOLE = 2**28
"""Largest log in bytes that may be read at once, where it holds a number that cannot be streamed."""


@contextmanager
def any_digits() -> Iterator[None]:
    """Let whole numbers have any number of digits: at one that Python refuses, ijson's C code ends the process."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(most)


def samples_of_json(location: str, without: Collection[str] = ()) -> Iterator[EvalSample]:
    """Yield the samples of a log in the form .json.

    Args:
        location: path or URL of the log.
        without: parts of a sample that are left out.

    Raises:
        DataFormatError: it is damaged, or has a key twice in one object; or holds NaN, infinity or a number of more than
            64 bits and is too large to be read at once.
    """
    import fsspec

    _check_keys(location)
    read = 0
    twice: list[str] = []

    class Once(dict[str, object]):
        """Object of JSON that notes a key which it is given again; ijson's C code lets nothing be raised here."""

        def __setitem__(self, key: str, value: object) -> None:
            if key in self:
                twice.append(key)
            super().__setitem__(key, value)

    with fsspec.open(location, "rb") as file:
        contents = ijson.items(file, "samples.item", use_float=True, map_type=Once)
        while True:
            try:
                content = next(contents)
            except StopIteration:
                return
            except (ValueError, ijson.JSONError) as error:
                yield from _whole(location, read, error)
                return
            read += 1
            if twice:
                raise _doubled(location, twice[0])
            yield _sample(location, content, without)


def _check_keys(location: str) -> None:
    """Refuse a key that stands twice in what a log says of its run; those of samples are looked at where they are read."""
    import fsspec

    objects: list[set[object]] = []
    with fsspec.open(location, "rb") as file:
        try:
            for place, event, key in ijson.parse(file, use_float=True):
                if ".item" in place:
                    continue
                if event == "start_map":
                    objects.append(set())
                elif event == "end_map":
                    objects.pop()
                elif event == "map_key":
                    if key in objects[-1]:
                        raise _doubled(location, str(key))
                    objects[-1].add(key)
        except (ValueError, ijson.JSONError) as error:
            if isinstance(error, DataFormatError):
                raise
            # What cannot be streamed is told, or read at once, where samples are read.


def _doubled(location: str, key: str) -> DataFormatError:
    return DataFormatError(
        f"{location} has the key {key!r} twice in one object, of which only the last would count: it was edited. Give the "
        "log as it was written."
    )


def _sample(location: str, content: object, without: Collection[str]) -> EvalSample:
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name not in without}
    try:
        return EvalSample.model_validate(content, context=get_deserializing_context())
    except ValueError as error:
        raise DataFormatError(
            f"{location} has a sample that is none of Inspect's ({str(error).splitlines()[0]}). Run it again."
        ) from error


def _whole(location: str, read: int, error: Exception) -> list[EvalSample]:
    """Return the samples after the first ones of a log that JSON alone cannot express: scores that are NaN, for one."""
    import fsspec

    files, path = fsspec.core.url_to_fs(location)
    if (size := files.size(path) or 0) > WHOLE:
        raise DataFormatError(
            f"{location} cannot be read a sample at a time ({error}), and is {size / 2**20:,.0f} MiB, which would have "
            f"to be read at once. Convert it first: inspect log convert {location} --to eval --output-dir converted"
        ) from error

    def once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise _doubled(location, next(name for name in names if names.count(name) > 1))
        return found

    try:
        with fsspec.open(location, "rb") as file, any_digits():
            json.load(file, object_pairs_hook=once)
        return (read_eval_log(location).samples or [])[read:]
    except DataFormatError:
        raise
    except Exception as damage:  # Inspect raises whatever its libraries do at a damaged file
        raise DataFormatError(
            f"{location} is damaged: its samples cannot be read ({type(damage).__name__}: {damage}). Run it again."
        ) from damage
