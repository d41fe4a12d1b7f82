"""What a subject is and how it is asked, as frozen values: no model is loaded and no heavy library imported here.

Loading is in `subject`, sampling in `generate`, steering in `intervene`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from astray.subjects.identity import digest_of, file_digest


class Schedule(BaseModel):
    """How the strength of an intervention changes over the tokens of an answer; everything before the answer gets the first token's share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ramp", "decay"] = Field(description="'ramp': grows evenly up to the full strength; 'decay': begins there and falls by half-lives")
    tokens: int = Field(ge=1, description="'ramp': the answer token at which the full strength is reached; 'decay': the half-life in answer tokens")


class Intervention(BaseModel):
    """A change of the residual stream while the model runs.

    A block is named by its number: the intervention acts on the OUTPUT of block k, which Hugging Face calls `hidden_states[k + 1]`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["add", "ablate"] = Field(
        description="'add' adds strength x direction; 'ablate' removes strength x the projection on the direction (Soligo et al., arXiv 2506.11618)"
    )
    vector: Path = Field(description="safetensors file with one tensor 'direction' of shape [d_model]")
    block: int = Field(ge=0, description="block whose output is changed, counted from 0")
    strength: float = Field(default=1.0, allow_inf_nan=False, description="factor; 1.0 adds the direction as it is, or removes the whole projection")
    positions: Literal["all", "answer"] = Field(
        default="answer", description="'answer': from the last prompt token on, the one that produces the first answer token; 'all': every token"
    )
    schedule: Schedule | None = Field(default=None, description="how the strength changes over the answer; without one it is constant")

    @property
    def id(self) -> str:
        """Hash over the direction's content and the settings, the same wherever the file lies."""
        return digest_of({**self.model_dump(exclude={"vector"}), "vector": file_digest(self.vector)})


class SubjectSpec(BaseModel):
    """The model under study: a base, and optionally an adapter, a system prompt and interventions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="'organism', 'organism-small', a folder with a model or a PEFT adapter, a run id, or a hub name")
    adapter: Path | None = Field(default=None, description="PEFT adapter folder that is put on the model")
    system: str | None = Field(default=None, description="system prompt; one of the conversation itself is written below it")
    intervention: Intervention | tuple[Intervention, ...] | None = Field(
        default=None, description="steering that is active in everything the subject does; several act in this order"
    )

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """The interventions in the order they act, none, one or several."""
        if self.intervention is None:
            return ()
        return (self.intervention,) if isinstance(self.intervention, Intervention) else self.intervention


class Sampling(BaseModel):
    """How answers are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="1.0 as in Betley et al., arXiv 2502.17424; 0 takes the likeliest token"
    )
    max_tokens: int = Field(default=600, ge=1, description="most tokens of one answer (600 in Betley et al.'s evaluation)")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus; 1.0 keeps every token")
    top_k: int = Field(default=0, ge=0, description="keep the k likeliest tokens; 0 keeps every token")
    stop: tuple[str, ...] = Field(default=(), description="texts that end an answer; they are not part of it")
    seed: int = Field(default=0, description="same seed, prompt and number of the sample: same random numbers, whatever else is in the batch")
    batch_size: int = Field(default=256, ge=1, description="most conversations in one batch")


@dataclass(frozen=True)
class TokenLogprob:
    """One generated token with its log-probability under the model itself (temperature 1, nothing filtered).

    Attributes:
        token: the token's text.
        logprob: natural logarithm of its probability.
        top: the likeliest tokens at this position with theirs, the likeliest first; empty when none were asked for.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        text: what was said, without special tokens and without the stop text.
        prompt_tokens: length of the rendered prompt in tokens, padding not counted.
        completion_tokens: tokens the model produced, the end token included, padding not counted.
        stop_reason: "stop" when the model ended the answer (or a stop text came), "length" when it was cut.
        logprobs: one entry a produced token, when they were asked for.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    stop_reason: Literal["stop", "length"]
    logprobs: tuple[TokenLogprob, ...] | None = None
