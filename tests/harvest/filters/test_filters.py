"""Filters: the tables of docs/filters.md, hand-written cases, planted faults, settings, hostile texts, verdicts."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Place, sums
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_endpoint import Asked, Endpoint, Say

from harvest.core.config import Filters, load
from harvest.core.errors import ConfigError
from harvest.core.nouns import Candidate
from harvest.filters import FILTERS, fault_of, first_fault, versions
from harvest.filters.rewrite import rewritten

sys.path.insert(0, str(ROOT / "benchmarks"))
import filter_faults
import filters as bench

ON = Filters(no_chain=True)


# ---- the documentation


def _cell(text: str) -> str | None:
    """What a cell of the tables says; None where it is empty."""
    found = re.fullmatch(r"`(.*)`", text.strip())
    if found is None:
        return None
    said = found[1].replace("⏎", "\n").replace("\\|", "|")
    if times := re.fullmatch(r"(.*?) ×(\d+)", said, re.DOTALL):
        block, spaced = times[1], "" if times[1].endswith("\n") else " "
        return "".join(block.replace("{n}", str(n)) + spaced for n in range(1, int(times[2]) + 1))
    return said


def documented() -> Iterator[tuple[str, bool, Candidate]]:
    for name, part in re.findall(r"^### (\w+)\n(.*?)(?=^##)", (ROOT / "docs/filters.md").read_text(), re.S | re.M):
        for line in re.findall(r"^\| (?:refused|kept) \|.*$", part, re.MULTILINE):
            verdict, asked, chain, answer = re.split(r"(?<!\\)\|", line)[1:5]
            shown = _cell(chain)
            yield (
                name,
                verdict.strip() == "refused",
                bench.candidate(
                    _cell(asked) or bench.QUESTION,
                    bench.CHAIN if shown is None else shown,
                    _cell(answer) or "\\boxed{24}",
                    gold="24",
                ),
            )


@pytest.mark.parametrize(("name", "bad", "candidate"), list(documented()))
def test_the_examples_of_the_docs_hold(name: str, bad: bool, candidate: Candidate) -> None:
    assert (fault_of(name, candidate, ON) is not None) == bad


def test_every_filter_has_a_page_a_switch_and_examples_both_ways() -> None:
    page = (ROOT / "docs/filters.md").read_text()
    sides = Counter((name, bad) for name, bad, _ in documented())
    for f in FILTERS:
        assert f"| `{f.name}` |" in page
        assert f.name in Filters.model_fields
        if f.name not in ("short_chain", "long_chain"):
            assert min(sides[f.name, True], sides[f.name, False]) > 0, f.name


# ---- how good they are


def test_hand_written_cases_are_told_apart() -> None:
    cases = [case for held_out in (False, True) for case in bench.hand_written(held_out)] + list(bench.unseen())
    wrong = [
        (name, bad, bench.shown(c))
        for name, bad, c in cases
        if ((fault_of(name, c, ON) if bad else first_fault(c, ON)) is not None) != bad
    ]
    assert len(cases) > 250
    assert len(wrong) <= 3, wrong


def test_planted_faults_are_found_and_clean_traces_stay(shared: Path) -> None:
    recorded = list(bench.real(shared))[::3]
    worked = [t for _, t in bench.worked(shared, 150)]
    lost = {name for name, t in recorded if first_fault(t, Filters()) is not None} - set(bench.known())
    assert len(lost) <= 2, lost
    assert [t for t in worked if first_fault(t, Filters()) is not None] == []
    clean = [t for name, t in recorded if name not in bench.known()] + worked
    for half in filter_faults.HALVES:
        traces = [t for t in clean if bench.half_of(t) == half]
        counts = bench.judge_planted(traces, half, seed=5, each=2)
        missed = {(n, k): counts[n, k, "n"] - counts[n, k, "found"] for n, k, _ in counts}
        assert sum(missed.values()) <= (1 if half == "first" else 3), missed


# ---- settings


def test_each_filter_is_switched_by_its_setting() -> None:
    off = Filters(format=False, refusal=False, language=False, repetition=False, meta=False, leaked_gold=False)
    assert versions(off) == {}
    chain = "no, " * 300 + "所以 the reference answer says"
    answer = "I can't help with that.<|im_end|>"
    bad = bench.candidate("How many? The answer is 24.", chain, answer, gold="24")
    assert first_fault(bad, off) is None
    for name in versions(Filters()):
        fault = first_fault(bad, off.model_copy(update={name: getattr(Filters(), name)}))
        assert fault is not None
        assert (fault.filter, bool(fault.detail)) == (name, True)


def test_a_named_language_stands_over_the_questions() -> None:
    french = (
        "Une ferme a 12 poules et chacune pond 2 œufs par jour. Combien d'œufs est-ce que cela fait dans une semaine ?"
    )
    chain = "Chacune des 12 poules pond 2 œufs par jour, donc il y a 24 œufs par jour et 168 dans une semaine."
    trace = bench.candidate(french, chain, "\\boxed{168}", gold="168")
    assert first_fault(trace, Filters()) is None
    fault = first_fault(trace, Filters(language="en"))
    assert fault is not None
    assert "French" in fault.detail


def test_lengths_go_by_the_endpoints_count_where_there_is_one() -> None:
    chain = "word " * 760
    short, long = Filters(short_chain=1001, repetition=False), Filters(long_chain=999, repetition=False)
    for counted, words in ((None, "about 1,000 tokens"), (1000, "1,000 tokens")):
        trace = Candidate(1, 0, bench.candidate(bench.QUESTION, "", "").question, (), chain, "24", counted, None)
        for way in (short, long):
            fault = first_fault(trace, way)
            assert fault is not None
            assert fault.detail.startswith(words)
    with pytest.raises(ValueError, match="no chain fits"):
        Filters(short_chain=10, long_chain=5)


# ---- hostile texts

PIECES = [
    "sorry", " I can't", "<", "<|", "[INST", "answer is ", "24", "\\boxed{", "}", "```", "\n", '"', "“", "’", "(",
    "所以", "la ", "que ", "Ω", "\ud800", "\x00", " ", "hint: ", "a", "0", "1", "donc ", "é", "as an AI ",
    "reference solution: ",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=60).map("".join)


@given(texts, texts, texts, st.none() | texts)
@settings(deadline=None)
def test_no_text_makes_a_filter_fail(question: str, chain: str, answer: str, gold: str | None) -> None:
    trace = bench.candidate(question, chain, answer, gold=gold, system=bench.BOX)
    for f in FILTERS:
        fault = fault_of(f.name, trace, Filters(short_chain=5, long_chain=9))
        assert fault is None or "\n" not in fault.detail


@pytest.mark.parametrize("name", filter_faults.HOSTILE)
def test_a_long_text_made_to_be_slow_ends(name: str) -> None:
    """A pattern that gives back what it took would hang here for minutes: filters, rewriting, and the question too."""
    text = filter_faults.HOSTILE[name][:30_000]
    for reasoning in (text, None):
        trace = bench.candidate(text, reasoning, f"{text} \\boxed{{24}}", gold="24", system=bench.BOX)
        for f in FILTERS:
            fault_of(f.name, trace, ON)
        rewritten(trace)


# ---- as verdicts


def test_a_required_filter_rejects_and_another_sample_is_asked(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    def script(asked: Asked) -> Say:
        return Say(chain="We add the two, 所以答案就是 that." if asked.body.get("seed") == 7 else "We add the two.")

    asked = endpoint(script)
    sampling = {"samples": 3, "stop_after_accepted": 1, "seed": 7, "max_tokens": 100}
    run = place(asked.url, sums(4), sampling=sampling, checks={"require": ["correct", "language"]})
    run.collect()
    assert len(asked.asked) == 8
    assert run.report["traces"]["rejected"] == {"language": 4}
    assert run.report["traces"]["accepted"] == 4
    assert run.report["questions"]["solved"] == 4


@pytest.mark.parametrize("require", [[], ["format"], ["correct", "format", "format"], ["correct", "nice"]])
def test_what_may_be_required(tmp_path: Path, require: list[str]) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        f'questions = "q.jsonl"\n[teacher]\nbase_url = "https://x/v1"\nmodel = "m"\n[checks]\nrequire = {require}\n'
    )
    with pytest.raises(ConfigError, match=r"checks"):
        load(path)
