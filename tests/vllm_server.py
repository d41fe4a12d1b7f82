"""A stand-in for a vLLM server: a real tiny model by transformers and PEFT behind vLLM's routes, with faults on demand; and
the program `vllm` for PATH, which is another process that passes requests on to it.

Faults of `Model.faults` happen to requests of a route, each once unless it is in `always`:
"500", "cut" (no answer), "unknown" (404, as of an unloaded adapter), and those that change what is answered.
"""

import itertools
import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BASE = "base"
EMPTY = {"index": 0, "text": "?", "finish_reason": "length", "logprobs": None}
CHOICES: dict[tuple[str, str | None, str], dict[str, Any]] = {}
"""Folder of a model, its adapter and what is asked of it -> what it says."""


class Model:
    """The model, its adapters and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        import torch

        self.torch, self.folder = torch, folder
        self.model: Any = None
        self.adapters: dict[str, str] = {}
        self.loaded: dict[str, str] = {}
        self.lock = threading.Lock()
        self.faults: dict[str, list[str]] = {}
        self.always: set[str] = set()
        self.answered: list[tuple[str, tuple[int, ...]]] = []
        self.bodies: list[dict[str, Any]] = []
        self.most_rank = 64
        self.draws = 0

    def load(self, name: str, path: str) -> tuple[int, str]:
        if "load refused" in self.always:
            return 400, "The adapter cannot be loaded."
        rank = json.loads((Path(path) / "adapter_config.json").read_text())["r"]
        if rank > self.most_rank:
            return 400, f"LoRA rank {rank} is greater than max_lora_rank {self.most_rank}."
        if name in self.adapters:
            return 400, f"The lora adapter '{name}' has already been loaded."
        self.adapters[name] = path
        return 200, ""

    def complete(self, body: dict[str, Any], base: str) -> tuple[int, dict[str, Any]]:
        name = body["model"]
        if name != base and name not in self.adapters:
            return 404, {"error": {"message": f"The model `{name}` does not exist.", "code": 404}}
        served = self.adapters.get(name)
        if served and "ignores the adapter" in self.always:
            served = None
        if served and "another adapter" in self.always:
            served = next(path for other, path in self.adapters.items() if other != name)
        with self.lock:
            self.bodies.append(body)
            scored = body.get("prompt_logprobs") is not None
            choice = EMPTY if scored and "drops logprobs" in self.always else self.chosen(served, body)
            if not scored:
                self.answered.append((name, tuple(body["prompt"])))
        told = "someone else" if "another name" in self.always else name
        return 200, {"id": "1", "object": "text_completion", "created": 0, "model": told, "choices": [choice]}

    def chosen(self, adapter: str | None, body: dict[str, Any]) -> dict[str, Any]:
        """What these weights say; where nothing is drawn, each request is worked out once, whichever server gets it."""
        if body["temperature"] > 0:
            return self.worked_out(adapter, body)
        key = (str(self.folder), adapter, json.dumps({name: body[name] for name in sorted(body) if name != "model"}))
        if key not in CHOICES:
            CHOICES[key] = self.worked_out(adapter, body)
        return CHOICES[key]

    def worked_out(self, adapter: str | None, body: dict[str, Any]) -> dict[str, Any]:
        torch, ids, choice = self.torch, body["prompt"], dict(EMPTY)
        with torch.no_grad():
            model = self.with_adapter(adapter)
            if body.get("prompt_logprobs") is not None:
                values = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
                told = [
                    {str(id): {"logprob": float(values[n, id]), "rank": 1, "decoded_token": "?"}}
                    for n, id in enumerate(ids[1:])
                ]
                choice["prompt_logprobs"] = [None, *told]
                return choice
            torch.manual_seed(self.draws)
            self.draws += 1
            hot = body["temperature"] > 0
            made = model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=body["max_tokens"],
                do_sample=hot,
                **({"temperature": body["temperature"], "top_k": 0, "top_p": body["top_p"]} if hot else {}),
                eos_token_id=body["stop_token_ids"],
                pad_token_id=0,
            )[0, len(ids) :].tolist()
            choice["token_ids"] = made
            choice["finish_reason"] = "stop" if made[-1] in body["stop_token_ids"] else "length"
            if (top := body.get("logprobs")) is not None:
                values = model(torch.tensor([[*ids, *made]])).logits[0].float().log_softmax(-1)
                rows = values[len(ids) - 1 : len(ids) - 1 + len(made)]
                likeliest = [row.topk(max(top, 1)) for row in rows]
                choice["logprobs"] = {
                    "tokens": [str(id) for id in made],
                    "token_logprobs": [float(row[id]) for row, id in zip(rows, made, strict=True)],
                    "top_logprobs": [
                        {str(int(i)): float(v) for i, v in zip(each.indices, each.values, strict=True)}
                        for each in likeliest
                    ],
                }
        return choice

    def with_adapter(self, path: str | None) -> Any:
        """The model with this adapter or without any, each loaded when it is first needed."""
        if self.model is None:
            from transformers import AutoModelForCausalLM

            self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=self.torch.float32).eval()
        if path is None:
            if self.loaded:
                self.model.base_model.disable_adapter_layers()
            return self.model
        name = self.loaded.get(path) or f"n{len(self.loaded)}"
        if not self.loaded:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, path, adapter_name=name).eval()
        elif path not in self.loaded:
            self.model.load_adapter(path, adapter_name=name)
        self.loaded[path] = name
        self.model.base_model.enable_adapter_layers()
        self.model.set_adapter(name)
        return self.model


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "VllmServer"

    def log_message(self, *_: object) -> None: ...

    @property
    def asked(self) -> Model:
        """The model of the folder that a program `vllm` serves; by default the server's own."""
        folder, models = self.headers.get("X-Folder"), self.server.models
        if folder and folder not in models:
            models[folder] = Model(Path(folder))
        return models[folder] if folder else self.server.model

    def do_GET(self) -> None:
        model, base = self.asked, self.server.base
        if self.path == "/metrics":
            cache = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="64"} 1.0\n'
            return self.send(
                200, cache + 'vllm:num_requests_running{a="b"} 4.0\nvllm:num_requests_waiting{a="b"} 0.0\n'
            )
        if self.path == "/v1/models":
            listed = [{"id": base, "parent": None}, *({"id": each, "parent": base} for each in model.adapters)]
            return self.send(200, {"object": "list", "data": listed})
        return self.send(200, {"version": "0.99.0"} if self.path == "/version" else "")

    def do_POST(self) -> None:
        model = self.asked
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        route = self.path.rsplit("/", 1)[-1]
        queue = model.faults.get(route, [])
        fault = queue.pop(0) if queue else ""
        if fault == "500":
            return self.send(500, {"error": {"message": "fault 500"}})
        if fault == "cut":
            self.close_connection = True
            return None
        if fault == "forgets":
            model.adapters.clear()
        if fault.startswith("from now on: "):
            model.always.add(fault.removeprefix("from now on: "))
        if route == "load_lora_adapter" and "no adapters" not in model.always:
            code, told = model.load(body["lora_name"], body["lora_path"])
            return self.send(code, {"error": {"message": told}} if told else "Success")
        if route == "unload_lora_adapter" and "no adapters" not in model.always:
            known = model.adapters.pop(body["lora_name"], None)
            told = {"error": {"message": f"The lora adapter '{body['lora_name']}' cannot be found."}}
            return self.send(200 if known else 404, "Success" if known else told)
        if route == "completions":
            return self.send(*model.complete(body, self.server.base))
        return self.send(404, {"detail": "Not Found"})

    def send(self, code: int, content: object) -> None:
        text = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has given up
            self.wfile.write(text)


class VllmServer(ThreadingHTTPServer):
    """The server in threads of this process."""

    daemon_threads = True

    def __init__(self, folder: Path, base: str = BASE) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base, self.models = base, {str(folder): Model(folder)}
        self.model = self.models[str(folder)]
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["VllmServer"]:
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


PROGRAM = """#!{python}
import sys
sys.path.insert(0, {here!r})
from vllm_server import serve
serve({folder!r}, sys.argv[1:])
"""


def install(folder: Path) -> Path:
    """Write a program `vllm`, which is told by files in the folder what to do: `backend` (address of the model), `script`
    (a line of faults for each start: "never healthy", "port taken", "no start", "dies after N")."""
    program = folder / "vllm"
    program.write_text(PROGRAM.format(python=sys.executable, here=str(Path(__file__).parent), folder=str(folder)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def serve(folder: str, arguments: list[str]) -> None:
    """Be `vllm serve`: pass requests on to the backend under the name that was given, with a fault for this start."""
    import urllib.error
    import urllib.request

    here = Path(folder)
    named = dict(itertools.pairwise(arguments))
    lines = (here / "script").read_text().split("\n") if (here / "script").is_file() else []
    started = (here / "starts").read_text().splitlines() if (here / "starts").is_file() else []
    fault = lines[len(started)] if len(started) < len(lines) else ""
    with (here / "starts").open("a") as file:
        file.write(json.dumps([os.getpid(), arguments, os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "")]) + "\n")
    print("vllm: loading weights", "device_config=cpu" if (here / "on cpu").is_file() else "", flush=True)
    if fault == "no start":
        sys.exit("RuntimeError: architecture Tiny is not supported")
    if fault == "port taken":
        sys.exit("OSError: [Errno 98] Address already in use")
    backend, base, name = (here / "backend").read_text(), BASE, named["--served-model-name"]
    left = int(fault.removeprefix("dies after ")) if fault.startswith("dies after ") else -1
    lock = threading.Lock()

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def passed(self) -> None:
            nonlocal left
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/v1/completions":
                with lock:
                    left -= 1
                    if left == 0:
                        print("vllm: EngineCore died", flush=True)
                        os._exit(1)
            if body:
                told = json.loads(body)
                told |= {"model": base} if told.get("model") == name else {}
                body = json.dumps(told).encode()
            headers = {"X-Folder": arguments[1]}
            request = urllib.request.Request(f"{backend}{self.path}", body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request) as answer:
                    code, text = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                code, text = error.code, error.read()
            if fault == "never healthy" and self.path == "/health":
                code = 503
            text = text.replace(f'"{base}"'.encode(), f'"{name}"'.encode())
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = passed  # noqa: N815

    ThreadingHTTPServer((named["--host"], int(named["--port"])), Proxy).serve_forever()
