"""Base models in memory: several subjects share one, each with its own adapter.

An adapter is put on in place (no second copy of the base) and taken off by restoring the base's own modules; the last
few stay in memory, and for sampling one can be merged into the weights temporarily. Merging replaces the weight tensors
and restores the originals afterwards, so rounding errors do not accumulate. Files are located in `locate`; how a
subject uses its model is in `subject`.
"""

import json
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from astray.artifacts.execute import usable_cpus
from astray.errors import AdapterMismatchError, ChatTemplateError, ConfigurationError, DataFormatError, NonFiniteError
from astray.subjects.adapter_kinds import is_mergeable
from astray.subjects.adapters import Tree, put_on
from astray.subjects.identity import (
    BASE_RECORD,
    MORE_TOKENIZER_FILES,
    TOKENIZER_FILES,
    adapter_identity,
    base_identity,
    recorded_base,
)
from astray.subjects.precision import precision_on
from astray.subjects.spec import Precision
from astray.subjects.weights import adapted_tokenizer, best_device, check_vocabulary, load_model

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTunerLayer

KEPT_ADAPTERS = 8
"""Maximum number of adapters kept in memory beside the base."""


class Base:
    """One base model in memory.

    Attributes:
        name: name given by the user.
        folder: folder of its files.
        model: the Hugging Face model; use `active` to get it with one adapter, or none, active.
        tokenizer: its tokenizer, with left padding and a padding token.
        lock: held while a thread uses the model.
        chosen: number format that was asked for by name; None where the rule chose it.
    """

    def __init__(
        self, name: str, folder: Path, device: torch.device | None = None, dtype: Precision | None = None
    ) -> None:
        """Load the model, in this number format or in that which `precision` has for the device.

        Raises:
            SubjectNotFoundError: the files cannot be loaded.
            WeightsMismatchError: the checkpoint does not hold the weights of the architecture.
            ChatTemplateError: the tokenizer has no chat template.
            ConfigurationError: there is no such device here.
        """
        self.name, self.folder, self.lock, self.chosen = name, folder, threading.RLock(), dtype
        device = best_device() if device is None else torch.device(device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError(
                f"There is no GPU for the device {str(device)!r} here. Leave the device out, or see: astray doctor"
            )
        self.tokenizer = usable_tokenizer(name, folder)
        with _quietly():
            precision = precision_on(device.type, folder, dtype)
            self.model: PreTrainedModel = load_model(name, folder, precision, device)
        self.model.eval()
        check_vocabulary(name, self.tokenizer, self.model)
        # PEFT writes this name into adapters trained on the base: the user's name, not a path of this machine.
        self.model.name_or_path = self.model.config.name_or_path = name
        # A published generation_config may set a temperature, a top_k or a repetition penalty: only `Sampling` decides.
        ends = end_tokens(self.model, self.tokenizer)
        self.model.generation_config = GenerationConfig(
            eos_token_id=ends or None,
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
        )
        self._bare, self._own_tokenizer, self._ends = Tree.of(self.model), self.tokenizer, ends
        self._mounted: OrderedDict[str, Mounted] = OrderedDict()
        self._current: str | None = None
        self._merged: str | None = None

    @contextmanager
    def active(self, adapter: Path | None, merged: bool = False, scale: float = 1.0) -> Iterator[PreTrainedModel]:
        """Yield the model with the given adapter and no other, locked for this thread.

        Args:
            adapter: PEFT folder, or None for the bare base.
            merged: merge the adapter into the weights while the context is open, which makes sampling about 1.5 times
                as fast; kinds that cannot be merged exactly act unmerged.
            scale: factor on the adapter's change of the weights.
        """
        with self.lock:
            name = self.activate(adapter, scale)
            if not merged or name is None or self._merged == name or not self._mounted[name].mergeable:
                yield self.model
                return
            with written_in(self.model, [name]):
                self._merged = name
                try:
                    yield self.model
                finally:
                    self._merged = None

    def activate(self, adapter: Path | None, scale: float = 1.0) -> str | None:
        """Activate one adapter, loading it if it is not in memory, with its tokenizer.

        Returns:
            Its adapter name in PEFT, or None for the bare base.

        Raises:
            AdapterMismatchError: the adapter was trained on another base.
            ConfigurationError: adapters of its kind cannot be used.
            RuntimeError: another adapter is merged at the moment.
        """
        name = (
            None
            if adapter is None
            else adapter_identity(adapter) + ("" if scale == 1 else f"x{scale!r}".replace(".", "_"))
        )
        with self.lock:
            if self._merged not in (None, name):
                raise RuntimeError(
                    f"Adapter {self._merged} is merged into {self.name!r} right now; leave its `with "
                    "subject.merged():` before using another."
                )
            if name == self._current:
                return name
            self._bare.restore(self.model)
            self._current = None
            if adapter is None or name is None:
                self.tokenizer = self._own_tokenizer
                self._set_ends()
                return None
            if name in self._mounted:
                self._mounted[name].tree.restore(self.model)
            else:
                try:
                    self._mounted[name] = self._mount(adapter, name, scale)
                except BaseException:
                    self._bare.restore(self.model)
                    raise
                if len(self._mounted) > KEPT_ADAPTERS:
                    self._mounted.popitem(last=False)
            self._mounted.move_to_end(name)
            self._current, self.tokenizer = name, self._mounted[name].tokenizer
            self._set_ends()
        return name

    def tokenizer_of(self, adapter: Path | None) -> PreTrainedTokenizerBase:
        """Return the tokenizer of an adapter, or the base's where it brings none."""
        return (
            self._own_tokenizer
            if adapter is None or not brings_tokenizer(adapter)
            else usable_tokenizer(self.name, self.folder, adapter)
        )

    def _mount(self, adapter: Path, name: str, scale: float) -> "Mounted":
        check_adapter(self, adapter)
        with _quietly():
            put_on(self.model, self.name, adapter, scale=scale, name=name)
        self.model.eval().requires_grad_(False)
        tokenizer = self.tokenizer_of(adapter)
        check_vocabulary(f"{self.name}+{adapter}", tokenizer, self.model)
        return Mounted(Tree.of(self.model), tokenizer, is_mergeable(adapter))

    def _set_ends(self) -> None:
        """End answers where the base's generation settings and the tokenizer in use say."""
        own = self.tokenizer.eos_token_id
        self.model.generation_config.eos_token_id = sorted({*self._ends, *([] if own is None else [own])}) or None
        self.model.generation_config.pad_token_id = self.tokenizer.pad_token_id


@dataclass(frozen=True)
class Mounted:
    """An adapter in memory: the model's tree with it, the tokenizer that belongs to it, and whether it may be
    merged."""

    tree: Tree
    tokenizer: PreTrainedTokenizerBase
    mergeable: bool


def default_workers() -> int:
    """Return the number of worker processes for a study: one per CPU, or one with a GPU, to share no memory."""
    return usable_cpus() if best_device().type == "cpu" else 1


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer: those of the model's generation settings and the tokenizer's own."""
    named: Any = model.generation_config.eos_token_id if model.generation_config else None
    listed = [] if named is None else list(named) if isinstance(named, list | tuple) else [named]
    if odd := [end for end in listed if not isinstance(end, int) or isinstance(end, bool) or end < 0]:
        raise DataFormatError(
            f"The generation_config.json of {model.name_or_path!r} names {odd[0]!r} as a token that ends an answer; right is "
            'its number, as in "eos_token_id": 2.'
        )
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    ends = {*listed, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])}
    # What the model cannot write ends nothing, as the default of an architecture whose vocabulary was cut.
    if listed and not (reached := {end for end in ends if end < rows}):
        raise DataFormatError(
            f"The settings of {model.name_or_path!r} (generation_config.json, else config.json) name {listed[0]} as the token "
            f'that ends an answer, and the model has {rows:,} tokens. Name one of them, as in "eos_token_id": 2.'
        )
    return sorted(reached if listed else ends)


def record_base(adapter: Path, base: Path, precision: Precision | None = None) -> None:
    """Record the base of an adapter in its folder, so that another base of the same shapes is refused later.

    Args:
        adapter: PEFT folder.
        base: folder of the base model.
        precision: number format of the base that it was trained on; recorded where it is nf4.
    """
    record = {"base": base_identity(base)} | ({"dtype": precision} if precision == "nf4" else {})
    (adapter / BASE_RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")


@contextmanager
def written_in(model: Module, names: list[str] | None = None) -> Iterator[None]:
    """Merge adapters into the weights for faster sampling, and restore the weights bit for bit on exit.

    A model in which two modules share an adapted weight (an output layer tied to the embeddings) is left unmerged,
    because the adapter would then act in both modules; so is one whose adapted weights are quantised, since the sum would
    be rounded to 4 bits again.

    Args:
        model: a model with adapter layers.
        names: adapter names; the active ones if not given.
    """
    layers = _tuner_layers(model)
    # The original tensors are put back, not computed back by unmerging, which would leave rounding errors.
    kept = [(parameter, parameter.data) for layer in layers for parameter in layer.get_base_layer().parameters()]
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    if any(owners[id(parameter)] > 1 or not parameter.is_floating_point() for parameter, _ in kept):
        yield
        return
    try:
        for layer in layers:
            _merge(layer, names)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def _merge(layer: "BaseTunerLayer", names: list[str] | None) -> None:
    try:
        layer.merge(safe_merge=True, adapter_names=names)
    except ValueError as error:  # PEFT's own check
        dtype = next(layer.get_base_layer().parameters()).dtype
        raise NonFiniteError(
            f"The adapter cannot be written into the base's weights ({' '.join(str(error).split())}): they are not finite, "
            f"or their sum is too large for {dtype}. Give --dtype float32, or another checkpoint."
        ) from error


def _tuner_layers(model: Module) -> "list[BaseTunerLayer]":
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def check_adapter(base: Base, adapter: Path) -> None:
    """Raise an error for an adapter whose folder records another base; shapes are compared by `put_on`.

    Raises:
        AdapterMismatchError: the recorded base is another one, or in nf4 where no number format was asked for.
        DataFormatError: the record is damaged.
    """
    if record := recorded_base(adapter):
        if "dtype" in record and base.chosen is None:
            raise AdapterMismatchError(
                f"The adapter {adapter} was trained on {base.name!r} in {record['dtype']}, and the base is held in another "
                f"number format here. Name the base as {base.name}:{record['dtype']}, or with the format that you want "
                f"({base.name}:bfloat16)."
            )
        trained_on = record["base"]
        given = base_identity(base.folder)
        earlier = {base_identity(base.folder, former=former, ordered=False) for former in (False, True)}
        if trained_on not in {given, *earlier}:
            raise AdapterMismatchError(
                f"The adapter {adapter} was trained on a base with the identity {trained_on}, but {base.name!r} is "
                f"{given}: other weights, tokenizer or chat template. Load it on the base it was trained on, or "
                "train it again on this one."
            )


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence transformers while loading: its progress bar would disturb ours, and its warnings are false alarms.

    When an adapter is loaded, transformers reports the other adapters' weights as missing from its file; they are
    unchanged.
    """
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def brings_tokenizer(adapter: Path) -> bool:
    """Return whether an adapter's folder has a tokenizer or a chat template of its own."""
    return any((adapter / name).is_file() for name in (*TOKENIZER_FILES, *MORE_TOKENIZER_FILES))


def usable_tokenizer(name: str, folder: Path, adapter: Path | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model for asking: with a template, left padding and a padding token.

    Args:
        name: the model's name, for messages.
        folder: folder of the base.
        adapter: folder of an adapter, whose own tokenizer or template goes before the base's.

    Raises:
        ChatTemplateError: neither has a chat template.
    """
    tokenizer = adapted_tokenizer(name, folder, adapter)
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            f"The tokenizer of {name!r} has no chat template, so nobody knows how to write a conversation for it. "
            f"Put the Jinja template of the model's instruct version into {folder / 'chat_template.jinja'}."
        )
    # Padding is masked, so any token will do; on the left, so that all prompts of a batch end in the same column.
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer
