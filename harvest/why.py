"""One question, attempt by attempt: what was asked, what came, what each check said, what it cost."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from harvest.money import usd
from harvest.trace import Reply

SHOWN_CHARS = 4000


def story_json(story: dict[str, Any]) -> dict[str, Any]:
    """The story as plain data."""
    question = story["question"]
    return {
        "question_id": question.id,
        "status": story["status"],
        "question": question.question,
        "gold": question.answer,
        "check": question.check,
        "attempts": [
            {
                "sample": a["sample"],
                "max_tokens": a["max_tokens"],
                "state": a["state"],
                "accepted": None if a["accepted"] is None else bool(a["accepted"]),
                "reason": a["reason"],
                "reused": bool(a["reused"]),
                "tries": [_try_json(t) for t in a["tries"]],
                "verdicts": [
                    {k: v[k] for k in ("check_name", "version", "outcome", "detail", "at")} for v in a["verdicts"]
                ],
                "reasoning": a["reply"].reasoning if a["reply"] else None,
                "answer": a["reply"].answer if a["reply"] else None,
                "finish_reason": a["reply"].finish_reason if a["reply"] else None,
            }
            for a in story["attempts"]
        ],
    }


def _try_json(t: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "state",
        "kind",
        "message",
        "sent_at",
        "ended_at",
        "input_tokens",
        "output_tokens",
        "served_model",
        "response_id",
    )
    money = {
        f"{name}_usd": None if t[column] is None else usd(t[column])
        for name, column in (("cost", "cost"), ("in_doubt", "doubt"), ("reserved", "reserved"))
    }
    return {k: t[k] for k in kept} | money


def tell(story: dict[str, Any]) -> None:
    """On stdout, for people. A model's text is shown as text, whatever is in it."""
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(story):
        console.print(line)


def _lines(story: dict[str, Any]) -> Iterator[Text]:
    question = story["question"]
    yield Text(f"{_safe(question.id)}: {story['status'].replace('_', ' ')}", "bold")
    yield _shown("question", question.question)
    yield _shown("gold", question.answer or "none")
    if not story["attempts"]:
        yield Text("not asked yet")
    for a in story["attempts"]:
        head = {None: a["state"], 1: "accepted", 0: f"rejected: {str(a['reason']).replace('_', ' ')}"}[a["accepted"]]
        if a["state"] == "failed":
            head = f"failed: {a['reason']}"
        yield Text("")
        style = "green" if a["accepted"] else "red" if a["accepted"] == 0 or a["state"] == "failed" else ""
        yield Text(
            f"sample {a['sample']}, at most {a['max_tokens']} tokens: {head}{' (reused)' if a['reused'] else ''}", style
        )
        for t in a["tries"]:
            yield Text(f"  {t['sent_at']}  {_of_try(t)}")
        for v in a["verdicts"]:
            yield Text(
                f"  check {v['check_name']} {v['version']}: {v['outcome'].replace('_', ' ')} – {_safe(v['detail'])}"
            )
        yield from _reply(a["reply"])


def _of_try(t: dict[str, Any]) -> str:
    words = [t["state"].replace("_", " ")]
    if t["kind"]:
        words.append(f"({t['kind']}: {_safe(t['message'] or '')})")
    elif t["message"]:
        words.append(f"({_safe(t['message'])})")
    if t["output_tokens"] is not None:
        words.append(f"{t['output_tokens']} tokens")
    if t["doubt"] is not None:
        words.append(f"{usd(t['doubt'])} USD in doubt")
    elif t["cost"] is not None:
        words.append(f"{usd(t['cost'])} USD")
    elif t["state"] == "answered":
        words.append("cost not known")
    return " ".join(words)


def _reply(reply: Reply | None) -> Iterator[Text]:
    if reply is None:
        return
    if reply.reasoning:
        yield _shown("  chain", reply.reasoning)
    yield _shown("  answer", reply.answer)


def _shown(name: str, text: str) -> Text:
    cut = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + f" … ({len(text) - SHOWN_CHARS:,} more characters)"
    return Text(f"{name}: ", "dim") + Text(_safe(cut))


def _safe(text: str) -> str:
    """Without control characters, which could drive a terminal."""
    return "".join(c if c in "\n\t" or (c.isprintable()) else "\N{REPLACEMENT CHARACTER}" for c in text)
