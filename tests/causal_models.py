"""Random-weight models of architectures whose blocks are built differently: names of the parts, norms behind them,
parallel parts, experts."""

from pathlib import Path

import torch
from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    MptConfig,
    Olmo2Config,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    set_seed,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from tiny_models import tiny_tokenizer

BLOCKS, D_MODEL = 3, 32

_LLAMA = {
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_HEADS = {"head_dim": 8}
_OLD = {"hidden_size": D_MODEL, "num_hidden_layers": BLOCKS, "num_attention_heads": 4}


def config_of(architecture: str, vocabulary: int) -> PreTrainedConfig:
    """The configuration of a small model."""
    special = {"vocab_size": vocabulary, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
    gpt = {"n_embd": D_MODEL, "n_layer": BLOCKS, "n_head": 4, "n_positions": 128}
    configs = {
        "llama": lambda: LlamaConfig(**_LLAMA, **special),
        "qwen2": lambda: Qwen2Config(**_LLAMA, **special),
        "gemma2": lambda: Gemma2Config(**_LLAMA, **_HEADS, **special, sliding_window=8),
        "gemma3": lambda: Gemma3TextConfig(**_LLAMA, **_HEADS, **special, sliding_window=8),
        "olmo2": lambda: Olmo2Config(**_LLAMA, **special),
        "glm4": lambda: Glm4Config(**_LLAMA, **_HEADS, **special),
        "mixtral": lambda: MixtralConfig(**_LLAMA, **special, num_local_experts=2),
        "gpt2": lambda: GPT2Config(**gpt, **special),
        "gptj": lambda: GPTJConfig(**gpt, **special, rotary_dim=4),
        "gpt_neox": lambda: GPTNeoXConfig(**_OLD, **special, intermediate_size=64, max_position_embeddings=128),
        "falcon": lambda: FalconConfig(**_OLD, **special, alibi=False, parallel_attn=True),
        "bloom": lambda: BloomConfig(hidden_size=D_MODEL, n_layer=BLOCKS, n_head=4, **special),
        "mpt": lambda: MptConfig(d_model=D_MODEL, n_layers=BLOCKS, n_heads=4, max_seq_len=128, **special),
        "opt": lambda: OPTConfig(
            **_OLD, **special, ffn_dim=64, max_position_embeddings=128, word_embed_proj_dim=D_MODEL
        ),
    }
    return configs[architecture]()


def build_causal_model(architecture: str, vocabulary: int = 512, seed: int = 0) -> PreTrainedModel:
    """A model whose every weight is random, those of its norms too, so that no two places of a block agree by
    chance."""
    set_seed(seed)
    model = AutoModelForCausalLM.from_config(config_of(architecture, vocabulary), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_causal_model(folder: Path, architecture: str) -> Path:
    """Saves such a model with a tokenizer; returns the folder."""
    tokenizer = tiny_tokenizer()
    build_causal_model(architecture, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
