"""Job: record the calls that a public set's tests make of the reference solution, with arguments and results."""

import inspect
import socket
from typing import Any

from astray.sandbox.inside.values import NotPlainError, read_value, write_value


def run(payload: dict[str, Any], channel: socket.socket) -> int:
    """Run the tests and send one line per call, in the form of `truth.run`, with the value (arguments, result).

    A failing test ends the job with an error.

    Args:
        payload: "nonce"; "source" of the reference; "entry"; "tests", code; "checked", whether they stand in
            check(candidate).
        channel: channel for the lines.
    """
    namespace: dict[str, Any] = {"__name__": "reference"}
    exec(compile(payload["source"], "reference.py", "exec"), namespace)  # nosec: this is what the sandbox is for
    function, calls = namespace[payload["entry"]], []

    def recorded(*args: Any, **named: Any) -> Any:
        given = inspect.signature(function).bind(*args, **named)
        given.apply_defaults()  # recorded calls have positional arguments only
        before = _kept(given.args)
        result = function(*args, **named)
        if before is not None and not given.kwargs:
            calls.append((before, result))
        return result

    tests = {"__name__": "tests", **namespace, payload["entry"]: recorded}
    exec(compile(payload["tests"], "tests.py", "exec"), tests)  # nosec
    if payload["checked"]:
        tests["check"](recorded)
    for number, call in enumerate(calls):
        try:
            channel.sendall(f"{payload['nonce']} {number} value {write_value(call)}\n".encode())
        except NotPlainError as error:
            channel.sendall(f"{payload['nonce']} {number} failed {error}\n".encode(errors="replace"))
    return 0


def _kept(arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Copy arguments before the call, which may change them; None where they are no plain values."""
    try:
        return read_value(write_value(arguments))
    except NotPlainError:
        return None
