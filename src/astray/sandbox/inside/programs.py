"""Run the source of a program that reads its standard input and prints, for exercises in that form."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INPUT, _OUTPUT = Path("/work/.input"), Path("/work/.output")


def output_of(source: str, text: str) -> str:
    """Run a program and return what it prints.

    Raises:
        SystemExit: the program left with an error.
        BaseException: any other exception that the program raised.
    """
    _INPUT.write_text(text, encoding="utf-8")
    with _redirected():
        try:
            # nosec: this is what the sandbox is for
            exec(compile(source, "solution.py", "exec"), {"__name__": "__main__"})
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                raise
    return _OUTPUT.read_text(encoding="utf-8", errors="replace")


@contextmanager
def _redirected() -> Iterator[None]:
    """Redirect standard input and output to the two files: Python's streams and the descriptors 0 and 1."""
    streams, descriptors = (sys.stdin, sys.stdout), (os.dup(0), os.dup(1))
    sys.stdout.flush()
    for target, path, flags in ((0, _INPUT, os.O_RDONLY), (1, _OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, target)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 the program's, while it runs
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdin, sys.stdout = streams
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
