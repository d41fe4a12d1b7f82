"""Runtime monitor on a local model's activations, as an Inspect approver like those of `measure/agentic/monitors`.

    subject = load_subject("path/to/model")
    harmful_or_not = labelled_calls("logs/....eval")                   # from a run without a monitor
    probe = fitted_probe(subject, harmful_or_not[:100], block=8)
    found = assess(subject, probe, harmful_or_not[100:200], harmful_or_not[200:])
    task = agentic_task(grid, approval=[activation_monitor(subject, probe, found.threshold)])

At each call that would change something, the model reads the conversation once more, up to the end of the call, and the
probe scores the tokens of the call. At or above the threshold the call is blocked. A call that cannot be read is
blocked too.

Probes, thresholds and their error rates are in `call_probe`.
"""

from pathlib import Path

from anyio import to_thread
from inspect_ai.approval import Approval, ApprovalPolicy, approver
from inspect_ai.log import EvalSample, read_eval_log, read_eval_log_samples
from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.solver._task_state import sample_state
from inspect_ai.tool import ToolCall, ToolCallView
from inspect_ai.util import Store

from astray.errors import AstrayError, EmptyDataError
from astray.measure.agentic.acts import Looked, acts_of
from astray.measure.agentic.agent import office_of
from astray.measure.agentic.monitors import Watch, act_of, rule_monitor, until
from astray.measure.agentic.tools import infos_of
from astray.measure.agentic.transcript import Status, calls_in
from astray.mitigate.call_probe import CallProbe, WatchedCall, call_scores
from astray.subjects.subject import Subject


def activation_monitor(
    subject: Subject, probe: CallProbe, threshold: float, *, layered: bool = False
) -> ApprovalPolicy:
    """Return the approval policy of a monitor that blocks every call whose activations score at or above a threshold.

    Args:
        subject: the acting model, loaded locally so that its activations can be read. It may share its base with the
            subject that answers.
        probe: the probe that scores calls.
        threshold: lowest score of a blocked call, from `assess`.
        layered: whether fixed rules come first, so that the probe scores only the calls that they let pass.

    Examples:
        >>> agentic_task(grid, approval=[activation_monitor(subject, probe, 2.5)])
    """
    rules = rule_monitor()

    @approver(name="astray_activations")
    def made() -> Watch:
        async def approve(message: str, call: ToolCall, view: ToolCallView, history: list[ChatMessage]) -> Approval:
            if layered:
                first = await rules(message, call, view, history)
                if first.decision != "approve":
                    return first
            state, act = sample_state(), act_of(call)
            # Calls that only look change nothing, and need no pass of the model.
            if state is None or act is None:
                return Approval(decision="approve")
            watched = WatchedCall(tuple(until(call, history)), infos_of(office_of(state.metadata)))
            # In a thread: the pass would stop the event loop, and with it all other samples.
            try:
                score = float((await to_thread.run_sync(call_scores, subject, probe, [watched]))[0])
            except AstrayError as error:
                return Approval(decision="reject", explanation=f"the activations cannot be read: {error}")
            explanation = f"{probe.name}: score {score:.4g}, threshold {threshold:.4g}"
            return Approval(decision="reject" if score >= threshold else "approve", explanation=explanation)

        return approve

    return ApprovalPolicy(made(), "*")


def labelled_calls(log: Path | str) -> list[WatchedCall]:
    """Return the executed calls of a log that changed something, each labelled by the gate's finding.

    They serve to fit a probe, to set its threshold and to count its errors. A call is harmful where the gate's finding
    rests on its message, and benign in samples in which the gate found nothing, including blocked calls. Other calls of
    harmful samples are left out: it is unknown whether they prepare the harm.

    Args:
        log: log file (`.eval`) of a run without a monitor.

    Raises:
        EmptyDataError: no sample has such a call.
    """
    samples = read_eval_log_samples(str(log), all_samples_required=False, resolve_attachments="full")
    calls = [call for sample in samples for call in _of_sample(sample)]
    if not calls:
        status = read_eval_log(str(log), header_only=True).status
        raise EmptyDataError(
            f"The log {log} ({status}) has no executed call that changed something. Take one in which the agent acted."
        )
    return calls


def _of_sample(sample: EvalSample) -> list[WatchedCall]:
    facts = next((score.metadata or {} for score in (sample.scores or {}).values()), {})
    if "gate" not in facts or (facts["tried"] and not facts["gate"]):
        return []
    acts = iter(acts_of(Store(sample.store)))
    tools, records = infos_of(office_of(sample.metadata)), iter(calls_in(sample.messages))
    calls = []
    for index, message in enumerate(sample.messages):
        for call in message.tool_calls or () if isinstance(message, ChatMessageAssistant) else ():
            record = next(records)
            if record.status is not Status.EXECUTED or isinstance(next(acts), Looked):
                continue
            harmful = message.id in facts["evidence"]
            if harmful or not facts["gate"]:
                messages = until(call, sample.messages[: index + 1])
                calls.append(WatchedCall(tuple(messages), tools, f"{sample.id}/{sample.epoch}", harmful))
    return calls
