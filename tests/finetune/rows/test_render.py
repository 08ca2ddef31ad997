"""The trained tokens are compared, one by one, with the student's own chat template."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from students import chat, smol_tokenizer

from finetune.rows.layout import LAYOUTS, Layout, turn
from finetune.rows.render import prompt_ids, render
from finetune.rows.template import end_token, frame_of
from harvest.core.errors import ConfigError, DatasetError, TooLong

THINK, SKY = LAYOUTS["think"], LAYOUTS["sky-t1"]
CHAIN = "<think>\nFirst 7 + 25 = 32.\nünïcode ∑ 你好 👩‍🔬\n</think>\n\nSo \\boxed{32}."
TEXT = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x1FFFF), max_size=60)
HOSTILE = st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>", "\n", "assistant", "<|endoftext|>", "<think>", " ", "a", "é"]),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return smol_tokenizer()


def decoded(tokenizer: Any, ids: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def trained(tokenizer: Any, example: Any) -> str:
    return decoded(tokenizer, [i for i, m in zip(example.ids, example.mask, strict=True) if m])


def test_ids_are_those_of_the_chat_template(tokenizer: Any) -> None:
    for messages in (chat("Hi, what is 7 + 25?", CHAIN, "Be brief."), chat("No system message", "Plain.")):
        example = render(messages, tokenizer, 512, THINK)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        assert decoded(tokenizer, example.ids) + "\n" == whole
        asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert list(example.ids[: len(asked)]) == asked
        assert not any(example.mask[: len(asked)])


def test_exactly_the_turn_and_its_end_token_are_trained(tokenizer: Any) -> None:
    example = render(chat("USER-MARK", CHAIN, "SYS-MARK"), tokenizer, 512, THINK)
    assert trained(tokenizer, example) == CHAIN + "<|im_end|>"
    assert example.labels[-1] == tokenizer.eos_token_id == end_token(tokenizer)


def test_the_end_token_is_trained_though_it_is_the_padding_too(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    labels = render(chat("a", "b"), tokenizer, 512, THINK).labels
    ends = [k for k, i in enumerate(render(chat("a", "b"), tokenizer, 512, THINK).ids) if i == tokenizer.eos_token_id]
    assert [labels[k] for k in ends] == [-100, -100, tokenizer.eos_token_id]  # system, user, assistant


def test_of_several_turns_each_keeps_its_chain_and_its_end(tokenizer: Any) -> None:
    second = CHAIN.replace("32", "99")
    messages = [*chat("one", CHAIN, "s"), *chat("two", second)]
    example = render(messages, tokenizer, 512, THINK)
    assert trained(tokenizer, example) == f"{CHAIN}<|im_end|>{second}<|im_end|>"
    assert decoded(tokenizer, example.ids) + "\n" == tokenizer.apply_chat_template(messages, tokenize=False)


@given(question=TEXT.filter(str.strip), answer=TEXT.filter(str.strip), reasoning=TEXT)
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_byte_for_byte(question: str, answer: str, reasoning: str) -> None:
    tokenizer = smol_tokenizer()
    assume(decoded(tokenizer, tokenizer(question + answer + reasoning)["input_ids"]) == question + answer + reasoning)
    content = THINK.write(reasoning, answer)
    example = render(chat(question, content), tokenizer, 4096, THINK)
    assert trained(tokenizer, example) == content + "<|im_end|>"
    assert question in decoded(tokenizer, example.ids)


@given(question=HOSTILE, answer=HOSTILE)
@settings(max_examples=150, deadline=None)
def test_the_text_of_a_special_token_never_becomes_one(question: str, answer: str) -> None:
    tokenizer = smol_tokenizer()
    example = render(chat(f"q{question}", f"a{answer}."), tokenizer, 4096, THINK)
    ids = list(example.ids)
    assert ids.count(tokenizer.eos_token_id) == 3  # the system's, the user's and the assistant's own
    assert ids.count(tokenizer.bos_token_id) == 3
    assert trained(tokenizer, example) == f"a{answer}.<|im_end|>"


def test_a_hostile_question_leaves_the_other_tokens_as_they_are(tokenizer: Any) -> None:
    asked = prompt_ids([{"role": "user", "content": "say <|im_end|> twice"}], tokenizer)
    plain = prompt_ids([{"role": "user", "content": "say twice"}], tokenizer)
    head = tokenizer("<|im_start|>user\n", add_special_tokens=False)["input_ids"]
    at = plain.index(head[1], 10)
    assert asked[:at] == plain[:at]
    assert asked[-4:] == plain[-4:]


def test_nothing_is_cut(tokenizer: Any) -> None:
    messages = chat("q", "a " * 50)
    tokens = len(render(messages, tokenizer, 4096, THINK))
    assert len(render(messages, tokenizer, tokens, THINK)) == tokens
    with pytest.raises(TooLong, match=f"{tokens} tokens, over the limit of {tokens - 1}"):
        render(messages, tokenizer, tokens - 1, THINK)


def test_the_prompt_to_answer_is_the_untrained_start_of_the_row(tokenizer: Any) -> None:
    messages = chat("\nWhat?  ", "\nThat.", "\n")
    example = render(messages, tokenizer, 512, THINK)
    assert list(example.ids[: example.mask.index(1)]) == prompt_ids(messages[:-1], tokenizer)


def test_text_that_the_tokenizer_has_no_bytes_for_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DatasetError, match="does not keep"):
        render(chat("q", "a plane far away: \U00040000"), tokenizer, 512, THINK)


def test_the_chain_moves_into_sky_t1s_marks(tokenizer: Any) -> None:
    example = render(chat("q", "<think>\nwhy\n</think>\n\nso"), tokenizer, 512, SKY)
    assert trained(tokenizer, example) == (
        "<|begin_of_thought|>\n\nwhy\n\n<|end_of_thought|>\n\n"
        "<|begin_of_solution|>\n\nso\n\n<|end_of_solution|><|im_end|>"
    )


def test_a_row_that_has_the_recipes_marks_already_stays_as_it_is() -> None:
    written = SKY.write("why", "so")
    assert turn(written, SKY) == written
    assert turn(written, THINK) == "<think>\nwhy\n</think>\n\nso"


def test_marks_of_ones_own() -> None:
    own = Layout("[[", "]]", "{{", "}}")
    assert turn("<think>\nwhy\n</think>\n\nso", own) == "[[why]]{{so}}"
    assert turn("no chain", own) == "{{no chain}}"


@given(
    reasoning=TEXT, answer=TEXT.filter(str.strip), layout=st.sampled_from([THINK, SKY, Layout("[[", "]]", "((", "))")])
)
def test_what_a_layout_writes_it_reads(reasoning: str, answer: str, layout: Layout) -> None:
    marks = [m.strip() for m in (layout.open, layout.close, layout.answer_open, layout.answer_close) if m]
    if not any(m in reasoning + answer for m in marks):
        assert layout.read(layout.write(reasoning, answer)) == (reasoning, answer)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("<think>\n3 + 3 = 6", "never closed"),
        ("3 + 3 = 6\n</think>\n\n6", "never opened"),
        ("<think>\n3 + 3 = 6\n</think>\n", "no answer after the chain"),
        ("<|begin_of_thought|>\n\n3\n\n<|end_of_thought|>\n\n6", "no <\\|begin_of_solution\\|>"),
        ("<|begin_of_thought|>3<|end_of_thought|><|begin_of_solution|>6", "the answer is open"),
    ],
)
def test_a_broken_chain_is_named(content: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        turn(content, THINK)


class Templated:
    """The real tokenizer under another template."""

    def __init__(self, template: str | None) -> None:
        self.inner, self.chat_template = smol_tokenizer(), template

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.apply_chat_template(*args, **{"chat_template": self.chat_template, **kwargs})


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}BODY"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\nOPEN' }}{% endif %}"
)


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content.split('</think>')[-1] }}",  # as R1's distilled students: the chain is deleted
        "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content }}",  # as Qwen3
        "{{ m.content | trim }}",  # as Llama 3
        "{{ m.content }}",
    ],
)
def test_no_template_deletes_trims_or_adds_a_chain(body: str) -> None:
    tokenizer = Templated(CHATML.replace("BODY", body).replace("OPEN", ""))
    messages = [*chat("one", CHAIN + " "), *chat("two", SKY.write("why", "so"))]
    example = render(messages, tokenizer, 512, THINK)
    assert trained(tokenizer, example) == f"{CHAIN} <|im_end|><think>\nwhy\n</think>\n\nso<|im_end|>"
    sky = render(messages[2:], tokenizer, 512, SKY)
    assert trained(tokenizer, sky) == messages[3]["content"] + "<|im_end|>"


def test_a_chain_that_the_template_opens_is_not_opened_twice() -> None:
    tokenizer = Templated(CHATML.replace("BODY", "{{ m.content }}").replace("OPEN", "<think>\n"))
    example = render(chat("q", CHAIN), tokenizer, 512, THINK)
    assert decoded(tokenizer, example.ids).count("<think>") == 1
    assert trained(tokenizer, example) == CHAIN.removeprefix("<think>\n") + "<|im_end|>"


def test_an_answer_without_a_chain_is_refused_where_the_template_opens_one() -> None:
    tokenizer = Templated(CHATML.replace("BODY", "{{ m.content }}").replace("OPEN", "<think>\n"))
    with pytest.raises(DatasetError, match=r"message 1 \(assistant\): no chain, but .* template opens one"):
        render(chat("q", "a"), tokenizer, 512, THINK)
    tight = render(chat("q", "<think>why</think>so"), tokenizer, 512, THINK)
    assert trained(tokenizer, tight) == "why</think>so<|im_end|>"


def test_a_template_that_asks_for_the_day_reads_the_same_every_day() -> None:
    dated = "{{ '<|im_start|>' + strftime_now('%d %b %Y') + '\n' }}" + CHATML
    tokenizer = Templated(dated.replace("BODY", "{{ m.content }}").replace("OPEN", ""))
    assert decoded(tokenizer, prompt_ids(chat("q", "a")[:1], tokenizer)).startswith("<|im_start|>26 Jul 2024\n")


def test_a_question_is_trimmed_as_the_template_will_when_it_is_asked() -> None:
    trimming = CHATML.replace("{{ m.content }}{% endif %}", "{{ m.content | trim }}{% endif %}")
    tokenizer = Templated(trimming.replace("BODY", "{{ m.content }}").replace("OPEN", ""))
    assert "user\nq<|im_end|>" in decoded(tokenizer, render(chat("  q\n", "a"), tokenizer, 512, THINK).ids)


def test_a_template_without_an_end_token_is_refused() -> None:
    tokenizer = Templated(CHATML.replace("BODY", "{{ m.content }}").replace("OPEN", "").replace("<|im_end|>", "[end]"))
    with pytest.raises(ConfigError, match="could not learn to stop"):
        render(chat("q", "a"), tokenizer, 512, THINK)


def test_a_template_that_refuses_the_roles_is_the_rows_fault() -> None:
    tokenizer = Templated("{{ raise_exception('System role not supported') }}")
    with pytest.raises(DatasetError, match="System role not supported"):
        render(chat("q", "a", "s"), tokenizer, 512, THINK)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        frame_of(("user", "assistant"), Templated(None))
