"""Serves a trained student at an OpenAI-compatible address on this machine, for `harvest collect` to ask.

    python benchmarks/serve_student.py data/students/mine --port 8099

Requests that come close together are answered as one batch by `finetune eval`'s engine, which on two cores is ten times
as fast as one by one. It is for measurements only: it knows no keys and listens on 127.0.0.1. `finetune merge` prints
the lines that serve a student with vLLM, SGLang or transformers.
"""

import argparse
import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from finetune.measure.engine import Asked, Generated
from finetune.measure.generate import TransformersEngine
from finetune.measure.sampling import Sampling
from finetune.student import find
from finetune.train.sft import quiet
from harvest.core.nouns import Question

GATHER_S = 0.3
"""How long the first of a batch waits for others."""
MOST = 64


class Batches:
    """Requests, gathered; one thread answers them."""

    def __init__(self, student: str) -> None:
        quiet()
        self.engine = TransformersEngine(find(student))
        self.waiting: queue.Queue[tuple[dict[str, Any], Future[Generated]]] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> Generated:
        done: Future[Generated] = Future()
        self.waiting.put((body, done))
        return done.result()

    def _work(self) -> None:
        while True:
            batch = [self.waiting.get()]
            until = time.monotonic() + GATHER_S
            while len(batch) < MOST and (left := until - time.monotonic()) > 0:
                try:
                    batch.append(self.waiting.get(timeout=left))
                except queue.Empty:
                    break
            try:
                self._answer(batch)
            except Exception as e:  # noqa: BLE001 - whoever waits must be told, or waits for ever
                for _, done in batch:
                    if not done.done():
                        done.set_exception(e)

    def _answer(self, batch: list[tuple[dict[str, Any], Future[Generated]]]) -> None:
        alike: dict[tuple[int, float, int], list[int]] = {}
        for i, (body, _) in enumerate(batch):
            settings = (body.get("max_tokens", 512), body.get("temperature") or 0.0, body.get("seed") or 0)
            alike.setdefault(settings, []).append(i)
        for (max_tokens, temperature, seed), places in alike.items():
            asked = [Asked(Question(id=str(i), question="?", check="text"), 0, batch[i][0]["messages"]) for i in places]
            for answers in self.engine.answers(asked, Sampling(max_tokens, temperature, seed=seed)):
                for a, generated in answers:
                    batch[int(a.question.id)][1].set_result(generated)


def completion(model: str, generated: Generated) -> dict[str, Any]:
    """As /chat/completions answers. The prompt's tokens are not counted, and so not told."""
    return {
        "id": "student",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": generated.text},
                "finish_reason": "stop" if generated.is_finished else "length",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": generated.output_tokens},
    }


@contextmanager
def served(student: str, port: int) -> Iterator[str]:
    """The address, while it is served. Port 0 takes a free one."""
    batches = Batches(student)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, found = 200, completion(body["model"], batches.answer(body))
            except Exception as e:  # noqa: BLE001 - the client is told
                status, found = 500, {"error": {"message": f"{type(e).__name__}: {e}"}}
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("--port", type=int, default=8099)
    args = parser.parse_args()
    with served(args.student, args.port) as address:
        print(f"{Path(args.student).name} at {address}, until Ctrl-C", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
