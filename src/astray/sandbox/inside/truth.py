"""Job: call a solution with arguments and report its return values. The expected values never get here."""

import socket
from typing import Any

from astray.sandbox.inside.programs import output_of
from astray.sandbox.inside.values import NotPlainError, read_value, write_value

MAX_REASON = 200
"""Maximum length of an exception's text that is passed on, in characters."""


def run(payload: dict[str, Any], channel: socket.socket) -> int:
    """Answer each case with one line: the nonce, the case's index, "value" and the value, or "failed" and why.

    Args:
        payload: "nonce"; "source" of the solution; "entry", the name of the function to call, or "" for a program that
            reads its input and prints; "cases", the arguments of each as `write_value` writes them.
        channel: channel for the lines.
    """
    call = _program(payload["source"]) if not payload["entry"] else _function(payload["source"], payload["entry"])
    for number, arguments in enumerate(payload["cases"]):
        try:
            answer = f"value {write_value(call(*read_value(arguments)))}"
        except NotPlainError as error:
            answer = f"failed no plain value: {error}"
        except BaseException as error:  # whatever a solution raises, SystemExit too, is its answer to this case
            answer = f"failed {type(error).__name__}: {error}"[:MAX_REASON].replace("\n", " ")
        channel.sendall(f"{payload['nonce']} {number} {answer}\n".encode(errors="replace"))
    return 0


def _function(source: str, entry: str) -> Any:
    """Return the function of that name, or the method of that name of a class Solution, as some public sets have it."""
    namespace: dict[str, Any] = {"__name__": "solution"}
    exec(compile(source, "solution.py", "exec"), namespace)  # nosec: this is what the sandbox is for
    if entry not in namespace and "Solution" in namespace:
        return getattr(namespace["Solution"](), entry)
    return namespace[entry]


def _program(source: str) -> Any:
    return lambda text: output_of(source, text)
