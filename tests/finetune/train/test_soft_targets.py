"""Soft targets of rendered rows: which tokens get them, and what several teachers give together."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from students import smol_tokenizer

pytest.importorskip("torch", reason="needs the extra `train`")
np = pytest.importorskip("numpy")

from finetune.rows.layout import LAYOUTS  # noqa: E402
from finetune.rows.render import render  # noqa: E402
from finetune.run import TeachersAnswer  # noqa: E402
from finetune.train.soft_targets.alignment import aligned  # noqa: E402
from finetune.train.soft_targets.stored import _unusable, left_out  # noqa: E402
from finetune.train.soft_targets.table import Given, averaged, kept, within  # noqa: E402
from finetune.train.soft_targets.vocabulary import check_sent, pieces_of, refuse_another  # noqa: E402
from harvest.core.errors import ConfigError, DatasetError  # noqa: E402
from harvest.core.nouns import TokenLogprobs  # noqa: E402

WORDS = st.text(st.sampled_from("ab 1+=\n.ü😀"), min_size=1, max_size=30)


@cache
def pieces() -> list[bytes]:
    return pieces_of(smol_tokenizer())


def encoded(text: str) -> list[int]:
    ids: list[int] = smol_tokenizer()(text, add_special_tokens=False)["input_ids"]
    return ids


def rendered(chain: str | None, answer: str) -> tuple[list[int], int]:
    """(ids, where the answer begins) of a row as the student reads it."""
    content = LAYOUTS["think"].write(chain, answer)
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]
    example = render(messages, smol_tokenizer(), 4096, LAYOUTS["think"])
    return list(example.ids), list(example.mask).index(1)


# ---- tokens


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_the_pieces_of_a_text_are_its_bytes(text: str) -> None:
    assume(smol_tokenizer().decode(encoded(text)) == text)  # it has no token for some bytes
    assert b"".join(pieces()[i] for i in encoded(text)) == text.encode()


def test_another_tokenizer_is_refused_with_the_first_difference() -> None:
    ours = [b"a", b"b", b" c"]
    refuse_another(ours, [*ours, b"more"], "t")
    with pytest.raises(ConfigError, match=r"teacher 't'.*token 1 is 'x' there and 'b' in the student"):
        refuse_another(ours, [b"a", b"x", b"y"], "t")
    check_sent(ours, {0: b"a", 1: b"", 99: b"z"}, "t")
    with pytest.raises(ConfigError, match="token 2 is 'c' there and ' c' in the student"):
        check_sent(ours, {0: b"a", 2: b"c"}, "t")


# ---- which tokens the teacher wrote


@settings(deadline=None, max_examples=60)
@given(WORDS, WORDS, st.sampled_from(["", "\n", "\n\n", " "]))
def test_what_is_aligned_is_the_same_token_after_the_same_text(chain: str, answer: str, between: str) -> None:
    chain, answer = chain.strip(), answer.strip()
    assume(chain and answer and chain not in "<think>\n" and answer not in "</think>\n")
    ids, begin = rendered(chain, answer)
    sampled = [*encoded(chain + between + answer), smol_tokenizer().eos_token_id]
    found = aligned(ids, begin, sampled, pieces(), [chain, answer])
    assert found == sorted(set(found))
    for ours, theirs in found:
        assert ids[ours] == sampled[theirs]
        written = b"".join(pieces()[i] for i in ids[begin:ours]).decode(errors="ignore")
        said = b"".join(pieces()[i] for i in sampled[:theirs]).decode(errors="ignore")
        if theirs < len(sampled) - 1:
            assert written.replace("<think>\n", "").replace("\n</think>\n\n", between).endswith(said.lstrip())


def test_marks_and_tokens_over_a_texts_bounds_have_no_target() -> None:
    """Chain and answer are all tokens of their own here, so that each of them is found, and the end token too."""
    chain, answer = "1 + 2 = 3", "\\boxed{3}"
    ids, begin = rendered(chain, answer)
    sampled = [*encoded(f"{chain}\n{answer}"), smol_tokenizer().eos_token_id]
    found = aligned(ids, begin, sampled, pieces(), [chain, answer])
    text = [pieces()[ids[at]].decode() for at, _ in found]
    assert "".join(text) == chain + answer + "<|im_end|>"
    assert len(found) < len(ids) - begin


def test_another_text_has_no_target_from_there_on() -> None:
    ids, begin = rendered("1 + 2 = 3", "\\boxed{3}")
    sampled = encoded("1 + 2 = 3 so\n3")
    assert aligned(ids, begin, sampled, pieces(), ["other", "\\boxed{3}"]) == []
    found = aligned(ids, begin, sampled, pieces(), ["1 + 2 = 3", "\\boxed{3}"])
    assert b"".join(pieces()[ids[at]] for at, _ in found) == b"1 + 2 = 3"
    assert aligned(ids, begin, [len(pieces())], pieces(), ["1 + 2 = 3"]) == []


def test_an_answer_without_usable_log_probabilities_says_why() -> None:
    half = TokenLogprobs(b"\0" * 4, b"\0" * 4, 1, b"\0" * 4, b"\0" * 2)
    answer = TeachersAnswer("r", "t", True, 1.0, ("4",), False, (half,))
    assert _unusable(answer) is None
    assert _unusable(replace(answer, is_rewritten=True)) == "the answer was rewritten"
    assert _unusable(replace(answer, logprobs=())) == "no log-probabilities are stored"
    no_ids = replace(half, ids=None)
    assert _unusable(replace(answer, logprobs=(half, no_ids))) == "the endpoint sent no ids of tokens"


# ---- several teachers


def one(teacher: str, lines: dict[int, dict[int, float]]) -> Given:
    width = max(map(len, lines.values()), default=0)
    ids = [[*line, *[-1] * (width - len(line))] for line in lines.values()]
    logs = [[*(math.log(p) for p in line.values()), *[-math.inf] * (width - len(line))] for line in lines.values()]
    shape = (len(lines), width)
    return Given(
        teacher,
        np.array(list(lines), np.int32),
        np.array(ids, np.int32).reshape(shape),
        np.array(logs, np.float32).reshape(shape),
    )


def read(at: Any, ids: Any, logprobs: Any) -> dict[int, dict[int, float]]:
    return {
        int(place): {int(i): float(np.exp(v)) for i, v in zip(some, values, strict=True) if i >= 0}
        for place, some, values in zip(at, ids, logprobs, strict=True)
    }


LINE = st.dictionaries(st.integers(0, 9), st.floats(0.01, 0.1), min_size=1, max_size=4)
LINES = st.dictionaries(st.integers(0, 5), LINE, min_size=1, max_size=4).map(lambda d: dict(sorted(d.items())))


@given(LINES, LINES, LINES, st.floats(0.1, 5))
def test_the_mean_is_over_the_teachers_that_gave_something_there(
    a: dict[int, dict[int, float]], b: dict[int, dict[int, float]], c: dict[int, dict[int, float]], share: float
) -> None:
    several = {"a": (a, share), "b": (b, 1.0), "c": (c, 1.0)}
    found = read(
        *averaged([one(t, lines) for t, (lines, _) in several.items()], {t: s for t, (_, s) in several.items()})
    )
    assert sorted(found) == sorted({*a, *b, *c})
    for place, line in found.items():
        here = [(lines[place], s) for lines, s in several.values() if place in lines]
        whole = sum(s for _, s in here)
        want = {i: sum(s * some.get(i, 0) for some, s in here) / whole for i in {i for some, _ in here for i in some}}
        assert line == pytest.approx(want, rel=1e-5)
        assert list(line.values()) == sorted(line.values(), reverse=True)


def test_what_one_teacher_does_not_name_is_in_the_tail() -> None:
    at, ids, logprobs = averaged([one("a", {3: {7: 0.8}}), one("b", {3: {8: 0.4}})], {"a": 1, "b": 1})
    assert read(at, ids, logprobs)[3] == pytest.approx({7: 0.4, 8: 0.2})


def test_the_likeliest_are_kept_and_a_place_without_any_is_left_out() -> None:
    given_ = Given("a", np.array([1, 2], np.int32), np.array([[5, 6], [-1, -1]], np.int32),
                   np.array([[-2, -1], [-np.inf, -np.inf]], np.float32))  # fmt: skip
    found = kept(given_, 1)
    assert (found.at.tolist(), found.ids.tolist(), found.logprobs.tolist()) == ([1], [[6]], [[-1]])


def test_a_token_that_the_student_does_not_have_is_in_the_tail() -> None:
    """The logits of Qwen2.5's larger models are wider than those of its smaller ones."""
    found = kept(within(one("a", {3: {7: 0.5, 2: 0.3}, 4: {8: 0.9}}), 7), 20)
    assert read(found.at, found.ids, found.logprobs) == {3: pytest.approx({2: 0.3})}


def test_shares_of_rows_leave_out_as_few_as_possible() -> None:
    wrote = {n: "a" if n < 60 else "b" for n in range(100)}
    out = left_out(wrote, {"a": 0.5, "b": 0.5}, 0)
    assert len(out) == 20
    assert all(n < 60 for n in out)
    assert out == left_out(wrote, {"a": 0.5, "b": 0.5}, 0) != left_out(wrote, {"a": 0.5, "b": 0.5}, 1)
    assert {n >= 60 for n in left_out(wrote, {"a": 7, "b": 3}, 0)} == {True}
    with pytest.raises(DatasetError, match="written by a, b"):
        left_out(wrote, {"a": 1, "c": 1}, 0)
