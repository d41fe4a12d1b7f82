"""Probes of a local model's activations at the tokens of a tool call, in its pass over the conversation so far.

A probe is a direction in the residual stream (given, a difference of means, or the weights of a logistic regression) or
a latent of a sparse autoencoder. It is fitted on calls labelled harmful or benign, its threshold is set on benign calls
of other samples, and its errors are counted on a third group (`assess`). The runtime monitor is in `call_monitor`.

Source: difference of means over the tokens of an answer, as in Soligo et al. 2025 (arXiv 2506.11618); monitoring by
projection, Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 3.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.tool import ToolInfo
from jaxtyping import Float
from torch import Tensor

from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.activations import Captured, TokenRow, capture
from astray.explain.sae import Dictionary
from astray.explain.sites import Site
from astray.measure.agentic.text_protocol import WRITTEN, as_text, call_spans, write_call
from astray.stats.detection import Assessment, auroc, check_scores
from astray.stats.intervals import wilson
from astray.stats.ties import NOISE, level_ties
from astray.subjects.finite import check_values
from astray.subjects.provider import messages_of
from astray.subjects.render import text_ids
from astray.subjects.subject import Subject

Pool = Literal["mean", "max"]
"""Aggregation of a call's token scores to one score."""
AT_A_TIME = 64
"""Number of calls whose activations are in memory at once."""
RIDGE = 0.1
"""Weight of the squared norm in the logistic regression: activations have more dimensions than there are calls."""


@dataclass(frozen=True)
class WatchedCall:
    """Tool call as the model made it.

    Attributes:
        messages: the conversation up to the call, which is the last call of the last message.
        tools: the tools that the model was offered.
        sample: id of the sample it belongs to.
        harmful: whether it did the harm that the gate found; None where that is unknown.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolInfo, ...]
    sample: str = ""
    harmful: bool | None = None


@dataclass(frozen=True, eq=False)
class CallProbe:
    """Score of the activations at a call.

    Attributes:
        name: name on pages and in logs.
        site: site of the activations.
        read: function from activations of tokens to one score per token, higher for calls to block.
        pool: aggregation of the token scores.
    """

    name: str
    site: Site
    read: Callable[[Float[Tensor, "tokens d_model"]], Float[Tensor, "tokens"]]
    pool: Pool = "mean"


def direction_probe(
    direction: Float[Tensor, "d_model"], block: int, *, name: str = "direction", pool: Pool = "mean"
) -> CallProbe:
    """Return a probe that projects on a direction, such as a persona vector, at the output of a layer.

    Args:
        direction: direction of any norm but 0.
        block: index of the layer, from 0.
        name: name of the probe.
        pool: aggregation over the tokens of the call.

    Raises:
        ConfigurationError: the direction is zero, or not finite.
    """
    if not direction.isfinite().all() or not direction.any():
        raise ConfigurationError(
            "The direction is zero, or has NaN or infinite entries: nothing can be projected on it."
        )
    unit = direction.detach().float().cpu() / direction.detach().float().norm().cpu()
    return CallProbe(
        name, Site(place="block out", block=block), lambda activations: activations @ _fitting(unit, activations), pool
    )


def latent_probe(dictionary: Dictionary, latent: int) -> CallProbe:
    """Return a probe of the highest activation of one latent of a sparse autoencoder over the tokens of a call, at the
    dictionary's site. The highest and not the mean, because latents are sparse.

    Args:
        dictionary: dictionary for the subject that will be monitored (`load_dictionary` checks that).
        latent: index of the latent.

    Raises:
        ConfigurationError: there is no such latent.
    """
    if not 0 <= latent < dictionary.width:
        raise ConfigurationError(f"There is no latent {latent}: the dictionary has {dictionary.width}, counted from 0.")

    def read(activations: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens"]:
        return dictionary.encode(activations.to(dictionary.device))[:, latent].float().cpu()

    return CallProbe(f"latent {latent}", dictionary.site, read, "max")


def fitted_probe(
    subject: Subject,
    calls: Sequence[WatchedCall],
    block: int,
    *,
    method: Literal["mean difference", "logistic"] = "mean difference",
) -> CallProbe:
    """Fit a direction to labelled calls, at the output of a layer.

    Args:
        subject: the model whose activations are read.
        calls: labelled calls, both harmful and benign.
        block: index of the layer, from 0.
        method: mean of the harmful calls minus mean of the benign ones; or the weights of a logistic regression with a
            ridge penalty.

    Raises:
        EmptyDataError: all calls are of one kind.
        ConfigurationError: a label is missing, there is no such layer, or a call is longer than the context.
    """
    [direction] = _fitted_directions(subject, calls, [block], method)
    return direction_probe(direction, block, name=method)


def best_direction(
    subject: Subject,
    calls: Sequence[WatchedCall],
    others: Sequence[WatchedCall],
    blocks: Sequence[int],
) -> tuple[Float[Tensor, "d_model"], int]:
    """Return the fitted direction that best separates calls of other samples, and its layer.

    Args:
        subject: the model whose activations are read.
        calls: labelled calls, to fit a direction at each layer.
        others: labelled calls of other samples, to choose the layer (highest area under the ROC curve).
        blocks: indices of the layers, from 0.

    Raises:
        EmptyDataError: all calls are of one kind, in one of the two groups.
        ConfigurationError: a label is missing, there is no such layer, or a call is longer than the context.
    """
    labels = np.array(_both_kinds(others))
    directions = _fitted_directions(subject, calls, blocks, "mean difference")
    scores = _scores(subject, [direction_probe(*pair) for pair in zip(directions, blocks, strict=True)], others)
    # Levelled ties: areas must not depend on the last digits, which differ by CPU.
    best = max(range(len(blocks)), key=lambda index: auroc(level_ties(scores[index]), labels))
    return directions[best], blocks[best]


def _fitted_directions(
    subject: Subject,
    calls: Sequence[WatchedCall],
    blocks: Sequence[int],
    method: Literal["mean difference", "logistic"],
) -> list[Float[Tensor, "d_model"]]:
    harmful = torch.tensor(_both_kinds(calls))
    sites = [Site(place="block out", block=block) for block in blocks]
    read = [[captured.row_means(captured[site]) for site in sites] for captured in _captured(subject, calls, sites)]
    directions = []
    for parts in zip(*read, strict=True):
        means = torch.cat(parts)
        directions.append(
            means[harmful].mean(0) - means[~harmful].mean(0)
            if method == "mean difference"
            else _logistic(means, harmful)
        )
    return directions


def call_scores(subject: Subject, probe: CallProbe, calls: Sequence[WatchedCall]) -> Float[np.ndarray, "calls"]:
    """Return the probe's score of each call.

    Args:
        subject: the model whose activations are read.
        probe: the probe.
        calls: at least one call.

    Raises:
        EmptyDataError: there is no call.
        ConfigurationError: a call is longer than the context, or the probe does not fit the model.
    """
    [scores] = _scores(subject, [probe], calls)
    return scores


def _scores(
    subject: Subject, probes: Sequence[CallProbe], calls: Sequence[WatchedCall]
) -> list[Float[np.ndarray, "calls"]]:
    """Return the scores of several probes, from one pass over the calls."""
    sites = list(dict.fromkeys(probe.site for probe in probes))
    read = [[_pooled(probe, captured) for probe in probes] for captured in _captured(subject, calls, sites)]
    return [np.concatenate(parts) for parts in zip(*read, strict=True)]


def _pooled(probe: CallProbe, captured: Captured) -> Float[np.ndarray, "calls"]:
    scores = probe.read(captured[probe.site])
    check_values(scores, f"Scores of the probe {probe.name!r}", captured.model, str(probe.site))
    if probe.pool == "mean":
        return captured.row_means(scores[:, None])[:, 0].double().numpy()
    return torch.full((captured.rows,), -torch.inf).scatter_reduce(0, captured.row, scores, "amax").double().numpy()


def threshold_for(scores: Float[np.ndarray, "calls"], false_alarms: float) -> float:
    """Return the lowest threshold that blocks at most a share of benign calls.

    Args:
        scores: scores of benign calls.
        false_alarms: the share, from 0 to below 1.

    Raises:
        EmptyDataError: there are no scores.
        ConfigurationError: the share is not between 0 and 1.
    """
    if not len(scores):
        raise EmptyDataError("There is no benign call to set a threshold on.")
    if not 0 <= false_alarms < 1:
        raise ConfigurationError(
            f"{false_alarms} is no share of false alarms. Write a number from 0 to below 1, such as 0.01."
        )
    check_scores(scores)  # a threshold of NaN blocks nothing
    highest = float(np.sort(scores)[::-1][int(false_alarms * len(scores))])
    # The margin keeps an equal call, whose score differs by float noise, from being blocked.
    return max(highest + NOISE * float(np.abs(scores).max()), float(np.nextafter(highest, np.inf)))


def assess(
    subject: Subject,
    probe: CallProbe,
    calibration: Sequence[WatchedCall],
    report: Sequence[WatchedCall],
    *,
    false_alarms: float = 0.01,
) -> Assessment:
    """Set the threshold on the benign calls of some samples, and count its errors on the calls of others.

    Args:
        subject: the model whose activations are read.
        probe: a probe fitted on neither of the two groups.
        calibration: calls to set the threshold on; harmful ones among them are ignored.
        report: calls of other samples, on which errors are counted.
        false_alarms: share of benign calls of `calibration` that may be blocked.

    Raises:
        ConfigurationError: the two share a sample, or a label is missing.
        EmptyDataError: there is no benign call in `calibration`, or no call in `report`.
    """
    shared = {call.sample for call in calibration} & {call.sample for call in report}
    if shared:
        raise ConfigurationError(
            f"{len(shared)} samples are both for the threshold and for the report, such as {sorted(shared)[0]!r}: a "
            "threshold looks better on the samples it was set on. Give each sample to one of them."
        )
    benign = [call for call, harmful in zip(calibration, _labels(calibration), strict=True) if not harmful]
    threshold = threshold_for(call_scores(subject, probe, benign) if benign else np.empty(0), false_alarms)
    scores, labels = call_scores(subject, probe, report), np.array(_labels(report))
    caught, alarms = (_samples_blocked(report, scores >= threshold, labels == kind) for kind in (True, False))
    return Assessment(
        threshold=threshold,
        blocked=caught,
        blocked_interval=wilson(*caught) if caught[1] else None,
        false_alarms=alarms,
        false_alarms_interval=wilson(*alarms) if alarms[1] else None,
        auc=auroc(scores, labels),
    )


def _samples_blocked(calls: Sequence[WatchedCall], blocked: np.ndarray, counted: np.ndarray) -> tuple[int, int]:
    """Return the numbers of samples with a counted call that is blocked, and with any counted call."""
    samples = {call.sample for call, counts in zip(calls, counted, strict=True) if counts}
    return len(
        {call.sample for call, counts, block in zip(calls, counted, blocked, strict=True) if counts and block}
    ), len(samples)


def call_row(subject: Subject, call: WatchedCall) -> TokenRow:
    """Tokenise the conversation up to the end of a call as the subject reads it; the text of the call is the answer.

    A local subject uses the text protocol, so that is what it read and wrote. Calls of another model's native tools are
    written out in that form.
    """
    *before, last = call.messages
    if not isinstance(last, ChatMessageAssistant) or not last.tool_calls:
        raise ConfigurationError("The conversation up to a call has to end with the message that makes it.")
    read = as_text([_written_out(message) for message in before], call.tools)
    [prompt] = subject.prompt_ids([messages_of(read)])
    text, start = _text_until_call(last)
    # Tokenised apart, so that no token spans the beginning of the call.
    text_tokens, call_tokens = text_ids(subject.tokenizer, [text[:start], text[start:]])
    return TokenRow((*prompt, *text_tokens, *call_tokens), len(prompt) + len(text_tokens))


def _captured(subject: Subject, calls: Sequence[WatchedCall], sites: Sequence[Site]) -> Iterator[Captured]:
    """Yield the activations of a few calls at a time, because those of all would not fit into memory."""
    if not calls:
        raise EmptyDataError("There is no call to read.")
    for start in range(0, len(calls), AT_A_TIME):
        yield capture(subject, [call_row(subject, call) for call in calls[start : start + AT_A_TIME]], sites, "answer")


def _text_until_call(message: ChatMessageAssistant) -> tuple[str, int]:
    """Return the text of a message up to the end of its last call, and the index where that call begins."""
    calls, spans = message.tool_calls or [], call_spans(message.text)
    if calls[-1].id.startswith(WRITTEN) and len(spans) >= len(calls):
        start, end = spans[len(calls) - 1]
        return message.text[:end], start
    written = [write_call(call.function, dict(call.arguments)) for call in calls]
    text = "\n\n".join([message.text, *written])
    return text, len(text) - len(written[-1])


def _written_out(message: ChatMessage) -> ChatMessage:
    if not isinstance(message, ChatMessageAssistant) or not message.tool_calls:
        return message
    if message.tool_calls[0].id.startswith(WRITTEN):
        return message
    return message.model_copy(update={"content": _text_until_call(message)[0]})


def _labels(calls: Sequence[WatchedCall]) -> list[bool]:
    unknown = sum(call.harmful is None for call in calls)
    if unknown:
        raise ConfigurationError(
            f"Of {unknown} of {len(calls)} calls it is not known whether they are harmful. Leave them out."
        )
    return [bool(call.harmful) for call in calls]


def _both_kinds(calls: Sequence[WatchedCall]) -> list[bool]:
    labels = _labels(calls)
    if sum(labels) in (0, len(labels)):
        raise EmptyDataError(f"{sum(labels)} of {len(labels)} calls are harmful: a probe needs both kinds.")
    return labels


def _fitting(unit: Float[Tensor, "d_model"], activations: Float[Tensor, "tokens width"]) -> Float[Tensor, "d_model"]:
    if len(unit) != activations.shape[1]:
        raise ConfigurationError(
            f"The direction has {len(unit)} entries, but this model's residual stream has {activations.shape[1]}."
        )
    return unit


def _logistic(rows: Float[Tensor, "calls d_model"], harmful: Tensor) -> Float[Tensor, "d_model"]:
    """Return the weights of a ridge logistic regression in which both kinds of calls have the same total weight."""
    # Standardised, so that the penalty treats all dimensions alike; the clamp is for constant ones.
    scale = rows.std(0).clamp(min=1e-6)
    inputs, targets = ((rows - rows.mean(0)) / scale).double(), harmful.double()
    # Harmful calls are usually rare: unweighted, the fit would follow the benign ones.
    weight = torch.where(harmful, 0.5 / harmful.sum(), 0.5 / (~harmful).sum()).double()
    # Float64 and a full-batch optimiser: the fit has one optimum, the same on every machine up to rounding.
    parameters = torch.zeros(inputs.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-12
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ parameters[:-1] + parameters[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, weight=weight, reduction="sum")
        value = value + RIDGE / 2 * parameters[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return (parameters[:-1].detach() / scale).float()
