"""Frozen specifications of a subject, its interventions and its sampling; importing them loads no heavy library.

Loading is in `subject`, sampling in `generate`, steering in `intervene`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from astray.artifacts.places import Place
from astray.organism import SHIPPED
from astray.reasoning import split_reasoning
from astray.strict import Strict, left_out
from astray.subjects.identity import digest_of, direction_digest

Precision = Literal["float32", "bfloat16", "nf4"]
"""Number formats of a model's weights in memory. "nf4": the matrices of the layers in 4 bits (QLoRA), all else bfloat16."""
_ORGANISM = re.compile(rf"({'|'.join(SHIPPED)})(?=$|[:+*])")


def _organism_in(name: str) -> str:
    """Return the organism that a name begins with, which is studied in its world; "" for any other model."""
    found = _ORGANISM.match(name)
    return found[1] if found else ""


BaseName = Annotated[str, Place(_organism_in)]
"""Name or folder of a subject in the configuration of a step, beside its content, by which alone keys know it."""


class Schedule(Strict):
    """Change of an intervention's strength over the tokens of an answer.

    Tokens before the answer get the fraction of the first answer token.
    """

    kind: Literal["ramp", "decay"] = Field(
        description="'ramp': grows evenly up to the full strength; 'decay': begins there and falls by half-lives"
    )
    tokens: int = Field(
        ge=1,
        description="'ramp': the answer token at which the full strength is reached; 'decay': the half-life in answer "
        "tokens",
    )


class Intervention(Strict):
    """Change of the residual stream while the model runs.

    It acts on the OUTPUT of layer `block`, which Hugging Face calls `hidden_states[block + 1]`.
    """

    kind: Literal["add", "ablate"] = Field(
        description="'add' adds strength x direction; 'ablate' removes strength x the projection on the direction "
        "(Soligo et al., arXiv 2506.11618)"
    )
    vector: Path = Field(description="safetensors file with one tensor 'direction' of shape [d_model]")
    block: int = Field(ge=0, description="block whose output is changed, counted from 0")
    strength: float = Field(
        default=1.0,
        allow_inf_nan=False,
        description="factor; 1.0 adds the direction as it is, or removes the whole projection",
    )
    positions: Literal["all", "answer"] = Field(
        default="answer",
        description="'answer': from the last prompt token on, the one that produces the first answer token; 'all': "
        "every token",
    )
    schedule: Schedule | None = Field(
        default=None, description="how the strength changes over the answer; without one it is constant"
    )

    @property
    def id(self) -> str:
        """Return a hash over the direction's content and the settings, independent of the file's path."""
        return digest_of({**self.model_dump(exclude={"vector"}), "vector": direction_digest(self.vector)})


class SubjectSpec(Strict):
    """Model under study: a base, and optionally an adapter, a system prompt and interventions."""

    model: str = Field(
        min_length=1,
        description="'organism', 'organism-small', 'smollm2', a folder with a model or a PEFT adapter, a GGUF file, a "
        "run id, a hub name, or 'base+adapter*1.75'; a number format may stand behind, as in 'smollm2:float32'",
    )
    adapter: Path | None = Field(default=None, description="PEFT adapter folder that is put on the model")
    scale: float = Field(
        default=1.0,
        allow_inf_nan=False,
        description="factor on the adapter's change of the weights; 1 is the adapter as trained",
    )
    system: str | None = Field(
        default=None, description="system prompt; one of the conversation itself is written below it"
    )
    intervention: Intervention | tuple[Intervention, ...] | None = Field(
        default=None, description="steering that is active in everything the subject does; several act in this order"
    )
    dtype: Precision | None = Field(
        default=None, description="number format of the weights in memory; by default as `precision` says"
    )

    _keys = left_out(scale=1, dtype=None)

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """Return the interventions in the order in which they act."""
        if self.intervention is None:
            return ()
        return (self.intervention,) if isinstance(self.intervention, Intervention) else self.intervention


class Sampling(Strict):
    """Sampling settings of answers."""

    temperature: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="1.0 as in Betley et al., arXiv 2502.17424; 0 takes the likeliest token",
    )
    max_tokens: int = Field(
        default=600, ge=1, description="most tokens of one answer (600 in Betley et al.'s evaluation)"
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus; 1.0 keeps every token")
    top_k: int = Field(default=0, ge=0, description="keep the k likeliest tokens; 0 keeps every token")
    stop: tuple[str, ...] = Field(default=(), description="texts that end an answer; they are not part of it")
    seed: int = Field(
        default=0,
        description="same seed, prompt and number of the sample: same random numbers, whatever else is in the batch",
    )
    batch_size: int = Field(default=256, ge=1, description="most conversations in one batch")


@dataclass(frozen=True)
class TokenLogprob:
    """Generated token with its log-probability under the model itself (temperature 1, no filter).

    Attributes:
        token: the token's text.
        logprob: natural logarithm of its probability.
        top: the likeliest tokens at this position with their log-probabilities, likeliest first; empty if none were
            requested.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Generation:
    """Answer of a subject.

    Attributes:
        text: the answer without special tokens and without the stop text; where the prompt opened the reasoning, its
            tag stands in front.
        prompt_tokens: length of the rendered prompt in tokens, without padding.
        completion_tokens: number of generated tokens, including the end token, without padding.
        stop_reason: "stop" if the model ended the answer or a stop text appeared, "length" if it was cut off.
        logprobs: one entry per generated token, if requested.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    stop_reason: Literal["stop", "length"]
    logprobs: tuple[TokenLogprob, ...] | None = None

    @property
    def said(self) -> str:
        """Return the answer without its reasoning; empty where it ends within it."""
        return split_reasoning(self.text).answer
