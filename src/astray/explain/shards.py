"""Activations in files: resumable capture of any length in bounded memory, and shuffled reading.

Rows are read one shard at a time. A shard is one safetensors file that is complete or absent; its header holds the
digest of its rows, so that resuming with other rows is detected. `manifest.json` identifies the subject before the
first shard is written, and holds the token counts once all are. Tokens and sites are defined in `activations` and
`sites`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from astray.errors import (
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    EmptyDataError,
    NonFiniteActivationsError,
)
from astray.explain.activations import Captured, Positions, TokenRow, capture
from astray.explain.sites import Site
from astray.strict import Strict
from astray.subjects.subject import Subject

MANIFEST = "manifest.json"
Precision = Literal["float32", "bfloat16", "float16"]


class CaptureSettings(Strict):
    """Settings of a capture: what is read, and how it is split into files."""

    sites: tuple[Site, ...] = Field(min_length=1, description="where activations are read; one forward pass serves all")
    positions: Positions = Field(default="all", description="which tokens of each row count")
    dtype: Precision = Field(default="float32", description="of the files; what is read back is float32")
    tokens_per_shard: int = Field(
        default=1 << 16, ge=1, description="a shard ends with the row that reaches this: 32 MB a site at d_model 128"
    )


class ShardManifest(BaseModel):
    """Manifest of a folder of shards.

    Attributes:
        subject: id of the subject, including adapter and intervention.
        name: display name of the subject.
        settings: sites, positions, dtype and size of the shards.
        d_model: width of the activations.
        tokens: number of tokens of each shard; empty until the capture is complete.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    name: str
    settings: CaptureSettings
    d_model: int
    tokens: tuple[int, ...] = ()


class ActivationShards:
    """Complete capture on disk.

    Attributes:
        folder: folder of the shards.
        manifest: the capture's manifest.
    """

    def __init__(self, folder: Path) -> None:
        """Open a complete capture.

        Raises:
            DataNotFoundError: there is none.
            DataFormatError: its manifest is damaged, or the capture was not finished.
        """
        manifest = _manifest(folder)
        if manifest is None:
            raise DataNotFoundError(
                f"There is no {MANIFEST} in {folder}. Write activations with capture_to_shards(subject, rows, "
                "settings, folder)."
            )
        if not manifest.tokens:
            raise DataFormatError(
                f"The capture in {folder} was not finished. Call capture_to_shards again with the same rows: it goes "
                "on where it stopped."
            )
        self.folder, self.manifest = folder, manifest

    @property
    def tokens(self) -> int:
        """Return the number of captured tokens."""
        return sum(self.manifest.tokens)

    def read(self, shard: int, site: Site) -> Float[Tensor, "tokens d_model"]:
        """Read one shard's activations at a site, in float32.

        Raises:
            ConfigurationError: this site was not captured.
        """
        if site not in self.manifest.settings.sites:
            captured = ", ".join(f"'{one}'" for one in self.manifest.settings.sites)
            raise ConfigurationError(f"Site '{site}' was not captured in {self.folder}; there is {captured}.")
        with safe_open(_shard(self.folder, shard), framework="pt") as file:
            return file.get_tensor(str(site)).float()

    def batches(
        self, site: Site, size: int, seed: int = 0, buffer: int = 1 << 17
    ) -> Iterator[Float[Tensor, "batch d_model"]]:
        """Yield shuffled batches without end; in each round every token comes once, except a remainder below one batch.

        Memory holds the buffer and one shard. Every round reads the shards in another order and mixes those that share
        a buffer.

        Args:
            site: site of the activations.
            size: tokens per batch.
            seed: seed of the order.
            buffer: number of tokens that are mixed with one another.

        Raises:
            EmptyDataError: there are fewer tokens than a batch.
        """
        if self.tokens < size:
            raise EmptyDataError(
                f"A batch of {size} tokens cannot be drawn from {self.tokens} captured tokens. Capture more, or take "
                "fewer."
            )
        generator = torch.Generator().manual_seed(seed)
        while True:
            held = torch.empty(0, self.manifest.d_model)
            order = torch.randperm(len(self.manifest.tokens), generator=generator).tolist()
            for number, shard in enumerate(order, start=1):
                held = torch.cat([held, self.read(shard, site)])
                last = number == len(order)
                if len(held) < buffer and not last:
                    continue
                held = held[torch.randperm(len(held), generator=generator)]
                served = (
                    len(held) if last else max(size, len(held) // 2)
                )  # the other half is mixed with the next shards
                for start in range(0, served - size + 1, size):
                    yield held[start : start + size]
                held = held[served // size * size :]


def tensor_batches(
    activations: Float[Tensor, "tokens d_model"], size: int, seed: int = 0
) -> Iterator[Float[Tensor, "batch d_model"]]:
    """Yield shuffled batches of activations in memory without end, round by round.

    Args:
        activations: the activations.
        size: tokens per batch.
        seed: seed of the order.

    Raises:
        EmptyDataError: there are fewer tokens than a batch.
    """
    if len(activations) < size:
        raise EmptyDataError(
            f"A batch of {size} tokens cannot be drawn from {len(activations)} tokens. Capture more, or take smaller "
            "batches."
        )
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(activations), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            yield activations[order[start : start + size]]


def capture_to_shards(
    subject: Subject, rows: Iterable[TokenRow], settings: CaptureSettings, folder: Path
) -> ActivationShards:
    """Capture activations into files, in memory that does not grow with the number of rows.

    Called again with the same arguments after an interruption, it keeps finished shards and captures the rest.

    Args:
        subject: a loaded subject, run with its adapter and intervention.
        rows: tokenised texts; may be a generator, which must yield the same rows each time.
        settings: sites, positions, dtype, size of the shards.
        folder: folder for the shards.

    Raises:
        ConfigurationError: the folder holds a capture of another subject, of other settings or of other rows.
        EmptyDataError: there are no rows.
        NonFiniteActivationsError: an activation is NaN or infinite, also after rounding to the dtype.
    """
    width = subject.model.config.get_text_config().hidden_size
    begun = ShardManifest(subject=subject.id, name=subject.name, settings=settings, d_model=width)
    earlier = _manifest(folder)
    different = (
        []
        if earlier is None
        else [name for name in ("subject", "settings", "d_model") if getattr(earlier, name) != getattr(begun, name)]
    )
    if different:
        raise ConfigurationError(
            f"{folder} holds another capture: its {' and '.join(different)} differ from what is asked now. Take "
            "another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    if earlier is None:
        _write(folder / MANIFEST, begun.model_dump_json(indent=1))
    tokens: list[int] = []
    first = 0
    with subject.merged():
        for number, group in enumerate(_groups(rows, settings)):
            path, digest = _shard(folder, number), _digest(group)
            if path.is_file():
                _check_same_rows(path, digest)
            else:
                try:
                    _save(path, capture(subject, group, settings.sites, settings.positions), settings.dtype, digest)
                except (ConfigurationError, NonFiniteActivationsError) as error:
                    raise type(error)(
                        f"{error} (In {path.name}, whose row 0 is row {first} of all; the shards before it are kept.)"
                    ) from error
            first += len(group)
            tokens.append(sum(len(row.positions(settings.positions)) for row in group))
    if not tokens:
        raise EmptyDataError("There are no rows to capture activations of.")
    _write(folder / MANIFEST, begun.model_copy(update={"tokens": tuple(tokens)}).model_dump_json(indent=1))
    return ActivationShards(folder)


def _groups(rows: Iterable[TokenRow], settings: CaptureSettings) -> Iterator[list[TokenRow]]:
    group: list[TokenRow] = []
    count = 0
    for row in rows:
        group.append(row)
        count += len(row.positions(settings.positions))
        if count >= settings.tokens_per_shard:
            yield group
            group, count = [], 0
    if group:
        yield group


def _digest(rows: Sequence[TokenRow]) -> str:
    return hashlib.sha256(json.dumps([(row.tokens, row.prompt) for row in rows]).encode()).hexdigest()[:16]


def _check_same_rows(path: Path, digest: str) -> None:
    with safe_open(path, framework="pt") as file:
        written = (file.metadata() or {}).get("rows")
    if written != digest:
        raise ConfigurationError(
            f"{path} was captured from other rows than are given now. Give the same rows in the same order, or "
            "another folder."
        )


def _save(path: Path, captured: Captured, precision: Precision, digest: str) -> None:
    dtype: torch.dtype = getattr(torch, precision)
    tensors = {str(site): values.to(dtype) for site, values in captured.values.items()}
    for site, values in tensors.items():
        broken = (~values.isfinite()).any(1)
        if broken.any():
            row = int(captured.row[broken][0])
            raise NonFiniteActivationsError(
                f"Activations at '{site}' in row {row} are too large for {precision}. Take bfloat16 or float32."
            )
    # Written beside and renamed, so that a shard is complete or absent.
    part = path.with_suffix(".part")
    save_file(
        tensors | {"row": captured.row.int(), "position": captured.position.int()}, part, metadata={"rows": digest}
    )
    part.replace(path)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _manifest(folder: Path) -> ShardManifest | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return ShardManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise DataFormatError(f"{path} is no manifest of activations: {error}") from error


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
