"""Client of a server that speaks OpenAI's completions with vLLM's extensions: token ids, log-probabilities, adapters.

Prompts go as token ids and answers come as token ids, so that the server's own template and text handling have no part.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from astray.errors import ConfigurationError, EngineError, NonFiniteError, ProofError
from astray.subjects.scored import prompt_scores
from astray.subjects.spec import Sampling

KEY = "SERVER_API_KEY"
"""Variable with the key of a server; one without a key needs none."""
SHORT, LONG = 10.0, 900.0
"""Seconds for a question to the server itself, and for an answer of the model or an adapter to be loaded."""
_METRIC = re.compile(r"^vllm:(num_requests_running|num_requests_waiting)\{[^}]*\}\s+(\S+)", re.MULTILINE)
_CACHE = re.compile(r"^vllm:cache_config_info\{([^}]*)\}", re.MULTILINE)
_ADAPTER = re.compile("lora|adapter", re.IGNORECASE)
_WITH_ADAPTERS = "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora, or sample with --engine vllm"
_LABEL = re.compile(r'(block_size|num_gpu_blocks)="(\d+)"')


class ServerDownError(Exception):
    """Request that may succeed when it is made again: no connection, a timeout, or an error of the server's own."""


class NotServedError(Exception):
    """The server does not know the model any more: it was started anew, or the adapter was unloaded."""


@dataclass(frozen=True)
class Load:
    """What a server says of its work.

    Attributes:
        running: requests that it works on.
        waiting: requests that it has not begun.
        tokens: tokens that fit into its cache of keys and values.
    """

    running: int
    waiting: int
    tokens: int


@dataclass(frozen=True)
class Reply:
    """Answer of a server, as token ids.

    Attributes:
        tokens: of the answer, with the end token.
        values: log-probability of each token, and of the likeliest ones at its position, where asked for.
    """

    tokens: tuple[int, ...]
    values: tuple[tuple[float, tuple[tuple[str, float], ...]], ...] | None = None


class Server:
    """A server at an address."""

    def __init__(self, address: str) -> None:
        """Create a client; nothing is asked."""
        self.address = address
        self.headers = {"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {}
        self._client = httpx.Client(base_url=address, headers=self.headers, timeout=SHORT, trust_env=False)

    def models(self) -> dict[str, str]:
        """Return the names that are served, each with the one it is an adapter of, "" for a base.

        Raises:
            ServerDownError: the server does not answer.
        """
        listed = self._get("/v1/models").json()
        return {str(model["id"]): str(model.get("parent") or "") for model in listed["data"]}

    def version(self) -> str:
        """Return which version of vLLM answers; "" where the server does not say."""
        try:
            return str(self._get("/version").json().get("version", ""))
        except (ServerDownError, NotServedError, ConfigurationError, ValueError):
            return ""

    def load(self) -> Load | None:
        """Return how much work the server has; None where it does not say."""
        try:
            text = self._get("/metrics").text
        except (ServerDownError, NotServedError, ConfigurationError):
            return None
        counts: dict[str, float] = {}
        for name, value in _METRIC.findall(text):
            counts[name] = counts.get(name, 0) + float(value)
        if not counts:
            return None
        caches = [{name: int(value) for name, value in _LABEL.findall(one)} for one in _CACHE.findall(text)]
        tokens = sum(cache.get("block_size", 0) * cache.get("num_gpu_blocks", 0) for cache in caches)
        return Load(int(counts.get("num_requests_running", 0)), int(counts.get("num_requests_waiting", 0)), tokens)

    def check_adapters(self) -> None:
        """Refuse a server that takes no adapters while it runs.

        Raises:
            EngineError: says how to start it.
            ServerDownError: it does not answer.
        """
        answer = self._post("/v1/unload_lora_adapter", {"lora_name": "astray-none"})
        if answer.status_code != httpx.codes.OK and not _ADAPTER.search(_told(answer)):
            raise EngineError(f"The server {self.address} takes no adapters: {_WITH_ADAPTERS}.")

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter under a name.

        Raises:
            EngineError: the server refuses it; says what to change.
            ServerDownError: the server does not answer.
        """
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        answer = self._post("/v1/load_lora_adapter", body)
        told = _told(answer)
        if answer.status_code == httpx.codes.OK or "already" in told:
            return
        what = f"The server {self.address} does not load the adapter {folder}: {told or answer.status_code}."
        if answer.status_code == httpx.codes.NOT_FOUND and not _ADAPTER.search(told):
            raise EngineError(f"{what} It takes no adapters: {_WITH_ADAPTERS}.")
        if "rank" in told:
            raise EngineError(f"{what} Start it with a larger --max-lora-rank.")
        raise EngineError(f"{what} The folder has to be on the server's machine too, and the adapter of its base.")

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter; one that is not there is no error."""
        try:
            self._post("/v1/unload_lora_adapter", {"lora_name": name})
        except ServerDownError:
            return

    def scores(self, model: str, ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first; raises what `scores_in` and `checked` do."""
        return scores_in(checked(self._post("/v1/completions", scoring(model, ids)), model), ids)

    def _get(self, path: str) -> httpx.Response:
        return self._sent("GET", path, None, SHORT)

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return self._sent("POST", path, body, LONG)

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> httpx.Response:
        try:
            answer = self._client.request(method, path, json=body, timeout=seconds)
        except httpx.HTTPError as error:
            raise ServerDownError(f"{type(error).__name__}: {error}") from error
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise ServerDownError(f"status {answer.status_code}: {_told(answer)}")
        if method == "GET" and answer.status_code != httpx.codes.OK:
            raise NotServedError(f"status {answer.status_code}: {_told(answer)}")
        return answer


def scoring(model: str, ids: Sequence[int]) -> dict[str, Any]:
    """Return the request for the log-probabilities of given tokens."""
    return {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def answering(
    model: str, ids: Sequence[int], most: int, sampling: Sampling, top: int | None, ends: Sequence[int]
) -> dict[str, Any]:
    """Return the request for an answer, with everything set that a server may have other defaults for.

    No seed is sent: it slows servers down, ends vLLM's engine on CPUs, and does not make answers repeatable, since the
    rounding depends on what else is in the batch.
    """
    return {
        "model": model,
        "prompt": list(ids),
        "max_tokens": most,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": list(sampling.stop),
        "stop_token_ids": list(ends),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "return_token_ids": True,
    } | ({} if top is None else {"logprobs": top})


def checked(answer: httpx.Response, model: str) -> dict[str, Any]:
    """Return the one choice of a completion.

    Raises:
        ServerDownError, NotServedError: it may be asked again.
        EngineError: the server refuses the request.
        ProofError: another model answered.
    """
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise ServerDownError(f"status {answer.status_code}: {_told(answer)}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotServedError(_told(answer))
    if answer.status_code != httpx.codes.OK:
        raise EngineError(f"The server {answer.request.url} refuses a request: {_told(answer)}")
    try:
        content = answer.json()
        [choice] = content["choices"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerDownError(f"an answer that is none: {answer.text[:200]!r}") from error
    if content.get("model") != model:
        raise ProofError(
            f"The server {answer.request.url} was asked for {model} and answered as {content.get('model')}: no answer of "
            "it counts."
        )
    return dict(choice)


def reply_in(choice: Mapping[str, Any], top: int | None) -> Reply:
    """Return the answer in a choice.

    Raises:
        ServerDownError: the server gave the request up.
        ConfigurationError: it gives no token ids.
        NonFiniteError: a log-probability is not finite.
    """
    tokens, reason = choice.get("token_ids"), choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise ServerDownError(f"an answer that ended for the reason {reason!r}")
    if tokens is None:
        raise ConfigurationError(
            "The server gives no token ids of its answers (return_token_ids). Serve the model with vLLM 0.10.2 or later."
        )
    values = None
    if top is not None:
        given = choice.get("logprobs") or {}
        likeliest = [
            sorted((alternatives or {}).items(), key=lambda one: -one[1])
            for alternatives in given.get("top_logprobs") or []
        ]
        values = tuple(
            (float(value), tuple(each[:top]))
            for value, each in zip(given.get("token_logprobs") or [], likeliest, strict=True)
        )
        if len(values) != len(tokens):
            raise EngineError(f"The server gave {len(values)} log-probabilities with {len(tokens)} tokens.")
        if not all(math.isfinite(value) for value, _ in values):
            raise NonFiniteError("The server gave a log-probability that is not finite: check the served weights.")
    return Reply(tuple(tokens), values)


def scores_in(choice: Mapping[str, Any], ids: Sequence[int]) -> list[float]:
    """Return the log-probability of each token of a prompt but the first.

    Raises:
        EngineError: the server left some out.
        NonFiniteError: one is not finite.
    """
    found = prompt_scores(choice, ids)
    if found is None:
        raise EngineError(
            f"The server gives no log-probabilities of a prompt of {len(ids)} tokens (prompt_logprobs). Serve the model "
            "with vLLM, or score with --engine local."
        )
    values = [value for _, value in found]
    if not all(map(math.isfinite, values)):
        raise NonFiniteError("The server gave a log-probability that is not finite: check the served weights.")
    return values


def _told(answer: httpx.Response) -> str:
    """Return what a server says is wrong."""
    try:
        content = answer.json()
    except ValueError:
        return answer.text.strip()[:300]
    if not isinstance(content, dict):
        return str(content)[:300]
    error = content.get("error")
    return str(
        error.get("message") if isinstance(error, dict) else content.get("message") or content.get("detail") or content
    )[:300]
