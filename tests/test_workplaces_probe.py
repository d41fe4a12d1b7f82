"""Looks at a store from several nodes at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from astray.artifacts import Store
from astray.artifacts.workplaces.probe import probing


def test_nodes_that_share_a_host_look_at_once_without_harm(tmp_path: Path) -> None:
    with probing(Store(tmp_path)) as probe, ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: probe(), range(64)))
    assert set(told) == {""}
