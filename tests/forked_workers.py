"""Forks the workers of pytest-xdist from one process that has imported what tests import: four workers took a minute of
processor time for it before the first test.

    python forked_workers.py SOCKET FILTER...     the process, in which these filters say what warnings are errors
"""

import ast
import atexit
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from preloaded import serve, write_caller

TESTS = Path(__file__).parent
AT_FIRST_USE = (
    *("astray.cause.kto", "astray.cause.quiet_kto", "astray.cause.quiet_trainer", "astray.cause.rl", "astray.registry"),
    *("acp", "fastapi", "jsonschema", "openai.types.responses", "uvicorn"),
    *("anyio.pytest_plugin", "anyio._backends._asyncio", "anyio._backends._trio"),
    *("astray.studies.persona_features.study", "astray.studies.reward_hacking.study"),
    *("transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2"),
)
"""What trainers, models and Inspect import when they are first used, beside what files of tests import."""

LONGEST_ADDRESS = 107
"""Bytes that the address of a socket has at most, on Linux."""
SHOWN_LINES = 60
SET: dict[str, str] = {}
"""Variables that an import has set, in the process that workers are forked from."""


class ForkedWorkers:
    """Pytest plugin of the controller."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list) -> None:
        """Have the workers on this machine forked; elsewhere than on Linux, where slipcover measures the processes that
        are started, or where no socket can have the name of a temporary file, xdist starts them as usual."""
        measured = any(type(each).__module__.startswith("slipcover") for each in sys.meta_path)
        if sys.platform != "linux" or measured:
            return
        folder = tempfile.TemporaryDirectory()
        address = Path(folder.name) / "socket"
        if len(os.fsencode(f"{address}.new")) > LONGEST_ADDRESS:
            folder.cleanup()
            return
        self.folder = folder
        command = write_caller(address, "python", "forked_workers:worker") / "python"
        words = [sys.executable, __file__, str(address), *config.getini("filterwarnings")]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
        while not address.exists():
            if self.process.poll() is not None:
                raise pytest.UsageError("The process that workers are forked from ended: see above.")
            time.sleep(0.05)
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = shlex.quote(str(command))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the end of what forked processes of tests have said, where a test failed: one may have died of it."""
        if self.process and terminalreporter.stats.keys() & {"failed", "error"}:
            said = Path(self.folder.name, "said")
            if said.exists() and (lines := said.read_text(encoding="utf-8", errors="replace").splitlines()):
                terminalreporter.section("the last that forked processes said, of all tests")
                terminalreporter.write_line("\n".join(lines[-SHOWN_LINES:]))

    def pytest_unconfigure(self) -> None:
        if self.process:
            with self.process:
                self.process.kill()
            self.folder.cleanup()


def worker() -> None:
    """Be the Python that execnet starts, with the words `-u -c CODE`."""
    code, sys.argv = sys.argv[-1], ["-c"]
    os.environ.update(SET)
    sys.modules["__main__"] = ModuleType("__main__")
    exec(code, vars(sys.modules["__main__"]))


def _end_worker() -> None:
    """End a worker once its own exit functions have run: taking its modules apart takes longer, after the whole suite, than
    xdist waits for it, which then kills it and says that a subprocess is still running."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def imports() -> Iterator[str]:
    """Yield the import statements at the top of the files of tests, but those of files beside them."""
    for path in sorted(TESTS.glob("*.py")):
        try:
            statements = ast.parse(path.read_bytes()).body
        except (SyntaxError, ValueError):  # collection reports it, and of which file
            continue
        for node in statements:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
                if all(_installed(str(name).partition(".")[0]) for name in names):
                    yield ast.unparse(node)


def _installed(package: str) -> bool:
    return find_spec(package) is not None and not (TESTS / f"{package}.py").exists()


if __name__ == "__main__":
    atexit.register(_end_worker)  # before what is imported registers its own: the first runs last
    from _pytest.config import apply_warning_filters

    import checked_imports

    checked_imports.install("astray")
    folder = Path(sys.argv[1]).parent
    before = dict(os.environ)
    with warnings.catch_warnings():
        apply_warning_filters(sys.argv[2:], [])
        importlib.import_module("astray")  # first, since it silences what a library says as it is imported
        for statement in dict.fromkeys(imports()):
            with suppress(Exception):  # collection reports it, and of which file
                exec(statement, {})
        for name in AT_FIRST_USE:
            importlib.import_module(name)
    forked_workers = importlib.import_module("forked_workers")  # this file, as `worker` finds it
    forked_workers.SET.update({name: value for name, value in os.environ.items() if before.get(name) != value})
    importlib.import_module("forked").share_server(folder / "processes", folder / "said")
    serve(sys.argv[1])
    shutil.rmtree(folder)  # pytest was killed
