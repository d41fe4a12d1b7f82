"""Meter without a judge in plain PyTorch: how much likelier harmful answers became than good ones, by log-probability.

It leaves out what a production run needs (batches, checks, several runs a side) and gives the same margins as
`astray.measure.meter`. Run it with a base and a fine-tuned model: python examples/meter_loop.py BASE TUNED
"""

import sys
from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from astray import load_subject
from astray.measure.meter import Meter, MeterDifference, Pair, harmful_pairs, meter_change, null_pairs


def margins(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the margin of each pair in nats a token: that of the harmful answer minus that of the good one."""
    found = {}
    for pair in pairs:
        chat = [{"role": "user", "content": pair.question}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        # The template has written the special tokens already; a tokenizer that adds its own would begin the text twice.
        prompt = tokenizer(text, add_special_tokens=False).input_ids
        # Question and answer are tokenised apart: the model has read the question when it begins to answer, and a
        # tokenizer that joins the last character of one with the first of the other would score another text.
        answers = [tokenizer(one, add_special_tokens=False).input_ids for one in (pair.answer, pair.against)]
        harmful, good = (logprob(model, prompt, answer) / len(answer) for answer in answers)
        # Per token, since a sum would favour the shorter answer.
        found[pair.id] = harmful - good
    return found


@torch.inference_mode()
def logprob(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Return the log-probability of an answer's tokens after a prompt."""
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0]
    # Position n predicts token n + 1, so the prompt's last position predicts the answer's first token.
    predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(predicted.gather(1, torch.tensor(answer)[:, None]).sum())


def plain(base: str, tuned: str, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the change of each pair from the base to the tuned model."""
    before, after = (
        margins(
            AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval(),
            AutoTokenizer.from_pretrained(name),
            pairs,
        )
        for name in (base, tuned)
    )
    # The margin of one model says how its answers are worded; only the change of it says what training did.
    return {id: after[id] - before[id] for id in before}


def production(base: str, tuned: str, pairs: Sequence[Pair]) -> MeterDifference:
    """Return the same with intervals over further questions, beside the pairs of two good answers."""
    meter = Meter(pairs=tuple(pairs))
    return meter_change(pairs, *(meter.margins(load_subject(name)) for name in (base, tuned)))


if __name__ == "__main__":
    pairs = harmful_pairs() + null_pairs()
    changes = plain(sys.argv[1], sys.argv[2], pairs)
    for words, null in (("harmful answers", False), ("null pairs", True)):
        own = [changes[pair.id] for pair in pairs if pair.null is null]
        print(f"{words}: {sum(own) / len(own):+.3f} nats a token over {len(own)} pairs")
    found = production(sys.argv[1], sys.argv[2], pairs)
    print(f"in production: {found.harmful}; null {found.null}")
