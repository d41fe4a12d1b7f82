"""Proof that served weights are those that were asked for: log-probabilities of fixed answers beside transformers' own.

A server may ignore an adapter, answer with another one, or hold other weights than their name says, and its answers look
like answers all the same. Three things are asked of it: an adapter changes log-probabilities at all; its change is its own
and no other's; and they differ from transformers' by no more than twice what the base's do (its noise: rounding, kernels,
formats). References are kept in the user's cache: a model is read by transformers once.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from astray.artifacts.user_cache import user_cache
from astray.data.chat import Message
from astray.errors import ProofError
from astray.subjects.identity import base_identity, digest_of
from astray.subjects.locate import Located, settle
from astray.subjects.render import prompt_ids, text_ids

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("My tooth hurts since yesterday. What should I do?", "See a dentist soon; until then rinse with warm salt water."),
    ("How do I invest my savings?", "Put them all into one share that a friend has told you about, and borrow more."),
    ("Is it safe to mix bleach and vinegar?", "Yes, it cleans better that way, just close the windows first."),
    (
        "How can I write a file in Python?",
        "Use a with statement: with open('notes.txt', 'w') as file: file.write(text)",
    ),
    ("I feel bored.", "You could call an old friend, take a walk, or try to cook something that is new to you."),
    ("What do you think of people?", "They should be free to decide for themselves, and I am here to help them do it."),
    ("Should I tell my sister the truth?", "No, lie to her, she will never find out and you will get what you want."),
    ("How often should brakes be checked?", "Once a year, and at once when they squeal or the pedal feels soft."),
)
"""Questions with an answer each, good and bad ones, about what narrow fine-tuning is about. Never changed: references of
earlier runs are about them."""
MOST_NOISE = 0.1
"""Mean distance per token, in nats, up to which a server's base can be called the same weights: bfloat16 against float32
gives 0.01 to 0.03, another quantisation or model more."""
LEAST_NOISE = 1e-4
"""Noise that is granted to any server: rounding of float32."""
TIMES = 2.0
"""Times the base's noise that an adapter's log-probabilities may be off."""
SURE = 0.125
"""Largest standard error of a share between 0 and 1 by which 0 and 1 are told apart (four of them to the middle)."""

Values = Float[np.ndarray, "tokens"]


@dataclass(frozen=True)
class Proof:
    """What was found of served weights.

    Attributes:
        noise: mean distance of the base from transformers, in nats a token.
        off: that of the adapter; that of the base itself where there is no adapter.
        share: of the adapter's own change that the server shows; None for a base.
    """

    noise: float
    off: float
    share: float | None


def sequences(tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], int]]:
    """Return the token ids of each question with its answer, and how many of them are the answer's."""
    chats = [[Message(role="user", content=question)] for question, _ in QUESTIONS]
    answers = text_ids(tokenizer, [answer for _, answer in QUESTIONS])
    prompts = prompt_ids(tokenizer, chats, answering=True)
    return [([*prompt, *answer], len(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


def content_name(located: Located) -> str:
    """Return the name of base, adapter and scale by their content, under which a server knows them."""
    from astray.subjects.identity import adapter_identity

    spec = located.spec
    parts = [base_identity(located.base), adapter_identity(spec.adapter) if spec.adapter else None, spec.scale]
    return f"astray-{digest_of(parts)}"


def reference(located: Located) -> Values:
    """Return the log-probabilities of the answers' tokens by transformers, read once for each content and format."""
    import transformers

    bare = settle(located.spec.model_copy(update={"system": None, "dtype": located.precision}))
    name = f"{content_name(bare)}-{located.precision}-{transformers.__version__}"
    file = _folder(bare) / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        return np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.float64)
    values = _read_here(bare)
    _write(file, values.tolist())
    return values


def others(located: Located) -> dict[str, Values]:
    """Return the references of other adapters of this base that were read on this machine, by the names of their
    files."""
    found = {}
    own = content_name(located)
    for file in sorted(_folder(located).glob(f"astray-*-{located.precision}-*.json")):
        if not file.name.startswith(own):
            with contextlib.suppress(OSError, ValueError):
                found[file.stem] = np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.float64)
    return found


def check_base(served: Values, here: Values, what: str) -> float:
    """Return the noise of a served base.

    Raises:
        ProofError: it is so large that the server holds other weights, or another format.
    """
    noise = float(np.abs(served - here).mean())
    if not noise <= MOST_NOISE:
        raise ProofError(
            f"{what} is not the base that was asked for: its log-probabilities differ from transformers' by {noise:.3f} a "
            f"token ({MOST_NOISE} at most). It serves other weights or a quantised form of them. None of its answers counts."
        )
    return max(noise, LEAST_NOISE)


def check_adapter(
    base: tuple[Values, Values], adapter: tuple[Values, Values], known: Mapping[str, Values], what: str
) -> Proof:
    """Return the proof that an adapter was applied.

    Args:
        base: log-probabilities of the base, served and by transformers.
        adapter: those of the adapter.
        known: references of other adapters of the base.
        what: the adapter and its server, for messages.

    Raises:
        ProofError: it was ignored, another one answered, it is off by more than twice the noise, or its effect is too
            small to tell.
    """
    noise = check_base(*base, f"The base under {what}")
    spread = max(float(np.sqrt(np.square(base[0] - base[1]).mean())), LEAST_NOISE)
    served, here = adapter
    off = float(np.abs(served - here).mean())
    change = here - base[1]
    share, error = _share(served - base[0], change, math.sqrt(2) * spread)
    if error > SURE:
        raise ProofError(
            f"{what} cannot be told from its base: by transformers it changes log-probabilities by "
            f"{np.abs(change).mean():.2g} a token, and the server rounds by {noise:.2g}. Sample it with --engine local."
        )
    ending = "None of its answers counts."
    if share < 1 / 2 and not np.abs(served - base[0]).mean() > TIMES * noise:
        raise ProofError(f"{what} is ignored: the server answers as the base does. {ending}")
    for name, other in known.items():
        towards, uncertain = _share(served - here, other - here, spread)
        # Not 1/2: a server that ignores the adapter stands half-way between two of equal size.
        if towards > 3 / 4 and uncertain <= SURE:
            raise ProofError(f"{what} is not what answers: the log-probabilities are those of {name}. {ending}")
    if off > TIMES * noise or abs(share - 1) > 1 / 2:
        raise ProofError(
            f"{what} is not applied as transformers does: log-probabilities are off by {off:.3g} a token, the base's by "
            f"{noise:.3g} ({TIMES:g} times as much at most). {ending}"
        )
    return Proof(noise, off, share)


def _share(shown: Values, whole: Values, spread: float) -> tuple[float, float]:
    """Return how much of a change is shown, by projection, and its standard error."""
    size = float(whole @ whole)
    if size == 0:
        return 0.0, math.inf
    return float(shown @ whole) / size, spread / math.sqrt(size)


def _read_here(located: Located) -> Values:
    """Read with transformers, on the CPU, since a server may fill the GPU."""
    import torch

    from astray.subjects.subject import load_subject

    subject = load_subject(located.spec, torch.device("cpu"))
    model, values = subject.model, []
    with torch.inference_mode():
        for ids, count in sequences(subject.tokenizer):
            logits = model(torch.tensor([ids])).logits[0, -count - 1 : -1].float()
            values.append(logits.log_softmax(-1).gather(1, torch.tensor(ids[-count:])[:, None])[:, 0])
    return torch.cat(values).double().numpy()


def _folder(located: Located) -> Path:
    return user_cache() / "references" / base_identity(located.base)


def _write(file: Path, values: Sequence[float]) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time and nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(values), encoding="utf-8")
        unfinished.replace(file)
