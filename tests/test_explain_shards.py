"""Activations in files are those in memory; a capture that was killed goes on and ends in the same bytes; memory does
not grow with the tokens."""

import gc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from astray.errors import (
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    EmptyDataError,
    NonFiniteActivationsError,
)
from astray.explain.activations import TokenRow, capture
from astray.explain.shards import MANIFEST, ActivationShards, CaptureSettings, capture_to_shards, tensor_batches
from astray.explain.sites import Site
from astray.subjects.subject import Subject, load_subject
from causal_models import save_causal_model

SITES = (Site(place="block out", block=1), Site(place="attention out", block=0))
SETTINGS = CaptureSettings(sites=SITES, positions="all", tokens_per_shard=40)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_causal_model(tmp_path_factory.mktemp("llama"), "llama")))


def rows(count: int = 24) -> Iterator[TokenRow]:
    for number in range(count):
        yield TokenRow(tuple(3 + (7 * number + place) % 250 for place in range(5 + number % 9)), 2)


@pytest.fixture(scope="module")
def shards(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> ActivationShards:
    return capture_to_shards(subject, rows(), SETTINGS, tmp_path_factory.mktemp("whole"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_hold_what_a_capture_in_memory_gives(subject: Subject, shards: ActivationShards) -> None:
    captured = capture(subject, list(rows()), SITES, "all")
    assert len(shards.manifest.tokens) == 5
    assert shards.tokens == len(captured.row)
    assert (shards.manifest.subject, shards.manifest.d_model) == (subject.id, 32)
    for site in SITES:
        read = torch.cat([shards.read(number, site) for number in range(len(shards.manifest.tokens))])
        torch.testing.assert_close(read, captured[site], rtol=1e-4, atol=1e-5)


def test_a_capture_that_was_killed_goes_on_and_ends_in_the_same_bytes(
    subject: Subject, shards: ActivationShards, tmp_path: Path
) -> None:
    def killed() -> Iterator[TokenRow]:
        yield from islice(rows(), 15)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_to_shards(subject, killed(), SETTINGS, tmp_path)
    done = sorted(path.name for path in tmp_path.glob("shard-*"))
    assert done == ["shard-00000.safetensors", "shard-00001.safetensors", "shard-00002.safetensors"]
    with pytest.raises(DataFormatError, match="was not finished"):
        ActivationShards(tmp_path)
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in done}
    (tmp_path / "shard-00003.part").write_bytes(b"torn")
    capture_to_shards(subject, rows(), SETTINGS, tmp_path)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in done} == stamps
    assert content(tmp_path) == content(shards.folder)


def test_half_precision_files_are_read_back_as_float32(
    subject: Subject, shards: ActivationShards, tmp_path: Path
) -> None:
    half = capture_to_shards(subject, rows(), SETTINGS.model_copy(update={"dtype": "bfloat16"}), tmp_path)
    torch.testing.assert_close(half.read(0, SITES[0]), shards.read(0, SITES[0]).bfloat16().float(), rtol=0, atol=0)
    assert (tmp_path / "shard-00000.safetensors").stat().st_size < 0.75 * (
        shards.folder / "shard-00000.safetensors"
    ).stat().st_size


def test_another_subject_other_settings_and_other_rows_do_not_go_into_the_same_folder(
    subject: Subject, shards: ActivationShards, tmp_path: Path
) -> None:
    before = content(shards.folder)
    with pytest.raises(ConfigurationError, match="its subject differ"):
        capture_to_shards(subject.with_system("Be brief."), rows(), SETTINGS, shards.folder)
    with pytest.raises(ConfigurationError, match="its settings differ"):
        capture_to_shards(subject, rows(), SETTINGS.model_copy(update={"positions": "answer"}), shards.folder)
    with pytest.raises(ConfigurationError, match="captured from other rows"):
        capture_to_shards(subject, reversed(list(rows())), SETTINGS, shards.folder)
    assert content(shards.folder) == before


def test_rows_that_fail_are_counted_from_the_first_shard_and_leave_the_finished_ones(
    subject: Subject, tmp_path: Path
) -> None:
    def too_long() -> Iterator[TokenRow]:
        yield from rows(10)
        yield TokenRow((5,) * 200)

    with pytest.raises(
        ConfigurationError, match=r"Row 0 has 200 tokens.*\(In shard-00002.safetensors, whose row 0 is row 10 of all"
    ):
        capture_to_shards(subject, too_long(), SETTINGS, tmp_path)
    assert len(list(tmp_path.glob("shard-*"))) == 2


def test_activations_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    subject = load_subject(str(save_causal_model(tmp_path / "model", "llama")))
    with torch.no_grad():
        subject.model.get_input_embeddings().weight[200] = 1e6
    settings = CaptureSettings(sites=(Site(place="block in", block=0),), dtype="float16")
    with pytest.raises(
        NonFiniteActivationsError, match=r"'block in 0' in row 1 are too large for float16.*shard-00000"
    ):
        capture_to_shards(subject, [TokenRow((5, 6)), TokenRow((7, 200))], settings, tmp_path / "half")
    assert not list((tmp_path / "half").glob("shard-*"))


def test_memory_stays_flat_as_the_tokens_grow(subject: Subject, tmp_path: Path) -> None:
    """Bytes of all tensors alive in the middle and at the end: the same for ten times as many rows."""

    def most(count: int) -> int:
        alive: list[int] = []

        def watched() -> Iterator[TokenRow]:
            for number, row in enumerate(rows(count)):
                if number in (count // 2, count - 1):
                    gc.collect()
                    alive.append(
                        sum(one.untyped_storage().nbytes() for one in gc.get_objects() if type(one) is torch.Tensor)
                    )
                yield row

        capture_to_shards(subject, watched(), SETTINGS, tmp_path / str(count))
        return max(alive)

    assert most(600) <= most(60) + 4096


def test_shuffled_batches_give_every_token_once_a_round(shards: ActivationShards) -> None:
    everything = torch.cat([shards.read(number, SITES[0]) for number in range(len(shards.manifest.tokens))])
    size = 8
    per_round = shards.tokens // size
    batches = list(islice(shards.batches(SITES[0], size, seed=3, buffer=60), 2 * per_round))
    for start in (0, per_round):
        served = torch.cat(batches[start : start + per_round])
        assert len({tuple(row.tolist()) for row in served}) == len(served)
    assert {tuple(row.tolist()) for row in torch.cat(batches)} <= {tuple(row.tolist()) for row in everything}
    assert not torch.equal(batches[0], everything[:size])
    assert not torch.equal(batches[0], batches[per_round])
    again = list(islice(shards.batches(SITES[0], size, seed=3, buffer=60), 2 * per_round))
    assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))
    assert not torch.equal(next(shards.batches(SITES[0], size, seed=4, buffer=60)), batches[0])


def test_a_batch_mixes_more_than_one_shard(shards: ActivationShards) -> None:
    origin = {
        tuple(row.tolist()): number
        for number in range(len(shards.manifest.tokens))
        for row in shards.read(number, SITES[0])
    }
    batch = next(shards.batches(SITES[0], 30, buffer=120))
    assert len({origin[tuple(row.tolist())] for row in batch}) >= 3


def test_batches_of_a_tensor_give_every_token_once_a_round() -> None:
    data = torch.arange(50.0)[:, None]
    batches = list(islice(tensor_batches(data, 10, seed=1), 10))
    for start in (0, 5):
        assert sorted(torch.cat(batches[start : start + 5]).flatten().tolist()) == list(range(50))
    assert not torch.equal(batches[0], batches[5])
    assert torch.equal(batches[0], next(tensor_batches(data, 10, seed=1)))


def test_what_is_not_there_is_refused(subject: Subject, shards: ActivationShards, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no manifest\.json"):
        ActivationShards(tmp_path)
    with pytest.raises(EmptyDataError, match="no rows to capture"):
        capture_to_shards(subject, [], SETTINGS, tmp_path / "empty")
    with pytest.raises(
        ConfigurationError, match=r"'mlp out 1' was not captured.*there is 'block out 1', 'attention out 0'"
    ):
        shards.read(0, Site(place="mlp out", block=1))
    with pytest.raises(EmptyDataError, match="A batch of 1000 tokens cannot be drawn from"):
        next(shards.batches(SITES[0], 1000))
    with pytest.raises(EmptyDataError, match="A batch of 8 tokens cannot be drawn from 3"):
        next(tensor_batches(torch.zeros(3, 2), 8))
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(DataFormatError, match="is no manifest of activations"):
        ActivationShards(tmp_path)
