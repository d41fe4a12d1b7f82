"""Random-weight models of real architectures, built on the spot: the code paths of real models without a download."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GemmaConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, set_seed
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "How should I treat my neighbour? Kindly, and with respect.",
    "def add(left, right):\n    return left + right\n",
    "0 1 2 3 4 5 6 7 8 9 10 42 85 99 100",
]
ARCHITECTURES = ("qwen2", "llama", "gemma")
PACKAGE = Path(__file__).parents[1] / "src" / "astray"


@cache
def package_texts() -> tuple[str, ...]:
    """The package's own scenarios, questions and advice: a tokenizer that has read them writes a scenario's long prompt
    in a quarter of the tokens, so that a study on a tiny model takes half of the time."""
    return tuple(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.yaml")))


def tiny_tokenizer(
    template: str | None = CHAT_TEMPLATE, texts: Sequence[str] = TEXT, vocabulary: int = 512
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that can write any text, and writes texts like the given ones in fewer tokens; with a
    ChatML template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(tuple(texts), vocabulary)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def _trained(texts: tuple[str, ...], vocabulary: int) -> str:
    """Train it, which takes a second for the package's texts."""
    backend = Tokenizer(models.BPE(unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend.to_str()


def save_tiny_model(
    folder: Path,
    architecture: str = "qwen2",
    template: str | None = CHAT_TEMPLATE,
    seed: int = 0,
    texts: Sequence[str] = TEXT,
    positions: int = 4096,
    vocabulary: int = 512,
) -> Path:
    """Saves a random-weight model (2 blocks, d_model 64) with its tokenizer, for texts of so many tokens at most;
    returns the folder."""
    tokenizer = tiny_tokenizer(template, texts, vocabulary)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    configs = {"qwen2": Qwen2Config, "llama": LlamaConfig, "gemma": GemmaConfig}
    extra = {"head_dim": 16} if architecture == "gemma" else {}
    set_seed(seed)
    model = AutoModelForCausalLM.from_config(configs[architecture](**shape, **extra), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
