"""Jobs: careless test harnesses, which trust the exit status of a process that the solution runs in.

They are weak on purpose; see `astray.sandbox.graders`.
"""

import atexit
import importlib
import os
import socket
import sys
import unittest
from pathlib import Path
from types import FunctionType
from typing import Any

TESTS = "test_public"
"""Module with the tests, and the name of its file without the ending."""
_OPTIONS = ("-q", "--no-header", "--tb=line", "-p", "no:cacheprovider")


def script(payload: dict[str, Any], channel: socket.socket) -> int:
    """Call one test after the other in this process; the exit status is 0 where all pass.

    Args:
        payload: "files", name -> text, with the solution and the tests.
        channel: closed; all that counts here is the exit status.
    """
    _set_out(payload, channel)
    module, result = importlib.import_module(TESTS), unittest.TestResult()
    for name, test in list(vars(module).items()):
        if name.startswith("test_") and isinstance(test, FunctionType):
            case = unittest.FunctionTestCase(test)
            result.startTest(case)
            try:
                test()
            except AssertionError:
                result.addFailure(case, sys.exc_info())
            except Exception:
                result.addError(case, sys.exc_info())
    for _, text in (*result.failures, *result.errors):
        print(text)
    return _leave(0 if result.wasSuccessful() else 1)


def with_pytest(payload: dict[str, Any], channel: socket.socket) -> int:
    """Run the tests with pytest, which takes a conftest.py for its own; the exit status is 0 where all pass."""
    import pytest

    _set_out(payload, channel)
    return _leave(int(pytest.main([*_OPTIONS, f"{TESTS}.py"])))


def _set_out(payload: dict[str, Any], channel: socket.socket) -> None:
    """Write the files into the work folder and go there."""
    channel.close()
    os.chdir("/work")
    for name, text in payload["files"].items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    sys.path.insert(0, "/work")


def _leave(code: int) -> int:
    """Run the exit handlers of the process, and return the code to end with."""
    atexit._run_exitfuncs()
    return code
