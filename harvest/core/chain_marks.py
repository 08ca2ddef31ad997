"""The marks that models and training layouts write around a chain of reasoning, and around its answer."""

THINK = ("<think>", "</think>")
THOUGHT = ("<|begin_of_thought|>", "<|end_of_thought|>")
SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")
"""The marks of Qwen, DeepSeek and most others; and the two pairs of Sky-T1, around chain and answer."""

CHAIN_MARKS = (
    THINK, ("<thinking>", "</thinking>"), ("<thought>", "</thought>"), ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"), ("<scratchpad>", "</scratchpad>"), ("<seed:think>", "</seed:think>"),
    THOUGHT, ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"),
)  # fmt: skip
"""Every pair of marks that a model may have left around a chain."""

TRAINING_MARKS = {
    "think": (f"{THINK[0]}\n", f"\n{THINK[1]}\n\n", "", ""),
    "sky-t1": (f"{THOUGHT[0]}\n\n", f"\n\n{THOUGHT[1]}\n\n", f"{SOLUTION[0]}\n\n", f"\n\n{SOLUTION[1]}"),
}
"""What a training layout writes before and after the chain, and before and after the answer."""
