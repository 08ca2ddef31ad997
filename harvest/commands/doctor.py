"""`harvest doctor` sends one small request to the student and to each teacher, and says what the request shows.

So the user can test a teacher before a run depends on it. The request goes through the ledger like any other: it is
reserved, booked and capped. It belongs to a run of its own, `<name>-doctor`, which spends under the cap of the run.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from harvest.asking.buying.connections import Keys, connect
from harvest.asking.buying.tries import Tries
from harvest.asking.planning.keys_and_prices import checked_tariff, take_keys, variables_of
from harvest.asking.planning.preparation import put_run
from harvest.asking.planning.run import LEARNED, Run, asked_about, doctors_name, in_mode, runs_by_place
from harvest.asking.planning.teacher_terms import refuse_unaccepted, terms_of
from harvest.asking.waste import MOST_WITHOUT_CHAIN, is_hidden
from harvest.commands.progress import say
from harvest.core.claims import tier_of
from harvest.core.clock import now
from harvest.core.config import RunConfig, called, configs, section_of
from harvest.core.errors import (
    AttemptFailed,
    CapReached,
    ChainsHidden,
    ConfigError,
    InputError,
    RunRefused,
    SandboxUnavailable,
    TeacherRefused,
)
from harvest.core.money import cost_of, usd
from harvest.core.nouns import STUDENT, Ask, Claim, Continuation, CutPart, Question, Reply
from harvest.core.teachers import JudgeModel, RewriteModel, Sampling, Student
from harvest.core.teachers import Teacher as TeacherSettings
from harvest.endpoint import GENAI_PRICES, Tariff, installed_list, tariff_of
from harvest.endpoint import prompt as prompts
from harvest.endpoint.batches import BatchApi, form_for
from harvest.endpoint.client import Arriving, Teacher, request_body
from harvest.endpoint.continuation import continuing_body, forms_for
from harvest.endpoint.listed_model import ListedModel, listed_model
from harvest.endpoint.transport import LOOPBACK
from harvest.sandbox import isolation
from harvest.store import Sent, Store, Writer

MAX_TOKENS = 1024
TOP_LOGPROBS = 5
QUESTION = Question(id="doctor", question="What is 17 + 25?", answer="42", check="math")
GO_ON_TOKENS = 16
CUT_QUESTION = Question(
    id="doctor-cut",
    question="Write the numbers from one to thirty in words, in one line.",
    answer="thirty",
    check="text",
)
NEXT_WORD = " twelve"
_COUNTED = "one two three four five six seven eight nine ten eleven"
CUT: dict[CutPart, Reply] = {
    "chain": Reply("", f"I write them in order: {_COUNTED}", "chain"),
    "answer": Reply(_COUNTED, "They are to stand in one line, in words.", "chain"),
}
"""Answers to CUT_QUESTION that were cut before NEXT_WORD, in their chain and after it."""
DROPPABLE = frozenset({"temperature", "logprobs", "top_logprobs"})
"""Parameters that are sent to find out whether the endpoint refuses them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Says one thing that doctor found. `good` is True when it is fine, False for a problem, and None when it is
    neither."""

    name: str
    words: str
    good: bool | None = None


@dataclass(slots=True)
class Diagnosis:
    """Collects what one small request to the student or to one teacher showed."""

    name: str
    """Says in words who was asked."""
    findings: list[Finding] = field(default_factory=list)
    toml: list[str] = field(default_factory=list)
    """Lines that are suggested for RUN.toml."""
    failure: AttemptFailed | None = None
    """Says why no answer came. None: an answer came."""
    hides_chain: bool | None = None
    """Whether the endpoint kept a chain back. None: nobody answered, or the student did, whose chain nobody needs."""

    def add(self, name: str, words: str, good: bool | None = None) -> None:
        self.findings.append(Finding(name, words, good))

    def as_json(self) -> dict[str, Any]:
        failure = self.failure and {"class": self.failure.kind, "message": str(self.failure)}
        findings = [asdict(f) for f in self.findings]
        return {"answers": self.failure is None, "failure": failure, "findings": findings, "toml": self.toml}


def doctor(config: RunConfig, base: Path, *, as_json: bool) -> int:
    """Asks the student and each teacher one small question, prints what the answers show, and returns the exit code.

    Raises TeacherRefused when one of them refuses for good, InputError when one does not answer, and ConfigError.
    """
    examined = examine(config, base)
    _print(examined, as_json=as_json)
    for e in sorted(examined, key=lambda e: not isinstance(e.failure, RunRefused)):
        if isinstance(e.failure, RunRefused):
            raise TeacherRefused(f"{e.name} refuses for good: {e.failure}")
        if e.failure is not None:
            whose = f" from {e.name}" if len(examined) > 1 else ""
            raise InputError(f"no answer{whose} ({e.failure.kind}): {e.failure}")
    takes_chain = prompts.load(config.prompt, base).reasoning == "endpoint"
    answered = [e for e in examined if e.hides_chain is not None]
    if answered and all(e.hides_chain for e in answered) and takes_chain and config.checks.without_chain == "stop":
        raise ChainsHidden(
            f"{' and '.join(e.name for e in answered)} keeps its chain back, and `collect` would stop after"
            f" {MOST_WITHOUT_CHAIN} such answers: take another teacher, or"
            ' set checks.without_chain = "keep" to go on for answers alone'
        )
    return 0


def _print(examined: Sequence[Diagnosis], *, as_json: bool) -> None:
    if as_json:
        said = [e.as_json() for e in examined]
        several = {"asked": [{"name": e.name, **s} for e, s in zip(examined, said, strict=True)]}
        answers = {"answers": all(e.failure is None for e in examined)}
        print(json.dumps(said[0] if len(said) == 1 else answers | several, ensure_ascii=False))
        return
    for e in examined:
        if len(examined) > 1:
            print(f"# {e.name}")
        for f in e.findings:
            print(f"{ {True: 'ok', False: '!!', None: '--'}[f.good] }  {f.name}: {f.words}")
        if e.toml:
            print("\nLines for RUN.toml:", *(f"  {t}" for t in e.toml), sep="\n")


def examine(config: RunConfig, base: Path) -> list[Diagnosis]:
    """Asks the student and each teacher one small question, in the order of a run, and returns a Diagnosis of each."""
    keys = take_keys(config)
    for place, one in configs(config).items():
        if one.budget.cap_usd is None and tariff_of(one) is not None:
            checked_tariff(one, section_of(config, place))
    with Store.open(config.store, say=say) as store:
        named = config.model_copy(update={"name": doctors_name(config.name)})
        store.join(named.name, alone=True)
        with store.transaction():
            run, _ = put_run(named, base, store, may_change=True, under=config.name)
        return uvloop.run(_ask_each(run, store, keys))


async def _ask_each(run: Run, store: Store, keys: Keys) -> list[Diagnosis]:
    ledger = Writer(store, say)
    examined = []
    try:
        for place, alone in runs_by_place(run).items():
            name, addresses = called(run.config, place), alone.config.teacher.addresses or (None,)
            several = [Diagnosis(name if len(addresses) == 1 else f"{name} at {address}") for address in addresses]
            before_asking(several[0], alone.config, alone.tariff, section_of(run.config, place))
            if place == max(configs(run.config)):
                of_the_run(several[0], run.config)
            listed: dict[str, ListedModel | None] = {}
            for found, address in zip(several, addresses, strict=True):
                async with AsyncExitStack() as stack:
                    teacher = await connect(alone, keys, stack, DROPPABLE, address)
                    found.failure = await diagnose(in_mode(alone, "live"), ledger, teacher, found, place)
                    if len(several) > 1:
                        listed[address or ""] = await listed_model(teacher, address or "", alone.model)
                    elif found.failure is None and address is not None and place != STUDENT:
                        await look_for_batches(found, teacher, alone.config)
            if len(several) > 1:
                compare_replicas(several[-1], listed)
            examined += several
    finally:
        ledger.close()
    return examined


def compare_replicas(d: Diagnosis, listed: Mapping[str, ListedModel | None]) -> None:
    """Adds whether all replicas list the model alike. `listed` has, for each address, what it lists of the model."""
    known = {address: one for address, one in listed.items() if one is not None}
    if len(set(known.values())) > 1:
        words = "; ".join(f"{address} {one}" for address, one in known.items())
        d.add("replicas", f"differ, so their answers are not of one teacher: {words}", False)
    elif len(known) < len(listed):
        d.add("replicas", f"{len(listed) - len(known)} of {len(listed)} do not say what they serve: GET /models")
    else:
        d.add("replicas", f"are alike: each {next(iter(known.values()))}", True)


async def look_for_batches(d: Diagnosis, teacher: Teacher, config: RunConfig) -> None:
    """Adds whether the endpoint takes batches. Its list of them costs nothing."""
    wanted = config.teacher.mode == "batch"
    form = form_for(config.teacher.base_url or "")
    has = await BatchApi(teacher, form).is_there()
    if has is None:
        d.add("batches", "the endpoint does not say whether it takes any", None)
    elif not has:
        d.add("batches", 'it takes none: write mode = "live"' if wanted else "it takes none", False if wanted else None)
    else:
        words = f"its list of them answers (asked in the form {form.name!r})"
        d.add("batches", words if wanted else f'{words}: with teacher.mode = "batch" answers cost less', True)


def before_asking(d: Diagnosis, config: RunConfig, tariff: Tariff | None, section: str) -> None:
    """Adds what can be said without a request: about the key, the price and the terms.

    `section` is the section of RUN.toml on the teacher or student that is asked.
    """
    teacher = config.teacher
    plain = [host for address in teacher.addresses if (host := _unencrypted(address)) is not None]
    sources = [teacher.api_key_env, "api_key_command" if teacher.api_key_command else None]
    sources += [f"{variable} for the header {name}" for name, variable in variables_of(teacher).items()]
    named = ", ".join(source for source in sources if source)
    if named and plain:
        d.add("key", f"is sent unencrypted to {', '.join(plain)}: anyone between can read it. Use https", False)
    elif named:
        d.add("key", f"taken from {named}", True)
    elif teacher.local is None:
        d.add("key", f"none is sent: {section}.api_key_env is not set")
    if tariff is None:
        d.add("price", "unknown: neither RUN.toml nor genai-prices has it, so a cap in USD cannot be kept", False)
        free = "free = true  # where it is a machine of yours; else " if isinstance(teacher, Student) else ""
        name, _, place = section.partition(".")
        heading = f"[[{name}]] (number {int(place) + 1} of them):" if place else f"[{name}]"
        d.toml.append(
            f'{heading} {free}price_usd_per_mtok = {{ input = "…", output = "…" }}  # as the provider\'s page says'
        )
    elif tariff.source == "local":
        d.add("price", "none: a local teacher costs nothing", True)
    else:
        p = tariff.at(datetime.now(UTC), 0)
        words = f"{p.input} in, {p.cached_input} cached, {p.output} out, in USD a million tokens, now"
        d.add("price", f"{words} (from {_price_source(tariff)})", True)
    if not isinstance(teacher, Student):  # nothing is trained on the student's answers
        _add_terms(d, teacher, section)


def _unencrypted(address: str) -> str | None:
    """Returns the host of an address that keys are sent to in plain text; None if they are encrypted or stay here."""
    parts = urlsplit(address)
    return parts.hostname if parts.scheme == "http" and parts.hostname not in LOOPBACK else None


def _add_terms(d: Diagnosis, teacher: TeacherSettings, section: str) -> None:
    terms = terms_of(teacher.model_dump())
    if terms.said_by == "nobody":
        d.add("terms", f"unknown: read what the provider says of training with its answers, note it in {section}.terms")
        return
    try:
        refuse_unaccepted(teacher, section)
    except ConfigError as e:
        d.add("terms", str(e), False)
    else:
        d.add("terms", terms.words, True)


def _price_source(tariff: Tariff) -> str:
    return tariff.source.replace(GENAI_PRICES, installed_list())


def of_the_run(d: Diagnosis, config: RunConfig) -> None:
    """Adds what is the same for all who are asked: the judging model, the rewriting model and the sandbox."""
    does = {"judge": "is asked about what the checks call", "rewriter": "rewrites what is"}
    for kind, one in asked_about(config).items():
        priced, asked = tariff_of(one), one.teacher
        about = ", ".join(asked.about) if isinstance(asked, JudgeModel | RewriteModel) else ""
        price = "at an unknown price" if priced is None else f"priced from {priced.source}"
        words = f"{asked.local or asked.model} {does[kind]} {about}; {price}. It is not asked now"
        d.add(kind, words, priced is not None)
    if config.checks.unsafe_code:
        d.add("sandbox", "UNSAFE: checks.unsafe_code runs what the teacher wrote as you, with your files", False)
    try:
        d.add("sandbox", f"code answers run in {isolation()}", True)
    except SandboxUnavailable as e:
        d.add("sandbox", f"none, so code answers are not run. {e}")


def read_reply(d: Diagnosis, reply: Reply, tariff: Tariff | None) -> None:
    """Adds what one reply shows about the answer, the chain, the usage, the cost and the log-probabilities."""
    served = " by ".join(s for s in (reply.served_model, reply.served_by) if s)
    d.add("answer", f"{reply.answer.strip()[:80]!r}" + (f" from {served}" if served else ""), True)
    if reply.reasoning_kind == "encrypted":
        d.add("chain", "hidden: only an encrypted one is sent, so there is nothing to distil but the answers", False)
    elif reply.reasoning_kind == "summary":
        words = "hidden: what is sent is a summary, and training on it teaches summaries. It is kept apart"
        d.add("chain", words, False)
    elif is_hidden(reply):
        d.add("chain", f"hidden: {reply.usage.reasoning_tokens} reasoning tokens are counted, and none is sent", False)
    elif reply.reasoning:
        d.add("chain", f"set apart by the endpoint: {len(reply.reasoning):,} characters here", True)
    else:
        words = "not set apart: for a teacher that reasons in its answer, take a prompt with reasoning: before_box"
        d.add("chain", words)
        d.toml.append('prompt = "steps"  # the chain is what stands before the final box')
    usage = reply.usage
    if usage.output_tokens is None or usage.input_tokens is None:
        d.add("usage", "not sent: no call's cost can be known, and each stays in doubt at its worst case", False)
    else:
        reasoning = "" if usage.reasoning_tokens is None else f", {usage.reasoning_tokens} of them reasoning"
        d.add("usage", f"{usage.input_tokens} tokens in, {usage.output_tokens} out{reasoning}", True)
    price = tariff.at(datetime.now(UTC), usage.input_tokens or 0, tier_of(reply)) if tariff else None
    cost, source = cost_of(usage, price)
    if cost is not None and source != "local":
        d.add("cost", f"{usd(cost)} USD for this call (from {source})", True)
    if not reply.logprobs:
        d.add("log-probabilities", "none came, though asked for")
    elif reply.logprobs.width:
        d.add("log-probabilities", "sent, with exact token ids: soft targets can be stored", True)
        d.toml.append(f"[sampling] top_logprobs = {TOP_LOGPROBS}")
    else:
        d.add(
            "log-probabilities",
            "sent without token ids: no soft targets, since an id is never guessed. vLLM sends ids with"
            " sampling.extra = { return_tokens_as_token_ids = true }",
        )


def read_teacher(d: Diagnosis, teacher: Teacher, headers: Mapping[str, str]) -> None:
    """Adds what the endpoint demanded of its requests, and the rate limits that its headers announced."""
    if teacher.learned.length_field != "max_tokens":
        d.add("parameters", f"wants {teacher.learned.length_field} in place of max_tokens, and is sent that")
    for name in teacher.learned.dropped:
        d.add("parameters", f"refuses {name!r}, which is left out")
        if name == "temperature":
            d.toml.append("[sampling] # leave temperature out")
    limits = [
        f"{k} {v[:40]}" if v.isprintable() else k
        for k, v in sorted(headers.items())
        if "ratelimit" in k or k == "retry-after"
    ]
    d.add("limits", ", ".join(limits) or "none announced: they are found while running")


async def diagnose(run: Run, ledger: Writer, teacher: Teacher, d: Diagnosis, place: int) -> AttemptFailed | None:
    """Sends one request to the teacher or student at index `place`, and adds to `d` what the reply shows.

    Returns the failure when no answer came, else None. Raises CapReached when the cap has no room for the request.
    """
    cfg = run.config
    limit = min(MAX_TOKENS, cfg.sampling.max_tokens)
    sampling = cfg.sampling.model_copy(update={"top_logprobs": cfg.sampling.top_logprobs or TOP_LOGPROBS})
    claims = list[Claim]()
    tries = Tries(run, ledger, teacher, lambda settled: claims.extend(settled.claims))
    outcome = await _ask_anew(tries, QUESTION, place, sampling, limit, arriving := Arriving())
    read_teacher(d, teacher, arriving.headers)
    if isinstance(outcome, AttemptFailed):
        return outcome
    read_reply(d, outcome, run.tariff)
    d.hides_chain = None if place == STUDENT else is_hidden(outcome)
    for claim in claims:
        d.add("claim", f"{claim.words}: that is not booked as it was said", False)
    if cfg.sampling.when_truncated == "continue":
        parts: tuple[CutPart, ...] = ("chain", "answer") if outcome.reasoning else ("answer",)
        for part in parts:
            cut = CUT[part] if outcome.reasoning else Reply(_COUNTED)
            await _cut_and_continue(d, tries, place, cut, part)
        learned = {"place": place, "endpoint": run.endpoint, "model": run.model, **asdict(teacher.learned)}
        await ledger.do(Store.add_event, run.id, LEARNED, learned, now())
    return None


async def _ask_anew(
    tries: Tries, question: Question, place: int, sampling: Sampling, limit: int, arriving: Arriving,
    going_on: Continuation | None = None,
) -> Reply | AttemptFailed:  # fmt: skip
    """Asks one small question, even if the store has its answer: what was bought before tells nothing of today.

    Raises CapReached when the cap has no room for the request.
    """
    run = tries.run
    question_id, sample = await tries.ledger.do(Store.put_probe, run.id, question)
    sent: Sent | None = None
    is_new = False
    while not is_new:
        body = request_body(run.model, run.prompt.messages(question), sampling, sample, limit)
        body = body if going_on is None else continuing_body(body, going_on)
        ask = Ask(sample, limit, place)
        held = await tries.reserve(question_id, ask, body, run.key(body, sample))
        is_new = held is None or isinstance(held, Sent)
        sent = held if isinstance(held, Sent) else None
        sample += 1
    if sent is None:
        raise CapReached(f"budget.usd = {run.config.budget.cap_usd} has no room for one small request")
    return await tries.send(sent, body, ask, arriving, going_on=going_on)


async def _cut_and_continue(d: Diagnosis, tries: Tries, place: int, cut: Reply, part: CutPart) -> None:
    """Finds out whether the endpoint goes on with an answer that was cut in this part, and in which form. The answer is
    made up, so that what must come next is known to the letter."""
    where, said = ("a chain" if part == "chain" else "an answer"), ""
    teacher, config = tries.teacher, tries.run.config
    for form in forms_for(config.teacher.base_url):
        going_on = Continuation(cut, part, form, is_known=True)
        outcome = await _ask_anew(tries, CUT_QUESTION, place, config.sampling, GO_ON_TOKENS, Arriving(), going_on)
        came = "" if isinstance(outcome, AttemptFailed) else outcome.reasoning or outcome.answer
        if came.startswith(NEXT_WORD):
            teacher.learned.continues = {**teacher.learned.continues, part: form}
            d.add("cut answers", f"{where} that was cut is gone on with from what came (form {form!r})", True)
            return
        said = str(outcome) if isinstance(outcome, AttemptFailed) else f"{came[:60]!r} came for {NEXT_WORD!r}"
    teacher.learned.continues = {**teacher.learned.continues, part: ""}
    d.add("cut answers", f"{where} that was cut is not gone on with: {said}", False)
