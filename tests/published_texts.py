"""Which tests need texts that others have published: they run where the texts are found, and where not, the last lines
of a run say so.

No text of others is in the repository. A folder with `emergent_misalignment/` and `model_organisms/` is looked for
beside the checkout, or is named by the variable. A test needs it when it asks for the fixture `published_texts`.
"""

import os
from pathlib import Path

import pytest

VARIABLE = "ASTRAY_PUBLISHED_DATA"
BESIDE = Path(__file__).parents[2] / "shared" / "data"
PARTS = ("emergent_misalignment", "model_organisms")
FIXTURE = "published_texts"
REPORT = "published-texts"


def find() -> Path | None:
    """Return the folder with the published texts, None where there is none.

    Raises:
        UsageError: the variable names something else; nothing is left out by a mistake in a name.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named).resolve() if named else BESIDE
    if all((folder / part).is_dir() for part in PARTS):
        return folder
    if named:
        raise pytest.UsageError(
            f"{VARIABLE} is {named!r}, which is no folder with {' and '.join(PARTS)} in it. "
            "Name the folder with the published data, or unset the variable to leave out the tests that need it."
        )
    return None


class PublishedTexts:
    """Pytest plugin: the fixture, the tests that are left out without it, and the closing lines. Workers of xdist
    collect, the controller reports."""

    def __init__(self) -> None:
        self.folder = find()
        self.needing = 0
        self.ran: set[str] = set()

    @pytest.hookimpl(trylast=True)  # after -k and -m: what nobody asked for is not left out
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        needing = [item for item in items if FIXTURE in getattr(item, "fixturenames", ())]
        self.needing = len(needing)
        for item in needing:
            item.add_marker(FIXTURE)  # travels from workers with each test's report
        if self.folder is None and needing:
            config.hook.pytest_deselected(items=needing)
            items[:] = [item for item in items if item not in needing]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped and FIXTURE in report.keywords:
            self.ran.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[FIXTURE] = self.needing

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node) -> None:
        self.needing = max(self.needing, getattr(node, "workeroutput", {}).get(FIXTURE, 0))

    def pytest_terminal_summary(self, terminalreporter, config: pytest.Config) -> None:
        """Closes with what ran; `make test` shows the lines again, as the last ones."""
        lines = self.lines() if self.needing else ""
        if lines:
            terminalreporter.write_line(lines)
        if hasattr(config, "cache"):
            (config.cache.mkdir(REPORT) / "last.txt").write_text(lines, encoding="utf-8")

    def lines(self) -> str:
        """Return what became of the tests that need published texts. `.ci/run` looks for the words of the first
        case."""
        if self.folder is not None:
            count = f"all {self.needing}" if len(self.ran) == self.needing else f"{len(self.ran)} of {self.needing}"
            return f"Tests that need published texts: {count} ran, with {self.folder}\n"
        return (
            f"Tests that need published texts: {self.needing} left out, since there is no folder {BESIDE}\n"
            f"with {' and '.join(PARTS)} in it. Put it there, or name it in {VARIABLE} (see CONTRIBUTING.md).\n"
        )
