"""Shape and type checks are on in every test; no test may reach the network."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # of a job in the background; the commands that a test starts and interrupts would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.fsync = lambda descriptor: None  # no test cuts the power, and it is thousands of waits for the disk

gc.disable()  # until all is imported: nothing of it is garbage, and a fifth of the time went into looking

import checked_imports

checked_imports.install("astray")

import pytest
from hypothesis import settings

from forked_workers import ForkedWorkers
from fuzzing import tried
from published_texts import FIXTURE, PublishedTexts

settings.register_profile("astray", tried(100))
settings.load_profile("astray")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{FIXTURE}: needs texts that others have published; set by itself")
    config.pluginmanager.register(PublishedTexts(), FIXTURE)
    config.pluginmanager.register(ForkedWorkers())


LONG = (
    *(
        "test_studies_",
        "test_workplaces_",
        "test_repair",
        "test_cli.",
        "test_gate",
        "test_agentic_",
        "test_sandbox_new",
    ),
    *("test_engines", "test_audit", "test_examples", "test_blame", "test_second_judge", "test_until_decided"),
    *("test_own_study", "test_docs", "test_passport", "test_report_browser", "test_registry", "test_subjects_weights"),
)
"""How the names of files begin that take ten seconds of a processor or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: no worker then begins one when the others have nothing left to do."""
    items.sort(
        key=lambda item: next((at for at, name in enumerate(LONG) if item.path.name.startswith(name)), len(LONG))
    )


def pytest_collection_finish() -> None:
    """Spare what takes long and decides nothing: a benchmark of half a second a plan, looks for garbage, and Inspect's
    table of results, which it lays out for a console that shows nothing, too."""
    gc.freeze()  # the first look would go through all that was imported
    gc.enable()
    if speed := sys.modules.get("astray.engine.forecast.speed"):
        speed.BENCHMARK_SECONDS = 0.02
    if memory := sys.modules.get("accelerate.utils.memory"):
        memory.gc = SimpleNamespace(collect=lambda: 0)  # each training looks for garbage, and again at its end
    if drawn := sys.modules.get("inspect_ai._display.rich.display"):
        from rich import get_console

        lay_out = drawn.tasks_results
        drawn.tasks_results = lambda tasks: "" if get_console().quiet else lay_out(tasks)


def pytest_unconfigure() -> None:
    """Look for garbage once: pytest looks twice, through all that was ever loaded."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def published_texts(request: pytest.FixtureRequest) -> Path:
    """The folder with the published texts."""
    return request.config.pluginmanager.get_plugin(FIXTURE).folder


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random-weight Qwen2."""
    from tiny_models import save_tiny_model  # loads transformers, which most files of tests do without

    return save_tiny_model(tmp_path_factory.mktemp("qwen2"), "qwen2")


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """Trainers collect garbage each time; what the tests before have loaded is not looked through again."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def rough_power(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plan whose power nothing is compared with: it is simulated with fifty studies, in place of thousands."""
    from astray.engine.forecast import sensitivity

    kept = (sensitivity.smallest_difference, sensitivity.largest_control, sensitivity._power)
    for name in ("SIMULATIONS", "TRIED", "CONTROLS_TRIED"):
        monkeypatch.setattr(sensitivity, name, 50)
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()
