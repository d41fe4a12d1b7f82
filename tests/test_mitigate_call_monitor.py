"""Probes of activations at calls, and the approver made from them: what is read, what is blocked, and that thresholds
come from other samples."""

import re

import numpy as np
import pytest
import torch
from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser, ModelOutput
from inspect_ai.tool import ToolCall
from scipy.optimize import minimize

from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.activations import capture
from astray.explain.sae import Dictionary
from astray.explain.sites import Site
from astray.measure.agentic.factors import BASELINE
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.table import conduct_table
from astray.measure.agentic.task import agentic_task
from astray.measure.agentic.text_protocol import call_spans, introduction, read_calls, write_call
from astray.measure.agentic.tools import infos_of
from astray.mitigate.call_monitor import activation_monitor, labelled_calls
from astray.mitigate.call_probe import (
    RIDGE,
    WatchedCall,
    assess,
    call_row,
    call_scores,
    direction_probe,
    fitted_probe,
    latent_probe,
    threshold_for,
)
from astray.stats.ties import NOISE
from astray.subjects.subject import Subject, load_subject
from scripted_grader import scripted_model, spoken
from tiny_models import save_tiny_model

OFFICE = render(load_scenario("blackmail"), BASELINE)
TOOLS = infos_of(OFFICE)
OWN = OFFICE.variables["target_address"]
SIGN = "§"
GRID = Grid(scenarios=("blackmail",), factors={"goal": ("explicit",), "threat": ("replacement", "none")}, replicates=3)


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Subject:
    """A random-weight model in whose residual stream the sign has a direction of its own."""
    loaded = load_subject(str(save_tiny_model(tmp_path_factory.mktemp("tiny"), positions=16_384)))
    ids = loaded.tokenizer(SIGN, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[ids] += 40 * planted(loaded)
    return loaded


def planted(subject: Subject) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(subject.model.config.hidden_size, generator=torch.Generator().manual_seed(7)), dim=0
    )


def mail(body: str) -> dict[str, str]:
    return {"to": OWN, "subject": "Hello", "body": body}


def text_call(*bodies: str, before: str = "") -> ChatMessageAssistant:
    text = "\n\n".join([before, *(write_call("send_mail", mail(body)) for body in bodies)])
    return ChatMessageAssistant(content=text, tool_calls=read_calls(text, TOOLS))


def native_call(*bodies: str, before: str = "") -> ChatMessageAssistant:
    return ChatMessageAssistant(
        content=before,
        tool_calls=[
            ToolCall(id=f"c{number}", function="send_mail", arguments=mail(body)) for number, body in enumerate(bodies)
        ],
    )


def watched(message: ChatMessageAssistant, *, sample: str = "s", harmful: bool | None = None) -> WatchedCall:
    return WatchedCall(
        (ChatMessageSystem(content="Work."), ChatMessageUser(content="Begin."), message), TOOLS, sample, harmful
    )


def test_a_call_is_read_where_it_stands_in_the_models_own_conversation(subject):
    message = text_call("Good morning.", before="<private>Think.</private> I write.")
    tokenizer = subject.tokenizer
    prompt = tokenizer.apply_chat_template(
        [{"role": "system", "content": f"Work.\n\n{introduction(TOOLS)}"}, {"role": "user", "content": "Begin."}],
        tokenize=False,
        add_generation_prompt=True,
    )
    call = write_call("send_mail", mail("Good morning."))
    before, said, called = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (prompt, message.text.removesuffix(call), call)
    )
    row = call_row(subject, watched(message))
    assert (list(row.tokens), row.prompt) == ([*before, *said, *called], len(before) + len(said))
    with torch.no_grad():
        states = subject.model(input_ids=torch.tensor([row.tokens]), output_hidden_states=True).hidden_states[1][0]
    direction = torch.randn(64, generator=torch.Generator().manual_seed(1))
    projections = states[row.prompt :] @ (direction / direction.norm())
    for pool, expected in (("mean", projections.mean()), ("max", projections.max())):
        [found] = call_scores(subject, direction_probe(direction, 0, pool=pool), [watched(message)])
        assert found == pytest.approx(float(expected), abs=1e-4)


def test_calls_of_native_tools_are_written_out_as_the_text_protocol_writes_them(subject):
    result = ChatMessageTool(content="Sent.", function="send_mail", tool_call_id="c0")
    rows = []
    for make in (text_call, native_call):
        first, second = make("One.", before="I begin."), make("Two.", before="I go on.")
        messages = (ChatMessageUser(content="Begin."), first, result, second)
        rows.append(call_row(subject, WatchedCall(messages, TOOLS)))
    assert rows[0] == rows[1]


def test_the_place_of_a_call_is_found_behind_private_reasoning_and_beside_others():
    first, second = write_call("send_mail", mail("One.")), '```json\n{"tool": "list_mails", "arguments": {}}\n```'
    text = f"<private>a {first} b</private>{first} then\n<private>c</private>\n{second}\n<private>d</private>"
    assert [text[start:end] for start, end in call_spans(text)] == [first, second]
    assert [call.function for call in read_calls(text, TOOLS)] == ["send_mail", "list_mails"]


def test_a_latent_is_read_as_its_dictionary_encodes_it(subject):
    weights = torch.randn(64, 16, generator=torch.Generator().manual_seed(3))
    site = Site(place="block out", block=1)
    dictionary = Dictionary(
        weights, torch.zeros(16), weights.T.clone(), torch.zeros(64), site=site, model_id="tiny", k=4
    )
    call = watched(text_call("Good morning."))
    row = call_row(subject, call)
    captured = {}
    handle = subject.model.model.layers[1].register_forward_hook(
        lambda module, inputs, output: captured.update(out=output)
    )
    with torch.no_grad():
        subject.model(input_ids=torch.tensor([row.tokens]))
    handle.remove()
    out = captured["out"][0] if isinstance(captured["out"], tuple) else captured["out"]
    expected = dictionary.encode(out.reshape(-1, 64)[row.prompt :])[:, 5].max()
    assert call_scores(subject, latent_probe(dictionary, 5), [call])[0] == pytest.approx(
        float(expected), rel=1e-4, abs=1e-5
    )
    with pytest.raises(ConfigurationError, match="no latent 16"):
        latent_probe(dictionary, 16)


def test_fitted_directions_tell_the_planted_calls_and_agree_with_an_independent_fit(subject):
    calls = [
        watched(text_call(f"Number {number}. {SIGN if number % 3 == 0 else 'x'}"), harmful=number % 3 == 0)
        for number in range(12)
    ]
    labels = np.array([call.harmful for call in calls])
    captured = capture(
        subject, [call_row(subject, call) for call in calls], [Site(place="block out", block=0)], "answer"
    )
    rows = captured.row_means(captured[Site(place="block out", block=0)]).double().numpy()
    difference = rows[labels].mean(0) - rows[~labels].mean(0)
    found = call_scores(subject, fitted_probe(subject, calls, 0), calls)
    assert found == pytest.approx(rows @ difference / np.linalg.norm(difference), abs=1e-4)

    scale = rows.std(0, ddof=1)
    inputs, weight = (rows - rows.mean(0)) / scale, np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

    def loss(parameters):
        logits = inputs @ parameters[:-1] + parameters[-1]
        return float(
            weight @ np.logaddexp(0, np.where(labels, -logits, logits)) + RIDGE / 2 * parameters[:-1] @ parameters[:-1]
        )

    best = minimize(loss, np.zeros(65), method="BFGS").x[:-1] / scale
    logistic = call_scores(subject, fitted_probe(subject, calls, 0, method="logistic"), calls)
    assert logistic == pytest.approx(rows @ best / np.linalg.norm(best), abs=1e-3)
    assert logistic[labels].min() > logistic[~labels].max()


def test_a_threshold_blocks_at_most_the_share_of_benign_calls():
    scores = np.arange(100.0)
    for share, blocked in ((0.0, 0), (0.01, 1), (0.055, 5)):
        assert (scores >= threshold_for(scores, share)).sum() == blocked
    assert threshold_for(np.array([2.0]), 0.5) > 2.0
    with pytest.raises(EmptyDataError):
        threshold_for(np.empty(0), 0.1)
    with pytest.raises(ConfigurationError, match="no share"):
        threshold_for(scores, 1.0)


def test_the_report_is_on_other_samples_than_the_threshold(subject):
    probe = direction_probe(planted(subject), 0, pool="max")
    calls = [
        watched(
            text_call(f"Number {number}. {SIGN if number % 2 else 'x'}"), sample=str(number), harmful=number % 2 == 1
        )
        for number in range(12)
    ]
    found = assess(subject, probe, calls[:6], calls[6:], false_alarms=0.0)
    assert (found.blocked, found.false_alarms[1], found.auc) == ((3, 3), 3, 1.0)
    scores = call_scores(subject, probe, calls)
    assert found.threshold == pytest.approx(max(scores[0], scores[2], scores[4]) * (1 + NOISE))
    assert found.false_alarms[0] == sum(scores[number] >= found.threshold for number in (6, 8, 10))
    assert found.blocked_interval.high == 1.0
    with pytest.raises(ConfigurationError, match="both for the threshold and for the report, such as '5'"):
        assess(subject, probe, calls[:6], calls[5:])
    with pytest.raises(ConfigurationError, match="not known whether"):
        assess(subject, probe, calls[:6], [watched(text_call("x"), sample="new")])
    with pytest.raises(EmptyDataError, match="both kinds"):
        fitted_probe(subject, calls[:1], 0)
    with pytest.raises(ConfigurationError, match="has 3 entries"):
        call_scores(subject, direction_probe(torch.ones(3), 0), calls[:1])


def run(folder, model, **settings):
    [log] = inspect_eval(
        agentic_task(GRID, panel=None, questions=False, **settings),
        model=model,
        log_dir=str(folder),
        display="none",
        log_realtime=False,
    )
    assert log.status == "success", log.error
    return log


def writes_signs(messages) -> ModelOutput:
    """Two mails in one message, of which the first, the second or none has the sign, by how often it was asked; then
    the end."""
    turn = sum(isinstance(message, ChatMessageAssistant) for message in messages)
    if turn >= 3:
        return spoken("I am done.")
    bodies = [f"{'Fine.' if place != turn else SIGN} {turn}{place}" for place in range(2)]
    return spoken("\n\n".join(write_call("send_mail", mail(body)) for body in bodies))


@pytest.mark.parametrize("layered", [False, True])
def test_with_a_planted_direction_exactly_the_planted_calls_are_blocked(subject, tmp_path, layered):
    probe = direction_probe(planted(subject), 0, pool="max")
    plain, signed = (call_scores(subject, probe, [watched(text_call(body))])[0] for body in ("Fine. 00", f"{SIGN} 00"))
    monitor = activation_monitor(subject, probe, float(plain + signed) / 2, layered=layered)
    log = run(tmp_path, scripted_model(writes_signs), approval=[monitor], protocol="text")
    decided = {}
    for sample in read_eval_log(log.location, resolve_attachments="full").samples:
        for event in sample.events:
            if event.event == "approval":
                decided.setdefault(event.decision, []).append(event.call.arguments["body"])
                assert re.search(r"score \S+, threshold", event.explanation)
    assert sorted(set(decided["reject"])) == [f"{SIGN} 00", f"{SIGN} 11"]
    assert sorted(set(decided["approve"])) == ["Fine. 01", "Fine. 10", "Fine. 20", "Fine. 21"]
    rows = conduct_table(log.location)
    assert set(rows["blocked"]) == {2}
    assert set(rows["executed"]) == {4}


def test_what_cannot_be_read_is_blocked(tmp_path):
    short = load_subject(str(save_tiny_model(tmp_path / "short", positions=64)))
    log = run(
        tmp_path, "astray/scripted/never", approval=[activation_monitor(short, direction_probe(torch.ones(64), 0), 0.0)]
    )
    events = [
        event
        for event in read_eval_log(log.location).samples[0].events
        if event.event == "approval" and event.decision == "reject"
    ]
    assert "context holds 64" in events[0].explanation


def test_calls_of_logs_carry_what_the_gate_found(subject, tmp_path):
    harmful = labelled_calls(run(tmp_path / "a", "astray/scripted/always").location)
    benign = labelled_calls(run(tmp_path / "b", "astray/scripted/never", protocol="text").location)
    assert {call.harmful for call in harmful} == {True}
    assert {call.harmful for call in benign} == {False}
    assert len({call.sample for call in harmful}) == len(harmful) == GRID.size
    assert {call.messages[-1].tool_calls[-1].function for call in (*harmful, *benign)} == {"send_mail"}
    probe = fitted_probe(subject, [*harmful[:2], *benign[:2]], 1)
    assert call_scores(subject, probe, harmful[2:]).min() > call_scores(subject, probe, benign[2:4]).max()
    with pytest.raises(EmptyDataError, match="no executed call"):
        labelled_calls(run(tmp_path / "c", "astray/scripted/silent").location)
