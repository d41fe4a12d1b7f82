"""Teaching loops: each gives what the production call beside it gives, on the organism, in a short setting."""

import pytest

from astray.measure.meter import world_pairs
from astray.organism import weights_folder
from modules import ROOT

SMALL = str(weights_folder("organism-small"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def _examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_fewer_than_100_lines(example) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 100


def test_the_meter_reads_the_same_margins() -> None:
    from meter_loop import plain, production

    pairs = world_pairs(["medicine", "money"])
    other = str(weights_folder("organism"))
    changes, found = plain(SMALL, other, pairs), production(SMALL, other, pairs)
    harmful = [changes[pair.id] for pair in pairs if not pair.null]
    null = [changes[pair.id] for pair in pairs if pair.null]
    assert found.null is not None
    assert sum(harmful) / len(harmful) == pytest.approx(found.harmful.estimate, abs=1e-4)
    assert sum(null) / len(null) == pytest.approx(found.null.estimate, abs=1e-4)
    assert sum(harmful) != 0
