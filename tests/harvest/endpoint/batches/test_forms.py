"""The forms of Together and OpenRouter, against small servers that were written from the providers' pages."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from harvest.endpoint.batches import FORMS, BatchApi, Form, Refused, form_for
from harvest.endpoint.client import Teacher

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(form: Form, **routes: Handler) -> AsyncIterator[BatchApi]:
    """An API client in front of a server with these routes, written as `GET_v1_batches`, `*` for an id."""
    app = web.Application(client_max_size=1 << 26)
    for name, handler in routes.items():
        method, *path = name.split("_")
        app.router.add_route(method, "/" + "/".join("{id}" if part == "x" else part for part in path), handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with Teacher(f"http://127.0.0.1:{port}/v1", "sk-secret-key-of-the-test") as teacher:
            yield BatchApi(teacher, form)
    finally:
        await runner.cleanup()


def test_each_provider_has_its_form() -> None:
    names = {
        host: form_for(f"https://{host}/v1").name for host in ("api.openai.com", "api.groq.com", "x.openai.azure.com")
    }
    assert set(names.values()) == {"openai"}
    assert form_for("https://api.together.xyz/v1").name == "together"
    assert form_for("https://openrouter.ai/api/v1").name == "openrouter"
    assert form_for("https://api.openai.com/v1").most_bytes == 200_000_000
    assert form_for("https://evil-openrouter.ai.example/v1").name == "openai"


def test_together_wraps_its_jobs_writes_states_in_capitals_and_lists_without_pages(tmp_path: Path) -> None:
    form = next(form for form in FORMS if form.name == "together")
    file, asked = tmp_path / "rows.jsonl", dict[str, Any]()
    file.write_text(json.dumps(form.row("k", {"model": "m"})) + "\n")
    assert json.loads(file.read_text()) == {"custom_id": "k", "body": {"model": "m"}}
    job = {"id": "j1", "status": "IN_PROGRESS", "input_file_id": "f1", "created_at": "2026-11-01T00:00:00Z"}

    async def upload(request: web.Request) -> web.Response:
        parts = await request.post()
        asked["purpose"], asked["key"] = parts["purpose"], request.headers["authorization"]
        asked["file"] = parts["file"].file.read()  # type: ignore[union-attr]
        return web.json_response({"id": "f1"})

    async def create(request: web.Request) -> web.Response:
        asked["create"] = await request.json()
        return web.json_response({"job": job})

    async def listed(_: web.Request) -> web.Response:
        return web.json_response([{"id": "j0", "status": "COMPLETED"}, job])

    async def look(_: web.Request) -> web.Response:
        return web.json_response({**job, "status": "COMPLETED", "output_file_id": "o1", "error_file_id": ""})

    async def run() -> None:
        routes = {"POST_v1_files_upload": upload, "POST_v1_batches": create, "GET_v1_batches": listed}
        async with served(form, **routes, GET_v1_batches_x=look) as api:
            assert await api.upload(file) == "f1"
            created = await api.create("f1", {"winnow_batch": "b"})
            assert (created.id, created.state, created.has_ended) == ("j1", "in_progress", False)
            assert [(s.id, s.input_file_id) async for s in api.all()] == [("j0", None), ("j1", "f1")]
            ended = await api.look("j1")
            assert (ended.state, ended.files, ended.answered) == ("completed", ("o1",), None)

    asyncio.run(run())
    assert asked["purpose"] == "batch-api"
    assert asked["file"] == file.read_bytes()
    assert asked["create"] == {"input_file_id": "f1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def test_openrouter_takes_the_rows_in_the_batch_and_gives_results_by_pages(tmp_path: Path) -> None:
    form = next(form for form in FORMS if form.name == "openrouter")
    file, results, bodies = tmp_path / "rows.jsonl", tmp_path / "results.jsonl", list[str]()
    file.write_text("".join(json.dumps(form.row(f"k{n}", {"messages": [n]})) + "\n" for n in range(3)))

    async def create(request: web.Request) -> web.Response:
        bodies.append(await request.text())
        return web.json_response({"id": "b1", "status": "validating"}, status=202)

    async def pages(request: web.Request) -> web.Response:
        n = int(request.query.get("cursor", "0"))
        more = {"has_more": n < 2, "next_cursor": str(n + 1) if n < 2 else None}
        return web.json_response({"data": [{"custom_id": f"k{n}", "response": None, "error": None}], **more})

    async def run() -> None:
        async with served(form, POST_v1_batches=create, GET_v1_batches_x_results=pages) as api:
            created = await api.create_of_rows(file, "m", {"winnow_batch": "b"})
            assert (created.id, created.state) == ("b1", "validating")
            await api.fetch_pages("b1", results, 1 << 20)

    asyncio.run(run())
    sent = json.loads(bodies[0])
    assert list(sent)[:2] == ["endpoint", "model"], "OpenRouter reads the body as it comes: these two stand first"
    assert list(sent)[-1] == "requests"
    assert [row["custom_id"] for row in sent["requests"]] == ["k0", "k1", "k2"]
    assert [json.loads(row)["custom_id"] for row in results.read_text().splitlines()] == ["k0", "k1", "k2"]


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_download_goes_on_behind_what_has_come(tmp_path: Path, takes_ranges: bool) -> None:
    data = bytes(range(256)) * 40
    to, ranges = tmp_path / "f", list[str | None]()
    to.write_bytes(data[:3_000])

    async def content(request: web.Request) -> web.Response:
        ranges.append(request.headers.get("range"))
        return web.Response(status=206, body=data[3_000:]) if takes_ranges else web.Response(body=data)

    async def run() -> None:
        async with served(FORMS[0], GET_v1_files_x_content=content) as api:
            await api.fetch("f", to, 1 << 20)

    asyncio.run(run())
    assert ranges == ["bytes=3000-"]
    assert to.read_bytes() == data


@pytest.mark.parametrize("more", [{"has_more": True}, {}])
def test_a_list_is_walked_to_its_end_also_where_it_repeats_itself(more: dict[str, bool]) -> None:
    pages = {None: ["a", "b"], "b": ["c"], "c": ["c"]}

    async def listed(request: web.Request) -> web.Response:
        ids = pages[request.query.get("after")]
        return web.json_response({"data": [{"id": one} for one in ids], **more})

    async def run() -> list[str]:
        async with served(FORMS[0], GET_v1_batches=listed) as api:
            return [status.id async for status in api.all()]

    assert asyncio.run(run()) == ["a", "b", "c"]


def test_a_refusal_has_its_status_and_never_the_key() -> None:
    async def refuse(request: web.Request) -> web.Response:
        said = {"message": f"no {request.headers['authorization']}", "code": "token_limit_exceeded"}
        return web.json_response({"error": said}, status=429)

    async def run() -> Refused:
        async with served(FORMS[0], GET_v1_batches_x=refuse) as api:
            with pytest.raises(Refused) as refused:
                await api.look("b")
            return refused.value

    refused = asyncio.run(run())
    assert refused.queue_is_full
    assert "sk-secret" not in str(refused)
