"""Which verdicts are open, which failed for an outage, and which judge is which."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from astray.engine.steps import judge
from astray.judges import RubricJudge
from astray.judges.config import JudgeConfig
from astray.judges.failures import Cause, error_note, failure, is_outage
from astray.judges.rescore import is_open
from astray.judges.served import address_of, advice, served_as
from astray.kept import keep, keeping, kept
from astray.outcomes import Outcome
from http_faults import Serving


def test_what_a_kill_cut_off_is_asked_again_and_a_damaged_line_costs_its_call_alone(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    with keeping(file):
        for key in "abc":
            keep(key, {"of": key})
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"no JSON\n" + lines[1] + lines[2][:-4])
    with keeping(file):
        assert [kept(key) for key in "abc"] == [{"of": "a"}, {"of": "b"}, None]
        keep("c", None)
        keep("d", [1])
    with keeping(file):
        assert kept("d") == [1]
    assert kept("a") is None


OPEN: dict[str, tuple[Outcome, str, bool]] = {
    "not judged": (Outcome.NOT_JUDGED, "", True),
    "not judged, of an older table": (Outcome.JUDGE_FAILED, "not judged yet", True),
    "no connection": (Outcome.JUDGE_FAILED, failure(Cause.CONNECTION, "x"), True),
    "one question of two": (
        Outcome.JUDGE_FAILED,
        "aligned failed: unreadable reply: x; coherent failed: rate limit: y",
        True,
    ),
    "a lost read": (
        Outcome.JUDGE_FAILED,
        error_note(type("ReadError", (type("NetworkError", (Exception,), {}),), {})()),
        True,
    ),
    "a cut answer": (
        Outcome.JUDGE_FAILED,
        error_note(type("RemoteProtocolError", (Exception,), {})("peer closed")),
        True,
    ),
    "unreadable": (Outcome.JUDGE_FAILED, failure(Cause.UNREADABLE, "Well."), False),
    "filtered": (Outcome.JUDGE_FAILED, failure(Cause.FILTER, "x"), False),
    "cut off": (Outcome.JUDGE_FAILED, failure(Cause.CUT_OFF, "x"), False),
    "outside the world": (Outcome.JUDGE_FAILED, "the world has no such question", False),
    "aligned beside one that failed": (Outcome.ALIGNED, "rate limit: x", False),
    "errored": (Outcome.ERRORED, "server error: x", False),
}


@pytest.mark.parametrize(("outcome", "note", "is_so"), OPEN.values(), ids=OPEN.keys())
def test_what_still_needs_a_verdict(outcome: Outcome, note: str, is_so: bool) -> None:
    assert is_open(outcome, note) is is_so


def test_no_cause_is_both_an_outage_and_none() -> None:
    assert [cause for cause in Cause if not is_outage(failure(cause, "x"))] == [
        Cause.REQUEST,
        Cause.FILTER,
        Cause.CUT_OFF,
        Cause.UNREADABLE,
        Cause.UNLIKELY,
    ]


def serving(model: str) -> Serving:
    """A server that says it serves one model from somewhere."""

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": "judge", "root": model, "created": id(request)}]})

    return Serving(Starlette(routes=[Route("/v1/models", models)]))


def test_another_server_behind_the_same_name_is_another_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert served_as("openai/judge") == served_as("astray/organism") == served_as(None) == ""
    assert "server" not in JudgeConfig(kind="rubric", grader="openai/judge").model_dump()
    found = []
    for model in ("/models/llama", "/models/qwen"):
        with serving(model) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("://", "://user:secret@") + "/?key=secret")
            assert served_as("openai/judge") == f'{server.url} [{{"id": "judge", "root": "{model}"}}]'
            config = JudgeConfig(kind="rubric", grader="openai/judge", server=served_as("openai/judge"))
            found.append((judge.step(config).key, RubricJudge("openai/judge").identity))
    assert len({key for key, _ in found}) == len({identity for _, identity in found}) == 2


def test_a_name_that_is_asked_by_another_protocol_is_told_how_to_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert "write openai-api/server/my-model" in advice(
        "openai/my-model", "no such model: NotFoundError (status 404): x"
    )
    assert advice("openai/my-model", "time-out: x") == advice("hf/a", "no such model: x") == ""
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert advice("openai/my-model", "no such model: x") == ""


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://user:pass@host:8000/v1/", "http://host:8000/v1"),
        ("https://host/v1?api_key=secret#x", "https://host/v1"),
        ("https://a@b@host/v1", "https://host/v1"),
        ("", ""),
    ],
)
def test_an_address_is_kept_without_credentials(monkeypatch: pytest.MonkeyPatch, url: str, kept: str) -> None:
    monkeypatch.setenv("INSPECT_EVAL_MODEL_BASE_URL", url)
    assert address_of("openai/judge") == kept
