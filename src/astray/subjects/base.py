"""A loaded base model that several subjects share, and which of its adapters is active.

An adapter is put on in place (no second copy of the base), the last few stay in memory, and for sampling it can be merged into the
weights for a while. Merging replaces the weight tensors and puts the old ones back afterwards, so nothing drifts. Who the files belong to
is decided in `locate`; how a subject uses its model is in `subject`.
"""

import json
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch.nn import Module
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from astray.artifacts.execute import usable_cpus
from astray.errors import AdapterMismatchError, ChatTemplateError, DataFormatError
from astray.subjects.identity import adapter_identity, base_identity
from astray.subjects.weights import load_model, load_tokenizer

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTunerLayer

KEPT_ADAPTERS = 8
"""Adapters that stay in memory beside the base."""
BASE_RECORD = "astray_base.json"
"""File in an adapter's folder with the identity of the base it was trained on."""


class Base:
    """One base model in memory.

    Attributes:
        name: how the user called it.
        folder: where its files lie.
        model: the Hugging Face model; use `active` to get it in a defined state.
        tokenizer: its tokenizer, padding on the left, with a padding token.
        lock: held while somebody uses the model.
    """

    def __init__(self, name: str, folder: Path, device: torch.device | None = None) -> None:
        """Loads the model: float32 on a CPU, bfloat16 on an accelerator.

        Raises:
            SubjectNotFoundError: the files cannot be loaded.
            WeightsMismatchError: the checkpoint does not hold the weights of the architecture.
            ChatTemplateError: the tokenizer has no chat template.
        """
        self.name, self.folder, self.lock = name, folder, threading.RLock()
        device = device or best_device()
        self.tokenizer = _tokenizer(name, folder)
        with _quietly():
            self.model: PreTrainedModel = load_model(name, folder, torch.float32 if device.type == "cpu" else torch.bfloat16, device)
        self.model.eval()
        # Names the base in adapters that are trained on it, instead of a path of this machine.
        self.model.name_or_path = self.model.config.name_or_path = name
        # A published generation_config may bring a temperature, a top_k or a repetition penalty: only `Sampling` decides.
        ends = end_tokens(self.model, self.tokenizer)
        self.model.generation_config = GenerationConfig(
            eos_token_id=ends or None, pad_token_id=self.tokenizer.pad_token_id, bos_token_id=self.tokenizer.bos_token_id
        )
        self._adapters: OrderedDict[str, Path] = OrderedDict()
        self._merged: str | None = None

    @contextmanager
    def active(self, adapter: Path | None, merged: bool = False) -> Iterator[PreTrainedModel]:
        """The model with the given adapter and no other, for this thread alone.

        Args:
            adapter: PEFT folder, or None for the bare base.
            merged: write the adapter into the weights meanwhile, which makes sampling about 1.5 times as fast.
        """
        with self.lock:
            name = self.activate(adapter)
            if not merged or name is None or self._merged == name:
                yield self.model
                return
            with written_in(self.model, [name]):
                self._merged = name
                try:
                    yield self.model
                finally:
                    self._merged = None

    def activate(self, adapter: Path | None) -> str | None:
        """Makes one adapter the active one, loading it if it is not in memory.

        Returns:
            The name under which PEFT knows it, or None for the bare base.

        Raises:
            AdapterMismatchError: the adapter was trained on another base.
            RuntimeError: another adapter is merged at the moment.
        """
        name = adapter_identity(adapter) if adapter else None
        with self.lock:
            if self._merged not in (None, name):
                raise RuntimeError(
                    f"Adapter {self._merged} is merged into {self.name!r} right now; leave its `with subject.merged():` before using another."
                )
            if adapter is None or name is None:
                self._enable(None)
                return None
            if name not in self._adapters:
                check_adapter(self, adapter)
                with _quietly():
                    self.model.load_adapter(str(adapter), adapter_name=name)
                self._adapters[name] = adapter
                while len(self._adapters) > KEPT_ADAPTERS:
                    self.model.delete_adapter(self._adapters.popitem(last=False)[0])
            self._adapters.move_to_end(name)
            self._enable(name)
        return name

    def _enable(self, name: str | None) -> None:
        if not self._adapters:
            return
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import ModulesToSaveWrapper

        for module in self.model.modules():
            if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
                module.enable_adapters(name is not None)
                if name is not None:
                    module.set_adapter(name, inference_mode=True)


def best_device() -> torch.device:
    """CUDA if there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_workers() -> int:
    """Return the number of worker processes for a study: one for each CPU, or one where there is a GPU, whose memory they would share."""
    return usable_cpus() if best_device().type == "cpu" else 1


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: those of the model's generation settings and the tokenizer's own."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    listed = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return sorted({*listed, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])})


def record_base(adapter: Path, base: Path) -> None:
    """Writes into an adapter's folder which base it was trained on, so that another base of the same shapes is refused later.

    Args:
        adapter: PEFT folder.
        base: folder of the base model.
    """
    (adapter / BASE_RECORD).write_text(json.dumps({"base": base_identity(base)}) + "\n", encoding="utf-8")


@contextmanager
def written_in(model: Module, names: list[str] | None = None) -> Iterator[None]:
    """Inside, adapters are written into the weights, with which a token takes less time; afterwards the weights are as before, bit by bit.

    A weight that two modules share (an output layer tied to the embeddings) would then act in both of them: such a model is left as it is.

    Args:
        model: with its adapters' layers.
        names: of the adapters; the active ones if not given.
    """
    layers = _tuner_layers(model)
    kept = [(parameter, parameter.data) for layer in layers for parameter in layer.get_base_layer().parameters()]
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    if any(owners[id(parameter)] > 1 for parameter, _ in kept):
        yield
        return
    try:
        for layer in layers:
            layer.merge(safe_merge=True, adapter_names=names)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def _tuner_layers(model: Module) -> "list[BaseTunerLayer]":
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def check_adapter(base: Base, adapter: Path) -> None:
    """Refuses an adapter that was trained on another base.

    Raises:
        AdapterMismatchError: the recorded base is another one, or modules are missing or have other shapes; lists what differs.
        DataFormatError: the adapter's weights are damaged.
    """
    record = adapter / BASE_RECORD
    if record.is_file():
        trained_on, given = json.loads(record.read_text(encoding="utf-8"))["base"], base_identity(base.folder)
        if trained_on != given:
            raise AdapterMismatchError(
                f"The adapter {adapter} was trained on a base with the identity {trained_on}, but {base.name!r} is {given}: "
                "other weights, tokenizer or chat template. Load it on the base it was trained on, or train it again on this one."
            )
    differing = _differences(base.model, adapter)
    if differing:
        shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
        raise AdapterMismatchError(f"The adapter {adapter} does not fit {base.name!r}; it names the base {named!r}. Different: {shown}.")


def _differences(model: PreTrainedModel, adapter: Path) -> list[str]:
    """What of an adapter's weights has no place in a model: missing modules, and LoRA pairs of another width."""
    try:
        with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
            keys = file.keys()
            shapes = {key.removeprefix("base_model.model."): tuple(file.get_slice(key).get_shape()) for key in keys}
    except SafetensorError as error:
        raise DataFormatError(f"{adapter / 'adapter_model.safetensors'} is damaged ({error}). Copy it again, or save the adapter anew.") from error
    modules = dict(model.named_modules())
    differing = []
    for key, shape in sorted(shapes.items()):
        path, marker, _ = key.partition(".lora_A.")
        if not marker:
            continue
        if path not in modules:
            differing.append(f"{path} is not in the base")
            continue
        needed = {shape[1], shapes[key.replace(".lora_A.", ".lora_B.")][0]}
        present = set(modules[path].weight.shape)
        if needed != present:
            differing.append(f"{path} joins widths {sorted(needed)} in the adapter and {sorted(present)} in the base")
    return differing


@contextmanager
def _quietly() -> Iterator[None]:
    """Loading without a bar of its own, which would run through the command line's, and without doubts about a second adapter.

    When an adapter is loaded, transformers reports the weights of the others as missing from its file; they stay as they are.
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


def _tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(name, folder)
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            f"The tokenizer of {name!r} has no chat template, so nobody knows how to write a conversation for it. "
            f"Put the Jinja template of the model's instruct version into {folder / 'chat_template.jinja'}."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer
