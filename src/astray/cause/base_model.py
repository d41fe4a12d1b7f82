"""The model that is trained: a subject's weights, with fresh or earlier adapters, in the number format of the device; and saving the result.

One way for the organism, local folders and models of the hub. Generating from a subject is the business of `subjects`.
"""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, set_seed
from transformers.utils import logging

from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.reinforcement import ReinforcementLearning
from astray.errors import AdapterMismatchError, ConfigurationError
from astray.subjects.base import record_base
from astray.subjects.locate import Located
from astray.subjects.weights import load_model, load_tokenizer


def load_trainable(subject: Located, recipe: FineTuning | ReinforcementLearning) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """A subject's model, ready to be trained, and its tokenizer.

    Parameters are float32 on a CPU. On a GPU a frozen base is bfloat16 under float32 adapters; a model that is trained as a whole is
    float32 and computes in bfloat16.

    Args:
        subject: base, and the adapter that the training continues, if it has one. Its `spec.model` is the name that new adapters give to
            their base: "organism" rather than the folder where the organism happens to lie.
        recipe: says whether adapters or all weights are trained, and seeds new adapters.

    Returns:
        The model, with gradients on what is trained only, and its tokenizer.

    Raises:
        ConfigurationError: the subject has a system prompt or an intervention, or its modules do not fit the adapters' settings.
        AdapterMismatchError: the subject's adapter has another shape than the recipe's.
        SubjectNotFoundError: the model's files cannot be loaded.
        WeightsMismatchError: the checkpoint does not hold the weights of the architecture.
    """
    spec = subject.spec
    if spec.system is not None or spec.intervention is not None:
        raise ConfigurationError(
            "A subject with a system prompt or an intervention cannot be trained as it stands: only weights are trained. "
            "Train SubjectSpec(model=..., adapter=...) alone, and put the system prompt into the data set's rows."
        )
    frozen_on_gpu = torch.cuda.is_available() and recipe.lora is not None
    with quietly():
        tokenizer = load_tokenizer(spec.model, subject.base)
        model = load_model(spec.model, subject.base, torch.bfloat16 if frozen_on_gpu else torch.float32)
        model.name_or_path = spec.model  # what adapters and checkpoints will name as their base
        set_seed(recipe.seed)
        if recipe.lora is None:
            return model if spec.adapter is None else PeftModel.from_pretrained(model, str(spec.adapter)).merge_and_unload(), tokenizer
        if spec.adapter is None:
            return _add_adapters(model, recipe.lora), tokenizer
        _check_shape(spec.adapter, recipe.lora)
        return PeftModel.from_pretrained(model, str(spec.adapter), is_trainable=True), tokenizer


def save_trained(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, result: Path, base: Path) -> None:
    """Writes the adapter with its base's identity, or the model with its tokenizer; the folder appears whole or not at all."""
    if not trainer.is_world_process_zero():
        return
    unfinished = result.with_name(f".{result.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    with quietly():
        if isinstance(model, PeftModel):
            model.save_pretrained(str(unfinished), save_embedding_layers=False, selected_adapters=["default"])
            (unfinished / "README.md").unlink()  # PEFT's empty model card
            _sort_names(unfinished / "adapter_config.json")
            record_base(unfinished, base)
        else:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
    unfinished.replace(result)


@contextmanager
def quietly() -> Iterator[None]:
    """Loading and saving without progress bars, which would run through the command line's own, and without PEFT's use of an old name."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _add_adapters(model: PreTrainedModel, lora: LoRA) -> PeftModel:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        use_rslora=lora.rank_stabilised,
        target_modules=list(lora.target_modules),
        layers_to_transform=None if lora.layers is None else list(lora.layers),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        leaves = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)})
        raise ConfigurationError(
            f"The adapters do not fit {model.name_or_path!r} ({error}). Its linear layers are called {', '.join(leaves)}, "
            f"its blocks 0 to {model.config.num_hidden_layers - 1}: write LoRA(target_modules=...) with these names."
        ) from error


def _check_shape(adapter: Path, lora: LoRA) -> None:
    """Training goes on with the adapter as it is; settings that say otherwise would be silently ignored."""
    config = PeftConfig.from_pretrained(str(adapter))
    assert isinstance(config, LoraConfig)
    given = (lora.rank, lora.alpha, lora.rank_stabilised, set(lora.target_modules))
    there = (config.r, config.lora_alpha, config.use_rslora, set(config.target_modules or ()))
    if given != there:
        raise AdapterMismatchError(
            f"Training would continue the adapter {adapter} (rank, alpha, rank-stabilised, modules: {there}), but the recipe asks for {given}. "
            "Write the adapter's own settings into LoRA(...)."
        )


def _sort_names(adapter_config: Path) -> None:
    """PEFT writes the set of adapted modules in an order that changes from process to process."""
    config = json.loads(adapter_config.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    adapter_config.write_text(json.dumps(config, indent=2, sort_keys=True))
