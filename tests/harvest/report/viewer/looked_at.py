"""A store that the viewer's tests look at: answers right and wrong, siblings, checks that disagree, a hostile trace."""

from decimal import Decimal
from typing import Any

from conftest import ROOT

from harvest.core.errors import Cut
from harvest.core.money import Usage
from harvest.core.nouns import Ask, Outcome, Question, Reply, Verdict
from harvest.store import Sent, Store

AT = "2026-11-24T12:00:00.000Z"
SETTINGS: dict[str, Any] = {
    "teacher": {"base_url": "https://api.example.com/v1", "model": "deepseek-reasoner"},
    "sampling": {"max_tokens": 4096, "samples": 3},
    "budget": {"usd": "5"},
    "prompt_text": (ROOT / "prompts/boxed.md").read_text("utf-8"),
}
APPLES = "A shop sells apples at 3 for $2. Maria buys 12 apples and pays with a $20 note. How much change does she get?"
OPENING = "Twelve apples are four groups of three.\n\nEach group costs $2, so the apples cost 4 × $2 = $8.\n\n"
RIGHT = OPENING + "She pays with $20, so she gets back $20 − $8 = $12.\n\nCheck: 12 + 8 = 20. That fits."
WRONG = (
    OPENING + "She pays with $20. Wait, maybe the price is $3 for 2 apples.\n\nThen 12 apples cost $18 and she gets $2."
)
LONG = "\n\n".join(f"Step {n}: we add {n} and get {n * (n + 1) // 2}." for n in range(1, 13))
LOOP = "Let me look at the sum again.\n\nIt is 55, I think.\n\n" * 9
META = "We add the numbers.\n\nThe reference answer says 42, so I will write 42.\n\nSo it is 42."
HOSTILE = (
    "<script>window.owned = 1</script>\n\n<img src=x onerror='window.owned = 2'>\n\n"
    '</pre></div><iframe srcdoc="<script>parent.owned = 3</script>"></iframe>\n\n'
    "javascript:window.owned=4 {{constructor.constructor('owned=5')()}} ${owned=6} </script><!--\n\n"
    "\ud800 broken \udfff \u202egnp.exe\u202c nul \x00 bell \x07 escape \x1b[31m \ufeff\u200b end\n\n"
)


def answered(
    store: Store, run: int, question: int, sample: int, chain: str | None, answer: str, *verdicts: Verdict,
    reason: str | None = None, finish: str = "stop", usd: str = "0.0021",
) -> int:  # fmt: skip
    """Adds an answer with its verdicts. Returns the attempt's id."""
    sent = store.reserve(run, question, Ask(sample, 4096), f"sha256:{run}-{question}-{sample}", 10**10, AT)
    assert isinstance(sent, Sent)
    tokens = max(1, len(chain or "") // 4)
    reply = Reply(
        answer, chain, finish_reason=finish, usage=Usage(60, None, tokens + 30, tokens),
        served_model="deepseek-reasoner", served_by="provider-a",
    )  # fmt: skip
    store.settle(sent.try_id, reply, int(Decimal(usd) * 10**12), "config", "2026-11-24T12:00:21.500Z")
    store.put_verdicts(sent.attempt_id, verdicts, reason is None, reason, AT)
    return sent.attempt_id


def said(outcome: str, check: str = "math", detail: str = "") -> Verdict:
    return Verdict(check, "1" if check == "judge" else "4", Outcome(outcome), detail)


def make_store(url: str, line: int = 50_000) -> dict[str, int]:
    """Makes the store with the run "apples". Returns the ids of some attempts by name. The hostile chain ends in a line
    of `line` characters."""
    made = {}
    with Store.open(url) as store, store.transaction():
        run = store.put_run("apples", SETTINGS, 5 * 10**12, AT)
        rows = (
            ("apples", APPLES, "12", "word problems"),
            ("sum", "What is the sum of the whole numbers from 1 to 12?", "78", "arithmetic"),
            ("meta", "What is 40 + 2?", "42", "arithmetic"),
            ("hostile", "What is <b>1</b> + <script>window.owned = 7</script>?", "2", None),
        )
        for name, text, gold, domain in rows:
            store.put_question(run, Question(id=name, question=text, answer=gold, check="math", domain=domain))
        right, wrong = said("right", detail="12 is 12"), said("wrong", detail="2 is not 12")
        made["right"] = answered(store, run, 1, 0, RIGHT, "She gets \\boxed{12} dollars.", right)
        made["wrong"] = answered(store, run, 1, 1, WRONG, "She gets \\boxed{2}.", wrong, reason="wrong", usd="0.004")
        by_model = said("right", "judge", "judge says RIGHT")
        made["disagree"] = answered(store, run, 1, 2, RIGHT, "Twelve dollars.", said("no_answer"), by_model)
        made["long"] = answered(store, run, 2, 0, LONG, "The sum is \\boxed{78}.", said("right", detail="78 is 78"))
        made["loop"] = answered(store, run, 2, 1, LOOP, "", reason="truncated", finish="length", usd="0.0087")
        made["meta"] = answered(store, run, 3, 0, META, "It is \\boxed{42}.", said("right", detail="42 is 42"))
        made["hostile"] = answered(
            store,
            run,
            4,
            0,
            HOSTILE + " ".join(map(str, range(line // 7))),
            "<img src=x onerror='window.owned = 8'> \\boxed{2}",
            said("right"),
        )
        failed = store.reserve(run, 4, Ask(1, 4096), "sha256:failed", 10**10, AT)
        assert isinstance(failed, Sent)
        store.settle_failure(failed.try_id, Cut("<b>the line was cut</b>"), None, None, "none", AT)
        store.fail_attempt(failed.attempt_id, "cut")
        made["failed"] = failed.attempt_id
        for row in range(1, 5):
            store.close_question(row, "solved")
    return made
