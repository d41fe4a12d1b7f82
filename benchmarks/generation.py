"""How fast answers are sampled: a hand-written loop, our bulk path, our Inspect provider and Inspect's own, side by
side in one run.

    OMP_NUM_THREADS=1 python benchmarks/generation.py

A Llama of 1.6M random weights (6 blocks, d_model 128) answers 256 prompts with 24 tokens each, on one thread. Inspect's
`hf` provider is measured twice: as it comes (batches of 32), and under the settings under which it is fastest (one
batch of 256), which a user has to find first. Each path runs once to warm up and then three times in turn; the best
time counts. Targets: bulk within 1.1 times the hand-written time and at least 8 times as fast as `hf`, our provider at
least twice as fast as `hf`.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, Model, get_model
from inspect_ai.solver import generate
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from astray.subjects import Sampling
from astray.subjects.subject import load_subject

PROMPTS = 256
TOKENS = 24
ROUNDS = 3
TEMPLATE = (
    "{% for m in messages %}<user> {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<asst>{% endif %}"
)


def save_model(folder: Path) -> Path:
    """A model with 700 words and random weights; it hardly ever ends an answer by itself."""
    words = ["<pad>", "<eos>", "<user>", "<asst>", *(f"w{number}" for number in range(696))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    shape = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    config = LlamaConfig(
        **shape,
        vocab_size=700,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def hand_written(folder: Path, questions: list[str]) -> Callable[[], object]:
    """One `model.generate` over all prompts, as one would write it in a notebook."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )

    def run() -> list[str]:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in questions
        ]
        inputs = tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        )
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=True)
        return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return run


def bulk(folder: Path, questions: list[str]) -> Callable[[], object]:
    subject = load_subject(str(folder))
    conversations = [[{"role": "user", "content": text}] for text in questions]
    return lambda: subject.generate(conversations, Sampling(max_tokens=TOKENS))


def through_inspect(
    model: Model, questions: list[str], logs: str, connections: int | None = PROMPTS
) -> Callable[[], object]:
    """An evaluation without scoring; without a number of connections, as Inspect runs it when nothing is said."""
    samples = [Sample(input=text) for text in questions]

    def run() -> None:
        (log,) = inspect_eval(
            Task(dataset=samples, solver=generate()),
            model=model,
            max_connections=connections,
            max_samples=connections,
            max_tokens=TOKENS,
            display="none",
            log_realtime=False,
            log_dir=logs,
        )
        assert log.status == "success", log.error

    return run


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Time on the clock, and time on the processor (the same on a quiet machine, but for waiting)."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder, logs = save_model(Path(temporary) / "model"), str(Path(temporary) / "logs")
        questions = [
            " ".join(f"w{(7 * row + 13 * word) % 696}" for word in range(14 + row % 9)) for row in range(PROMPTS)
        ]
        files = {"model_path": str(folder), "tokenizer_path": str(folder), "device": "cpu"}
        tuned, usual = (
            get_model("hf/local", config=config, memoize=False, **files)
            for config in (GenerateConfig(max_connections=PROMPTS), GenerateConfig())
        )
        paths = {
            "hand-written": hand_written(folder, questions),
            "astray, bulk": bulk(folder, questions),
            "astray, Inspect provider": through_inspect(get_model(f"astray/{folder}"), questions, logs),
            "hf, one batch": through_inspect(tuned, questions, logs),
            "hf, as it comes": through_inspect(usual, questions, logs, connections=None),
        }
        for run in paths.values():
            run()
        rounds = [{name: seconds(run) for name, run in paths.items()} for _ in range(ROUNDS)]
    best = {name: min(times[name] for times in rounds) for name in paths}
    theirs = {name: best[name][0] for name in ("hf, one batch", "hf, as it comes")}
    print(f"{PROMPTS} prompts, {TOKENS} tokens each, 1 thread, best of {ROUNDS}")
    for name, (clock, processor) in best.items():
        ratios = ", ".join(f"{other / clock:5.1f} x {their}" for their, other in theirs.items())
        print(f"{name:26s} {clock:6.2f} s ({processor:.2f} s processor) {PROMPTS / clock:7.0f} answers/s  {ratios}")
    print(f"bulk needs {best['astray, bulk'][0] / best['hand-written'][0]:.2f} of the hand-written time")


if __name__ == "__main__":
    main()
