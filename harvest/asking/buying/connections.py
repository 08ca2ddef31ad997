"""Opens the connection to a teacher, the student or the judging model: to an endpoint at its address, or to the
embedded server once it has started."""

import asyncio
import resource
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from harvest.asking.planning.keys_and_prices import variables_of
from harvest.asking.planning.run import Run
from harvest.core.teachers import Teacher
from harvest.endpoint import client
from harvest.endpoint.credentials import Access

ROOM_FOR_PROMPT_TOKENS = 1024
SPARE_FILES = 128
"""How many open files are kept for other things than requests: the store, the processes that run checks, questions,
exports."""
Keys = Mapping[str, str]
"""The API keys, each under the name of its environment variable."""


async def connect(
    run: Run, keys: Keys, stack: AsyncExitStack, droppable: frozenset[str], address: str | None = None
) -> client.Teacher:
    """Returns the client for the endpoint that `run` asks; `stack` closes it. `droppable` are the parameters that may
    be left out of a request if the endpoint refuses them. `address` is one of the teacher's replicas; None: its
    base_url."""
    teacher = run.config.teacher
    base_url, key = address or teacher.base_url or "", keys.get(teacher.api_key_env or "")
    if teacher.local is not None:
        from harvest.local.server import LocalServer

        sampling = run.config.sampling
        context = max(sampling.max_tokens, sampling.raised_limit) + ROOM_FOR_PROMPT_TOKENS
        server = LocalServer(teacher.local, slots=teacher.most_at_once, context_tokens=context)
        stack.callback(server.close)
        await asyncio.to_thread(server.start)
        base_url, key = server.base_url, server.api_key
    if run.served is not None:
        base_url, key = run.served.base_url, run.served.key
    connected = client.Teacher(
        base_url,
        key,
        access=access_of(teacher, keys),
        stream=teacher.stream,
        idle_timeout_s=teacher.idle_timeout_s or None,
        stop_repeating=teacher.stop_repeating,
        droppable=droppable,
    )
    return await stack.enter_async_context(connected)


def access_of(teacher: Teacher, keys: Keys) -> Access:
    """Returns how requests to an endpoint are addressed and signed, beside its address and a fixed key."""
    secret = {name: keys[variable] for name, variable in variables_of(teacher).items()}
    headers = {**teacher.headers, **secret}
    values = tuple(secret.values())
    return Access(teacher.api_key_command, headers, values, teacher.azure_api_version, teacher.model or "")


def connections_allowed(wanted: int, say: Callable[[str], None]) -> int:
    """Returns how many of the wanted connections this process may open. Says so in one line if it is less than
    `wanted`.

    Each request in flight is an open file, and many shells allow 1,024 open files unless a program asks for more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed >= needed:
        return wanted
    fewer = max(1, allowed - SPARE_FILES)
    say(
        f"max_concurrency = {wanted:,} needs more open files than the {hard:,} allowed here: at most {fewer:,} at once"
        f" (`ulimit -n {needed}` in the shell, or the system's limit, allows more)"
    )
    return fewer
