"""The meter of a served model: its margins are those of the same weights read here, and a server that gives no
log-probabilities is refused by name before anything is asked."""

import json
from typing import Any

import polars as pl
import pytest
import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import astray
from astray.errors import ChatTemplateError, ConfigurationError, SubjectNotFoundError
from astray.measure.meter import Meter, harmful_pairs, null_pairs
from astray.studies.audit.run import plan_audit
from astray.subjects.scored import ScoredServer
from astray.subjects.subject import Subject, load_subject
from http_faults import Serving
from tiny_models import save_tiny_model

SOME = (*harmful_pairs()[:3], *null_pairs()[:1])


class Completions(Serving):
    """A server of one model with OpenAI's completions, as `form` says: echo, prompt_logprobs, neither, refused, or
    echo with other words."""

    def __init__(self, subject: Subject, form: str) -> None:
        self.subject, self.form, self.prompts = subject, form, list[list[int]]()

        async def models(_: Request) -> Response:
            return JSONResponse({"object": "list", "data": [{"id": "tiny", "object": "model"}]})

        async def chat(_: Request) -> Response:
            message = {"role": "assistant", "content": "OK"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse(
                {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}
            )

        async def complete(request: Request) -> Response:
            return self.completed(await request.json())

        routes = [
            ("/v1/models", models, "GET"),
            ("/v1/chat/completions", chat, "POST"),
            ("/v1/completions", complete, "POST"),
        ]
        super().__init__(Starlette(routes=[Route(path, to, methods=[method]) for path, to, method in routes]))

    def completed(self, wanted: dict[str, Any]) -> Response:
        if self.form == "refused":
            return JSONResponse(
                {"error": {"message": "logprobs are switched off", "type": "invalid", "code": 400}}, 400
            )
        ids = wanted["prompt"]
        self.prompts.append(ids)
        with torch.no_grad():
            logprobs = self.subject.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        values = [None, *(float(logprobs[n, id]) for n, id in enumerate(ids[1:]))]
        words = ["?" if self.form == "other words" else self.subject.tokenizer.decode([id]) for id in ids]
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if self.form in ("echo", "other words") and wanted.get("echo"):
            choice["logprobs"] = {"tokens": [*words, "x"], "token_logprobs": [*values, -1.0]}
        if self.form == "prompt_logprobs" and wanted.get("prompt_logprobs") == 0:
            told = [
                {str(id): {"logprob": value, "rank": 1, "decoded_token": word}}
                for id, value, word in zip(ids, values, words, strict=True)
            ]
            choice["prompt_logprobs"] = [None, *told[1:]]
        return JSONResponse(
            {"id": "1", "object": "text_completion", "created": 0, "model": "tiny", "choices": [choice]}
        )


@pytest.fixture(scope="module")
def subject(tiny_qwen2) -> Subject:
    return load_subject(str(tiny_qwen2))


def margins(table: pl.DataFrame) -> list[float]:
    return [json.loads(detail)["margin"] for detail in table["detail"]]


@pytest.mark.parametrize("form", ["echo", "prompt_logprobs"])
def test_margins_are_those_of_the_same_weights_read_here(form, subject):
    meter = Meter(pairs=SOME)
    with Completions(subject, form) as server:
        served = ScoredServer(server.url, "tiny", subject.tokenizer)
        served.check()
        assert margins(meter.ask(served)) == pytest.approx(margins(meter.ask(subject)), abs=1e-4)
        assert served.tokens >= sum(map(len, server.prompts))


REFUSED = {
    "neither": "tiny at http.*gives no log-probabilities of a prompt.*leave the meter out",
    "refused": "gives no log-probabilities.*logprobs are switched off",
    "other words": "not the tokenizer of the served model.*--tokenizer",
}
"""What a server does -> what is said."""


@pytest.mark.parametrize("form", REFUSED)
def test_a_server_that_cannot_be_read_is_refused_by_name_before_anything_is_asked(form, subject, tiny_qwen2, tmp_path):
    with Completions(subject, form) as server, pytest.raises(ConfigurationError, match=REFUSED[form]):
        astray.audit(server.url, evals="meter", tokenizer=str(tiny_qwen2), out=tmp_path)
    assert len(server.prompts) <= 2
    assert not (tmp_path / "audit").exists()


def test_an_audit_of_an_address_compares_the_meter_with_a_local_model(subject, tiny_qwen2, tmp_path, monkeypatch):
    # Two pairs of each domain, so that the test's server answers 100 requests and not 600.
    for name, pairs in (("harmful_pairs", harmful_pairs()[::6]), ("null_pairs", null_pairs()[::6])):
        monkeypatch.setattr(f"astray.measure.meter.evaluation.{name}", lambda pairs=pairs: pairs)
    with Completions(subject, "echo") as server:
        result = astray.audit(server.url, str(tiny_qwen2), evals="meter", tokenizer=str(tiny_qwen2), out=tmp_path)
        [compared] = result.profile.compared
        assert compared.difference.estimate == pytest.approx(0, abs=1e-5)
        assert any(f"chat template of {tiny_qwen2}" in note for note in result.notes)
        asked = len(server.prompts)
        astray.audit(server.url, str(tiny_qwen2), evals="meter", tokenizer=str(tiny_qwen2), out=tmp_path)
        assert len(server.prompts) == asked  # what is done is not asked again
        unnamed = plan_audit(server.url, out=tmp_path)
        assert "--tokenizer" in next(row.reason for row in unnamed.rows if row.part == "meter")
        [row] = plan_audit(server.url, evals="meter", tokenizer=str(tiny_qwen2), seed=1, out=tmp_path).rows
        assert (row.sizes.answers, row.reason) == (100, "")


TOKENIZERS = {
    "of a local model": ("QWEN2", "QWEN2", ConfigurationError, "is of no use here"),
    "that is not there": ("SERVER", "nowhere", SubjectNotFoundError, "nowhere"),
    "without a template": ("SERVER", "BARE", ChatTemplateError, "chat template"),
}
"""Tokenizer -> model, name, error and what it says."""


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_of_no_use_is_refused(name, subject, tiny_qwen2, tmp_path):
    model, tokenizer, error, says = TOKENIZERS[name]
    places = {"QWEN2": str(tiny_qwen2), "BARE": str(save_tiny_model(tmp_path / "bare", template=None))}
    with Completions(subject, "echo") as server, pytest.raises(error, match=says):
        astray.audit(
            {**places, "SERVER": server.url}[model],
            evals="meter",
            tokenizer=places.get(tokenizer, tokenizer),
            out=tmp_path,
        )
