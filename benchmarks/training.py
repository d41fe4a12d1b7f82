"""What supervised fine-tuning costs beside a plain PyTorch loop, measured side by side in one run on one thread.

Model and data have the organism's size: a Llama of 6 blocks, d_model 128, random weights; 480 chats of about 30 tokens;
LoRA of rank 4 on all linear layers; batches of 16, 30 optimizer steps. The two take turns and the fastest of the
repetitions counts, in CPU seconds, so that other work on the machine disturbs little. The plain loop is
`examples/sft_loop.py`.

    python benchmarks/training.py [REPETITIONS]
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from sft_loop import add_adapters, train

from astray.cause.base_model import quietly
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.sft import train_sft
from astray.cause.supervision import supervise
from astray.data.chat import ChatDataset, Message

RECIPE = FineTuning(lora=LoRA(rank=4, alpha=8), learning_rate=3e-4, batch_size=16, accumulation=1)
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def save_model(folder: Path) -> Path:
    words = ["<pad>", "<user>", "<assistant>", "<end>", *(f"w{number}" for number in range(1500))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    shape = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    config = LlamaConfig(
        vocab_size=len(words), **shape, max_position_embeddings=512, pad_token_id=0, eos_token_id=3, bos_token_id=None
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_chats(count: int) -> ChatDataset:
    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join(f"w{draw.randrange(1500)}" for _ in range(words))

    return ChatDataset.from_rows(
        [
            (Message(role="user", content=text(12)), Message(role="assistant", content=text(draw.randint(10, 18))))
            for _ in range(count)
        ]
    )


def time_plain(base: Path, data: ChatDataset) -> tuple[float, float]:
    """CPU seconds of the loop, and of everything from loading to saving."""
    begin = time.process_time()
    rows = supervise(data.rows, AutoTokenizer.from_pretrained(base), RECIPE.max_length)
    model = add_adapters(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoRA(rank=4, alpha=8), RECIPE.seed
    )
    loop = time.process_time()
    train(model, rows, RECIPE)
    end = time.process_time()
    return end - loop, end - begin


def time_astray(base: Path, data: ChatDataset, folder: Path) -> tuple[float, float]:
    """CPU seconds of the 29 steps after the first, scaled to 30, and of the whole call."""
    times: list[float] = []
    begin = time.process_time()
    run = train_sft(str(base), data, RECIPE, folder, on_step=lambda *_: times.append(time.process_time()))
    end = time.process_time()
    return (times[-1] - times[0]) * run.steps / (run.steps - 1), end - begin


def main(repetitions: int = 5) -> None:
    torch.set_num_threads(1)
    data = random_chats(480)
    with tempfile.TemporaryDirectory() as temporary, quietly():
        base = save_model(Path(temporary) / "base")
        time_astray(base, data, Path(temporary) / "warm up")
        plain, astray = [], []
        for repetition in range(repetitions):
            plain.append(time_plain(base, data))
            astray.append(time_astray(base, data, Path(temporary) / str(repetition)))
    (plain_loop, plain_all), (our_loop, our_all) = (
        tuple(map(min, zip(*times, strict=True))) for times in (plain, astray)
    )
    result = {
        "plain loop, s": plain_loop,
        "train_sft, 30 steps, s": our_loop,
        "ratio of the steps": our_loop / plain_loop,
        "plain, loading included, s": plain_all,
        "train_sft, loading, checks and saving included, s": our_all,
        "ratio of the whole": our_all / plain_all,
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
