"""Forks the workers of pytest-xdist from one process that has imported what tests import: four workers took a minute of
processor time for it before the first test.

    python forked_workers.py SOCKET FILTER...     the process, in which these filters say what warnings are errors
"""

import ast
import importlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
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


SET: dict[str, str] = {}
"""Variables that an import has set, in the process that workers are forked from."""


class ForkedWorkers:
    """Pytest plugin of the controller."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list) -> None:
        """Have the workers on this machine forked; elsewhere than on Linux, or where slipcover measures the processes
        that are started, xdist starts them as usual."""
        measured = any(type(each).__module__.startswith("slipcover") for each in sys.meta_path)
        if sys.platform != "linux" or measured:
            return
        self.folder = tempfile.TemporaryDirectory()
        address = Path(self.folder.name) / "socket"
        command = write_caller(address, "python", "forked_workers:worker") / "python"
        words = [sys.executable, __file__, str(address), *config.getini("filterwarnings")]
        self.process = subprocess.Popen(words, start_new_session=True)
        while not address.exists():
            if self.process.poll() is not None:
                raise pytest.UsageError("What tests import cannot be imported: the error stands above.")
            time.sleep(0.05)
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = shlex.quote(str(command))

    def pytest_unconfigure(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.folder.cleanup()


def worker() -> None:
    """Be the Python that execnet starts, with the words `-u -c CODE`."""
    code, sys.argv = sys.argv[-1], ["-c"]
    os.environ.update(SET)
    sys.modules["__main__"] = ModuleType("__main__")
    exec(code, vars(sys.modules["__main__"]))


def imports() -> Iterator[str]:
    """Yield the import statements at the top of the files of tests, but those of files beside them."""
    for path in sorted(TESTS.glob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
                if all(_installed(str(name).partition(".")[0]) for name in names):
                    yield ast.unparse(node)


def _installed(package: str) -> bool:
    return find_spec(package) is not None and not (TESTS / f"{package}.py").exists()


if __name__ == "__main__":
    from _pytest.config import apply_warning_filters

    import checked_imports

    checked_imports.install("astray")
    before = dict(os.environ)
    with warnings.catch_warnings():
        apply_warning_filters(sys.argv[2:], [])
        for statement in dict.fromkeys(imports()):
            exec(statement, {})
        for name in AT_FIRST_USE:
            importlib.import_module(name)
    forked_workers = importlib.import_module("forked_workers")  # this file, as `worker` finds it
    forked_workers.SET.update({name: value for name, value in os.environ.items() if before.get(name) != value})
    importlib.import_module("forked").share_server(f"{sys.argv[1]}-processes")
    serve(sys.argv[1])
