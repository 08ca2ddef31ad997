"""A stand-in for vLLM's server behind vLLM's command line: `vllm serve MODEL …` and `vllm --version`.

It takes the arguments of vLLM 0.33 that winnow uses, and no others. It binds its port, "loads", then listens, as vLLM
does, and has a worker process, as vLLM's engine is one. It knows the answer to "What is A + B". Variables of the
environment: STAND_IN_ANSWER (the form of an answer), STAND_IN_LOAD_S, STAND_IN_ANSWER_S, STAND_IN_END_S (how long it
takes), STAND_IN_FAULT (what it dies of while it loads), STAND_IN_TAKEN (a file: while it is not there, another program
takes the port), STAND_IN_STARTS (a folder: each start writes a file with its process, its worker, its arguments and the
requests that came).
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

THINK = "<think>\nA\n</think>\n\n\\boxed{SUM}"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
WORKER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
OTHER_PROGRAM = """
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
print("listens", flush=True)
time.sleep(600)
"""


def parsed(words: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser("vllm", allow_abbrev=False)
    p.add_argument("command", choices=["serve"])
    p.add_argument("model")
    for name in ("--served-model-name", "--tokenizer", "--chat-template", "--host", "--lora-modules"):
        p.add_argument(name)
    p.add_argument("--port", type=int)
    p.add_argument("--max-model-len", type=int)
    p.add_argument("--max-lora-rank", type=int, choices=RANKS)
    p.add_argument("--tensor-parallel-size", type=int, default=1)
    p.add_argument("--data-parallel-size", type=int, default=1)
    p.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"])
    p.add_argument("--chat-template-content-format", choices=["auto", "string", "openai"])
    p.add_argument("--generation-config")
    p.add_argument("--enable-lora", action="store_true")
    p.add_argument("--disable-uvicorn-access-log", action="store_true")
    return p.parse_args(words)


class Server(ThreadingHTTPServer):
    allow_reuse_address = False
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, args: argparse.Namespace, note: "Note") -> None:
        super().__init__((args.host, args.port), Handler, bind_and_activate=False)
        self.args, self.note = args, note
        self.key = os.environ["VLLM_API_KEY"]

    def models(self) -> list[dict[str, Any]]:
        a = self.args
        first = {"id": a.served_model_name, "root": a.model, "parent": None, "max_model_len": a.max_model_len}
        found = [first]
        if a.lora_modules:
            module = json.loads(a.lora_modules)
            found.append({"id": module["name"], "root": module["path"], "parent": a.served_model_name})
        return [{"owned_by": "vllm", "object": "model", **m} for m in found]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        if self.path == "/v1/models" and self._has_key():
            self._send(200, {"object": "list", "data": self.server.models()})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._has_key():
            return
        time.sleep(float(os.environ.get("STAND_IN_ANSWER_S", "0")))
        self.server.note.asked(body)
        question = str(body["messages"][-1]["content"])
        found = re.search(r"(\d+) \+ (\d+)", question)
        a, b = map(int, found.groups()) if found else (0, 0)
        content = os.environ.get("STAND_IN_ANSWER", THINK).replace("A", f"{a} + {b}").replace("SUM", str(a + b))
        if body.get("skip_special_tokens") is not False:
            content = content.replace("<|im_start|>", "")
        message = {"role": "assistant", "content": content}
        usage = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, {"id": "x", "model": body["model"], "choices": [choice], "usage": usage})

    def _has_key(self) -> bool:
        right = self.headers.get("authorization") == f"Bearer {self.server.key}"
        if not right:
            self._send(401, {"error": "Unauthorized"})
        return right

    def _send(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Note:
    """What a test may read of one start."""

    def __init__(self, **known: Any) -> None:
        folder = Path(os.environ["STAND_IN_STARTS"])
        folder.mkdir(exist_ok=True)
        self.path, self.lock = folder / f"{time.monotonic_ns()}.json", threading.Lock()
        self.known: dict[str, Any] = {**known, "requests": []}
        self.write()

    def asked(self, body: dict[str, Any]) -> None:
        with self.lock:
            self.known["requests"].append(body)
            self.write()

    def end(self, *_: object) -> None:
        self.known["is_ending"] = True
        self.write()
        time.sleep(float(os.environ.get("STAND_IN_END_S", "0")))
        os._exit(0)

    def write(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.known))
        part.rename(self.path)


def main() -> int:
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write("0.33.0\n")
        return 0
    args = parsed(sys.argv[1:])
    worker = subprocess.Popen(WORKER)
    note = Note(pid=os.getpid(), worker=worker.pid, arguments=sys.argv[1:])
    signal.signal(signal.SIGTERM, note.end)
    sys.stderr.write("INFO loading the weights\n")
    taken = os.environ.get("STAND_IN_TAKEN")
    if taken and not Path(taken).exists():
        command = [sys.executable, "-I", "-S", "-c", OTHER_PROGRAM, str(args.port)]
        other = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
        assert other.stdout is not None
        other.stdout.readline()
        Path(taken).write_text(str(other.pid))
    server = Server(args, note)
    server.server_bind()
    time.sleep(float(os.environ.get("STAND_IN_LOAD_S", "0")))
    if fault := os.environ.get("STAND_IN_FAULT"):
        sys.stderr.write(f"Traceback (most recent call last):\n(EngineCore pid=1) {fault}\n")
        sys.stderr.write("RuntimeError: Engine core initialization failed. See root cause above.\n")
        return 1
    server.server_activate()
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
