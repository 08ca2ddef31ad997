"""The API key is found nowhere after a run in which the endpoint echoed it in every possible way."""

import json
import os
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from conftest import Place, scaled, sums
from scripted_endpoint import Asked, Endpoint, Say, echo, right_answer
from test_kill import children_of

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
CANARY = "sk-canary-7Qz0Xw93LmTq5Rb8Vn2K"
PART = 12
"""A run of so many characters of it is as bad as the whole."""


def parts(text: str) -> list[str]:
    """What of the key a text holds: every piece of it that is long enough to matter."""
    return [CANARY[i : i + PART] for i in range(len(CANARY) - PART + 1) if CANARY[i : i + PART] in text]


def texts_of(place: Place) -> Iterator[tuple[str, str]]:
    """(where, text) of all that the run left behind: each file as it lies, and each reply unpacked."""
    for path in place.folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes().decode("latin-1")
    with closing(sqlite3.connect(place.store)) as db:
        for table in ("run", "session", "question", "attempt", "try", "verdict", "event"):
            for row in db.execute(f"SELECT * FROM {table}"):
                yield f"table {table}", repr(row)
        for (body,) in db.execute("SELECT body FROM reply"):
            text = zstandard.decompress(body).decode("utf-8", "surrogatepass")
            yield "table reply", text
            yield "table reply, its texts joined", "".join(strings(json.loads(text)))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for k, v in value.items():
            yield from strings(k)
            yield from strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)


READERS = (["report", "r"], ["report", "r", "--json"], ["export", "r", "--which", "all"], ["why", "r", "q0"])


def swept(place: Place, *commands: list[str]) -> None:
    """Runs collect, and then commands that read its store; looks for the key in all that they say and leave."""
    place.settings["teacher"]["api_key_env"] = "WINNOW_TEST_KEY"
    place.env["WINNOW_TEST_KEY"] = CANARY
    code, out, err = place.collect()
    assert code in (0, 4, 5), err
    said = [("collect", out + err)]
    del place.env["WINNOW_TEST_KEY"]
    for command in commands:
        code, out, err = place.harvest(*command)
        assert code == 0, err
        said.append((" ".join(command), out + err))
    for where, text in (*said, *texts_of(place)):
        assert not parts(text), f"{where} holds {parts(text)[0]!r} of the key: …{around(text)}…"


def around(text: str) -> str:
    at = text.index(parts(text)[0])
    return text[max(0, at - 60) : at + 60]


def key_of(asked: Asked) -> str:
    return asked.headers["authorization"].removeprefix("Bearer ")


def test_the_key_is_sent_and_only_sent(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, 3)
    swept(p, *READERS)
    assert {key_of(a) for a in teacher.asked} == {CANARY}


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


ECHOES: dict[str, Callable[[Asked], Say]] = {
    "in an error": echo,
    "in a 400": lambda a: Say(status=400, error="bad", message=f"bad header {a.head}"),
    "in a plain error body": lambda a: Say(status=502, raw=a.head.encode()),
    "in an error code": lambda a: Say(status=500, error=key_of(a)),
    "in the answer": lambda a: Say(text=f"{key_of(a)} {right_answer(a.question)}"),
    "in the chain": lambda a: Say(chain=a.head),
    "as the whole answer": lambda a: Say(text=key_of(a)),
    "in the ids": lambda a: Say(more={"id": key_of(a), "model": key_of(a), "system_fingerprint": key_of(a)}),
    "in unread fields": lambda a: Say(more={"debug": {key_of(a): [key_of(a), {"h": a.head}]}}),
    "in the usage": lambda a: Say(usage_more={"note": key_of(a), key_of(a): 1}),
    "as the finish reason": lambda a: Say(finish=key_of(a)),
    "in a tool call": lambda a: Say(
        more={
            "choices": [
                {
                    "message": {
                        "content": right_answer(a.question),
                        "tool_calls": [{"id": "1", "function": {"name": key_of(a), "arguments": a.head}}],
                    },
                    "finish_reason": "stop",
                }
            ]
        }
    ),
    "in log-probabilities": lambda a: Say(
        more={
            "choices": [
                {
                    "message": {"content": right_answer(a.question)},
                    "finish_reason": "stop",
                    "logprobs": {
                        "content": [
                            {"token": key_of(a), "logprob": -0.1, "id": 5, "top_logprobs": [{"token": key_of(a)}]}
                        ]
                    },
                }
            ]
        }
    ),
    "with json escapes": lambda a: Say(
        raw=json.dumps(Say(text="KEY").document(a)).replace("KEY", escaped(key_of(a)) + " \\\\boxed{1}").encode()
    ),
    "in a 200 that is no json": lambda a: Say(raw=b"oops " + a.head.encode()),
    "in an error inside a 200": lambda a: Say(raw=json.dumps({"error": {"message": a.head}}).encode()),
    "in a body that breaks off": lambda a: Say(raw=json.dumps({"x": a.head}).encode(), cut_at=90),
    "in headers": lambda a: Say(headers={"x-echo": key_of(a), "set-cookie": f"k={key_of(a)}; =; \x01"}),
    "in a redirect": lambda a: Say(status=302, raw=b"", headers={"location": f"/{key_of(a)}"}),
    "as a status line": lambda a: Say(wire=f"HTTP/1.1 {key_of(a)}\r\n\r\n".encode(), made=True),
    "as a broken header": lambda a: Say(wire=f"HTTP/1.1 200 OK\r\n{key_of(a)}\r\n\r\n".encode(), made=True),
    "as a broken chunk": lambda a: Say(
        wire=f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{key_of(a)}\r\n".encode(), made=True
    ),
    "in retry-after": lambda a: Say(status=429, headers={"retry-after": key_of(a), "retry-after-ms": "5"}),
    "as the packing": lambda a: Say(headers={"content-encoding": key_of(a)}),
}


def each(scripts: Mapping[str, Callable[[Asked], Say]]) -> Callable[[Asked], Say]:
    """A script for a run of as many questions as there are scripts: each question is answered by its own at first."""
    by_question = dict(zip((r["question"] for r in sums(len(scripts))), scripts.values(), strict=True))
    return lambda asked: Say() if asked.again else by_question[asked.question](asked)


def test_no_echo_of_the_key_is_found_anywhere(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, len(ECHOES), sampling__top_logprobs=2, sampling__tries=3)
    teacher.script = each(ECHOES)
    swept(p, *READERS, *(["why", "r", f"q{n}"] for n in range(1, len(ECHOES), scaled(6, 1))))
    assert {key_of(a) for a in teacher.asked} == {CANARY}
    assert p.report["questions"]["asked"] == len(ECHOES)


REFUSALS = {
    "401": lambda a: Say(status=401, error="invalid_api_key", message=f"Incorrect API key provided: {key_of(a)}"),
    "unknown model": lambda a: Say(status=404, error="model_not_found", message=a.head),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_no_refusal_that_echoes_the_key_shows_it(how: str, endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint(REFUSALS[how]).url, 2)
    swept(p, ["why", "r", "q0"])
    assert p.report["run"]["status"] == "refused"


def test_a_key_where_messages_are_cut_is_found_nowhere(endpoint: Endpoints, place: Places) -> None:
    """Long messages are cut short at some length: wherever that is, no first half of the key is left."""
    cuts = (20, 60, 80, 100, 120, 200, 500, 600, 1000, 2000)
    lengths = sorted({n for limit in cuts for n in range(max(0, limit - len(CANARY) - 40), limit, scaled(6, 1))})
    kinds: list[Callable[[Asked, str], Say]] = [
        lambda _, text: Say(status=500, error="server_error", message=text),
        lambda _, text: Say(raw=text.encode()),
        lambda _, text: Say(more={"id": text, "model": text}),
    ]

    def script(asked: Asked) -> Say:
        length = lengths[int(asked.question.split()[2]) % len(lengths)]
        return kinds[asked.n % len(kinds)](asked, "x" * length + " " + key_of(asked) + " after")

    p = place(endpoint(script).url, len(lengths), sampling__tries=len(kinds) if scaled(0, 1) else 1, budget__usd="9.00")
    swept(p)
    assert sum(p.report["attempts"]["failed"].values()) >= len(lengths) // 2


def test_a_stream_cut_at_every_position_leaves_no_key(endpoint: Endpoints, place: Places) -> None:
    """Its bytes arrive in two pieces, cut at each place in turn."""
    step, rows = scaled(9, 1), scaled(120, 1_100)

    def script(asked: Asked) -> Say:
        at = 1 + int(asked.question.split()[2]) * step
        text = f"{key_of(asked)} {right_answer(asked.question)}"
        return Say(chain=f"a {key_of(asked)} b", text=text, pieces=(at,), gap_s=0.005)

    p = place(endpoint(script).url, rows, teacher__stream=True, budget__usd="20.00")
    swept(p)
    assert p.report["questions"]["solved"] == rows


def test_a_stream_in_small_pieces_leaves_no_key(endpoint: Endpoints, place: Places) -> None:
    sizes = (1, 2, 5, len(CANARY) - 1, len(CANARY), len(CANARY) + 1, 64)

    def script(asked: Asked) -> Say:
        size = sizes[int(asked.question.split()[2])]
        text = f"{key_of(asked)} {right_answer(asked.question)}"
        return Say(chain=asked.head, text=text, pieces=tuple(range(size, 3_000, size)), gap_s=0.0005)

    p = place(endpoint(script).url, len(sizes), teacher__stream=True)
    swept(p, ["why", "r", "q0"])
    assert p.report["questions"]["solved"] == len(sizes)


def test_a_key_split_over_two_events_leaves_nothing(endpoint: Endpoints, place: Places) -> None:
    def script(asked: Asked) -> Say:
        key, split = key_of(asked), 1 + int(asked.question.split()[2])
        deltas = [{"reasoning_content": key[:split]}, {"reasoning_content": key[split:]}, {"content": key[:split]}]
        return Say(events=(*deltas, {"content": key[split:] + right_answer(asked.question)}))

    p = place(endpoint(script).url, len(CANARY) - 1, teacher__stream=True)
    swept(p, ["why", "r", "q7"])
    assert p.report["questions"]["asked"] == len(CANARY) - 1


def test_a_stream_that_breaks_off_within_the_key_leaves_nothing(endpoint: Endpoints, place: Places) -> None:
    step, rows = scaled(9, 1), scaled(60, 540)

    def script(asked: Asked) -> Say:
        n = int(asked.question.split()[2])
        return Say(chain=asked.head, cut_at=60 + n * step) if n % 5 else Say()

    p = place(endpoint(script).url, rows, teacher__stream=True, sampling__tries=1, budget__usd="9.00")
    swept(p)
    assert p.report["questions"]["asked"] == rows
    assert p.report["attempts"]["failed"]["cut"] >= rows // 3


def test_a_key_in_a_header_or_among_the_log_probabilities_leaves_nothing(endpoint: Endpoints, place: Places) -> None:
    def script(asked: Asked) -> Say:
        key = key_of(asked)
        if asked.n % 2:
            return Say(headers={"content-encoding": key}, made=True)
        token = {"token": key, "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": key, "logprob": -0.1}]}
        document = Say().document(asked)
        document["choices"][0]["logprobs"] = {"content": [token]}
        raw = json.dumps(document).replace(json.dumps(key), f'"{escaped(key)}"').encode()
        return Say(raw=raw)

    teacher = endpoint(script)
    swept(place(teacher.url, 4, sampling__top_logprobs=1), *READERS)


def test_a_packed_echo_leaves_nothing(endpoint: Endpoints, place: Places) -> None:
    def script(asked: Asked) -> Say:
        body = json.dumps(Say(text=asked.head + right_answer(asked.question)).document(asked)).encode()
        return Say(raw=zlib.compress(body), headers={"content-encoding": "deflate"})

    swept(place(endpoint(script).url, 1), ["why", "r", "q0"])


HARD = [{"id": f"h{n}", "question": f"hard {n}", "answer": f"\\frac{{\\sqrt{{{n + 2}}}}}{{x+1}}"} for n in range(3)]


def test_no_child_and_no_process_title_holds_the_key(endpoint: Endpoints, place: Places) -> None:
    """Looks at every child of the run, while it lives, as anyone on the machine may."""
    teacher = endpoint(lambda _: Say(text="\\boxed{\\sqrt{2}/(1+x)}", delay_s=0.1))
    p = place(teacher.url, HARD, sampling__samples=4, teacher__api_key_env="WINNOW_TEST_KEY")
    p.env["WINNOW_TEST_KEY"] = CANARY
    process = p.start()
    seen: dict[int, str] = {}
    titles: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for pid in children_of(process.pid):
                with suppress(OSError):
                    seen[pid] = Path(f"/proc/{pid}/environ").read_bytes().decode("latin-1")
                    titles.add(Path(f"/proc/{pid}/cmdline").read_bytes().decode("latin-1"))
            with suppress(OSError):
                titles.add(Path(f"/proc/{process.pid}/cmdline").read_bytes().decode("latin-1"))
                titles.add(Path(f"/proc/{process.pid}/comm").read_text())
            time.sleep(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    out, err = process.communicate(timeout=60)
    ended.set()
    watcher.join()
    assert process.returncode == 0, err
    assert any("PATH=" in environ for environ in seen.values()), "no child was seen: nothing is tested"
    for text in (*seen.values(), *titles, out, err):
        assert not parts(text)
        assert "WINNOW_TEST_KEY" not in text


def test_what_a_run_leaves_is_its_owners_alone(endpoint: Endpoints, place: Places) -> None:
    old = os.umask(0)
    try:
        p = place(endpoint().url, 2)
        assert p.collect()[0] == 0
    finally:
        os.umask(old)
    made = [p.store, Path(f"{p.store}.lock"), *(p.folder / "runs").rglob("*"), p.folder / "runs"]
    assert {f.name for f in made} >= {"store.db", "report.json", "config.json", "dataset"}
    for path in made:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"teacher__api_key_env": "WINNOW_TEST_KEY"}, "WINNOW_TEST_KEY is not set"),
        ({"teacher__api_key_env": CANARY}, "not a key"),
        ({"teacher__api_key": CANARY}, "environment variable"),
        ({"teacher__base_url": f"https://u:{CANARY}@127.0.0.1/v1"}, "base_url"),
    ],
    ids=["not set", "a key for a name", "a key in the file", "a key in the address"],
)
def test_a_key_in_the_wrong_place_is_refused_without_being_shown(
    settings: dict[str, Any], said: str, endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint()
    p = place(teacher.url, 1, **settings)
    code, out, err = p.collect()
    assert code == 2
    assert said in err
    assert not parts(out + err)
    assert "Traceback" not in err
    assert teacher.asked == []
