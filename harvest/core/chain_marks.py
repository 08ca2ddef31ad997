"""Lists the marks that models and training layouts write around a chain of reasoning and around its answer."""

THINK = ("<think>", "</think>")
THOUGHT = ("<|begin_of_thought|>", "<|end_of_thought|>")
SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")
"""THINK is the pair of marks of Qwen, DeepSeek and most other models. THOUGHT and SOLUTION are Sky-T1's pairs: THOUGHT
stands around the chain, SOLUTION around the answer."""
S1 = ("<|im_start|>think", "<|im_start|>answer")
"""The marks of s1 (simplescaling): the chain begins after the first and ends at the second. They hold a special token,
which a server may leave out of the text."""

CHAIN_MARKS = (
    THINK, ("<thinking>", "</thinking>"), ("<thought>", "</thought>"), ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"), ("<scratchpad>", "</scratchpad>"), ("<seed:think>", "</seed:think>"),
    THOUGHT, S1, ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"),
)  # fmt: skip
"""All pairs of marks (opening, closing) that a model may have left around a chain."""

TRAINING_MARKS = {
    "think": (f"{THINK[0]}\n", f"\n{THINK[1]}\n\n", "", ""),
    "sky-t1": (f"{THOUGHT[0]}\n\n", f"\n\n{THOUGHT[1]}\n\n", f"{SOLUTION[0]}\n\n", f"\n\n{SOLUTION[1]}"),
    "s1": (f"{S1[0]}\n", f"\n{S1[1]}\n", "", ""),
}
"""Maps each training layout to the texts before the chain, after the chain, before the answer, and after the answer."""
