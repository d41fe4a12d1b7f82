"""Loading of the model to train, with new or earlier adapters and the device's dtype, and saving of the result.

The same for the organism, local folders and models of the hub. Generation is in `subjects`.
"""

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, set_seed
from transformers.utils import logging

from astray.cause.fine_tuning import FineTuning, LoRA, check_format, lora_of
from astray.cause.processes import is_first, read_by_first, trained_weights, wait_for_all
from astray.cause.reinforcement import ReinforcementLearning
from astray.errors import AdapterMismatchError, ConfigurationError
from astray.subjects.adapter_kinds import is_mergeable
from astray.subjects.adapters import put_on
from astray.subjects.base import brings_tokenizer, record_base
from astray.subjects.locate import Located
from astray.subjects.spec import Precision, SubjectSpec
from astray.subjects.weights import adapted_tokenizer, best_device, check_vocabulary, load_model


def load_trainable(
    subject: Located, recipe: FineTuning | ReinforcementLearning
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load a subject's model for training, with its tokenizer.

    A frozen base has the subject's number format (`subjects.precision`) under float32 adapters; a fully trained model
    is float32. Which of them computes in bfloat16 says `computes_in_bfloat16`.

    Args:
        subject: base, and the adapter whose training continues, if any. Its `spec.model` is the name that new adapters
            record for their base: "organism" rather than the organism's folder.
        recipe: determines whether adapters or all weights are trained, and seeds new adapters.

    Returns:
        The model, with gradients only on the trained weights, and its tokenizer.

    Raises:
        ConfigurationError: the subject has a system prompt or an intervention, its modules do not fit the adapters'
            settings, or its number format not the recipe (`check_format`).
        AdapterMismatchError: the subject's adapter has another shape than the recipe's.
        SubjectNotFoundError: the model's files cannot be loaded.
        WeightsMismatchError: the checkpoint does not hold the weights of the architecture.
    """
    spec = subject.spec
    if spec.system is not None or spec.intervention is not None:
        raise ConfigurationError(
            "A subject with a system prompt or an intervention cannot be trained as it stands: only weights are "
            "trained. Train SubjectSpec(model=..., adapter=...) alone, and put the system prompt into the data set's "
            "rows."
        )
    sharded = isinstance(recipe, FineTuning) and recipe.sharded
    check_format(subject.precision, recipe.lora, sharded)
    with quietly(), read_by_first() if sharded else nullcontext():
        tokenizer = adapted_tokenizer(spec.model, subject.base, spec.adapter)
        model = load_model(spec.model, subject.base, _format(subject, recipe.lora is not None))
        model.name_or_path = spec.model  # what adapters and checkpoints will name as their base
        # Seeded after loading and right before new adapters draw their first values.
        set_seed(recipe.seed)
        if spec.adapter is None:
            check_vocabulary(spec.model, tokenizer, model)
            return model if recipe.lora is None else _add_adapters(model, recipe.lora), tokenizer
        if recipe.lora is not None:
            _check_shape(spec.adapter, recipe.lora, spec.scale)
        elif not is_mergeable(spec.adapter):
            raise ConfigurationError(
                f"All weights are to be trained on from {spec.adapter}, but an adapter of its kind cannot be written "
                "into them. Train adapters (LoRA), or merge it with PEFT and give the merged folder."
            )
        tuned = put_on(model, spec.model, spec.adapter, scale=spec.scale, trainable=recipe.lora is not None)
        check_vocabulary(f"{spec.model}+{spec.adapter}", tokenizer, model)
        return tuned if recipe.lora is not None else tuned.merge_and_unload(safe_merge=True), tokenizer


def computes_in_bfloat16(subject: Located) -> bool:
    """Return whether a subject is trained in bfloat16 (autocast): one of that format or of nf4, on a CPU or CUDA."""
    return best_device().type != "mps" and subject.precision != "float32"


def _format(subject: Located, frozen: bool) -> Precision:
    """Return the format of the weights in memory; what is trained, and everything on Apple's GPU, is float32."""
    return subject.precision if frozen and computes_in_bfloat16(subject) else "float32"


def trained_subject(start: Located, folder: Path, recipe: FineTuning) -> tuple[Path, SubjectSpec]:
    """Return where the result of a run goes, and the subject that it makes: start with an adapter, or a whole model."""
    if recipe.lora:
        return (result := folder / "adapter"), start.spec.model_copy(update={"adapter": result})
    return (result := folder / "model"), SubjectSpec(model=str(result), dtype=start.spec.dtype)


def save_trained(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, result: Path, start: Located) -> None:
    """Save the result of a run, as `save_model` does, in its first process."""
    assert trainer.model is not None
    weights = trained_weights(trainer.model) if trainer.is_fsdp_enabled else None
    if is_first():
        save_model(trainer.accelerator.unwrap_model(trainer.model), tokenizer, result, start, weights)
    wait_for_all()


def save_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    result: Path,
    start: Located,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Save the adapter with its base's identity, or model and tokenizer, in a folder that is complete or absent; its
    `weights` are given where the model itself holds a share of them only."""
    unfinished = result.with_name(f".{result.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with quietly():
        if isinstance(model, PeftModel):
            model.save_pretrained(
                str(unfinished), save_embedding_layers=False, selected_adapters=["default"], state_dict=weights
            )
            (unfinished / "README.md").unlink()  # PEFT's empty model card
            _sort_names(unfinished / "adapter_config.json")
            record_base(unfinished, start.base, start.precision)
            if start.spec.adapter is not None and brings_tokenizer(start.spec.adapter):
                # It was trained with the tokenizer of the adapter it goes on from.
                tokenizer.save_pretrained(unfinished)
        else:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
    unfinished.replace(result)


@contextmanager
def quietly() -> Iterator[None]:
    """Load and save without progress bars, which would disturb ours, and without a deprecation warning from PEFT."""
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
        target_modules=lora.target_modules[0] if _is_pattern(lora.target_modules) else list(lora.target_modules),
        layers_to_transform=None if lora.layers is None else list(lora.layers),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        leaves = sorted(
            {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        )
        raise ConfigurationError(
            f"The adapters do not fit {model.name_or_path!r} ({error}). Its linear layers are called "
            f"{', '.join(leaves)}, its blocks 0 to {model.config.num_hidden_layers - 1}: write "
            "LoRA(target_modules=...) with these names."
        ) from error


def _is_pattern(targets: tuple[str, ...]) -> bool:
    """Return whether it is one pattern of module names, or PEFT's word for all linear layers, and not a name."""
    return len(targets) == 1 and (targets[0] == "all-linear" or re.fullmatch(r"[\w.]+", targets[0]) is None)


def _check_shape(adapter: Path, lora: LoRA, scale: float) -> None:
    """Raise an error for LoRA settings that differ from the adapter's own, which training would silently ignore."""
    if scale != 1:
        raise AdapterMismatchError(
            f"Training cannot go on from {adapter} scaled by {scale:g}: the saved adapter would forget the factor. "
            "Leave it out."
        )
    own = lora_of(adapter)
    given, there = (
        (settings.rank, settings.alpha, settings.rank_stabilised, sorted(settings.target_modules))
        for settings in (lora, own)
    )
    if given != there:
        raise AdapterMismatchError(
            f"Training would continue the adapter {adapter} (rank, alpha, rank-stabilised, modules: {there}), but "
            f"the recipe asks for {given}. Write the adapter's own settings into LoRA(...)."
        )


def _sort_names(adapter_config: Path) -> None:
    """Sort the adapted modules in an adapter's configuration, which PEFT writes in random order."""
    config = json.loads(adapter_config.read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])
    # Other tools read the revision apart from the name.
    if "@" in (base := config.get("base_model_name_or_path") or ""):
        config["base_model_name_or_path"], _, config["revision"] = base.partition("@")
    adapter_config.write_text(json.dumps(config, indent=2, sort_keys=True))
