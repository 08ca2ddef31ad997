"""Translates rows of known data sets into our fields: GSM8K, MATH, HumanEval, MBPP, APPS and TACO, STILL-2,
LiveCodeBench.

Each layout is one function and one row of the table `_LAYOUTS`. A field that no layout names is left as it is.
"""

import ast
import base64
import builtins
import json
import pickletools
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

MOST_UNPACKED_BYTES = 256 << 20
PICKLED_TEXT = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
PICKLE_FRAME = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"})
"""The instructions of a pickle that stand around a text. None of them calls anything."""
Row = dict[str, Any]
Layout = Callable[[Row], Row]


class BadLayout(ValueError):
    """The row has a known layout but cannot be read. The message begins with the field."""


def own_layout(row: Mapping[str, Any]) -> Row:
    """Returns the row in our fields. Raises BadLayout."""
    for marks, layout in _LAYOUTS:
        if all(row.get(mark) is not None for mark in marks):
            return layout(dict(row))
    return dict(row)


def _gsm8k(row: Row) -> Row:
    if isinstance(row["answer"], str) and (m := re.search(r"\n?####\s*(\S[^\n]*)\s*$", row["answer"])):
        row["answer"] = m[1].strip()
    return _with_level(row)


def _math(row: Row) -> Row:
    row = _gsm8k(row) if row.get("answer") is not None else _with_level(row)
    if "question" not in row and isinstance(row["problem"], str):
        row["question"] = row["problem"]
        if row.get("answer") is None and isinstance(row.get("solution"), str):
            row["answer"] = _last_box(row["solution"])
        row.setdefault("domain", "math")
    return row


def _still2(row: Row) -> Row:
    """Takes the last box of the solution, with which the chain and the solution end in one text."""
    if row.get("answer") is None and isinstance(row["combined_text"], str):
        row["answer"] = _last_box(row["combined_text"])
    return row


def _with_level(row: Row) -> Row:
    if "level" in row and "difficulty" not in row:
        row["difficulty"] = str(row["level"])
    return row


def _last_box(solution: str) -> str | None:
    start = solution.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for i in range(start + 6, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[i], 0)
        if depth == 0:
            return solution[start + 7 : i]
    return None


def _humaneval(row: Row) -> Row:
    """Takes the prompt as the question. The prompt is Python, and the answer and the tests need its imports and
    functions."""
    ours = {"question": row["prompt"], "tests": row["test"], "entry_point": row["entry_point"], "domain": "code"}
    if row.get("canonical_solution"):
        ours["answer"] = f"{row['prompt']}{row['canonical_solution']}"
    return _named(row, "task_id", "") | ours


def _mbpp(row: Row) -> Row:
    """Shows the teacher the first assert, since nothing else names the function. The teacher does not see the other
    asserts."""
    asserts = [str(line) for line in row["test_list"]]
    if not asserts:
        raise BadLayout("test_list: empty")
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
    text = row.get("text") or row.get("prompt")
    return _named(row, "task_id", "mbpp-") | {
        "question": text and f"{text}\n\nYour code should pass this test:\n\n{asserts[0]}",
        "tests": [*([setup] if setup.strip() else []), *asserts],
        "entry_point": _called(asserts[0], row.get("code")),
        "answer": row.get("code"),
        "domain": "code",
    }


def _called(test: str, code: object) -> str | None:
    """Returns the name of the function that an assert tests, or None when none is found.

    With a reference solution, it is the first function that the assert calls and the solution defines. Without one, it
    is the first function that the assert calls and that is not built in.
    """
    try:
        calls = [
            n.func.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        if isinstance(code, str):
            defined = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}
            return next((name for name in calls if name in defined), None)
    except (SyntaxError, ValueError):
        return None
    return next((name for name in calls if not hasattr(builtins, name)), None)


def _apps(row: Row) -> Row:
    cases = _json(row, "input_output")
    if not isinstance(cases, dict):
        raise BadLayout("input_output: not an object of inputs and outputs")
    inputs, outputs, function = cases.get("inputs"), cases.get("outputs"), cases.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs) or not inputs:
        raise BadLayout("input_output: it needs at least one input, and as many outputs as inputs")
    solutions = _json(row, "solutions") if row.get("solutions") else []
    ours: Row = {"question": _with_starter(row["question"], row.get("starter_code")), "domain": "code"}
    if isinstance(solutions, list) and solutions and isinstance(solutions[0], str):
        ours["answer"] = solutions[0]
    if function:
        ours["entry_point"] = str(function)
        ours["cases"] = [
            {"arguments": json.dumps(given), "returns": json.dumps(wanted), **_unwrapped(wanted)}
            | _integer_keys(given, wanted)
            for given, wanted in zip(inputs, outputs, strict=True)
        ]
    else:
        ours["cases"] = [
            {"stdin": _lines(given), "stdout": _lines(wanted)} for given, wanted in zip(inputs, outputs, strict=True)
        ]
    return _named(row, "problem_id", "apps-") | ours


def _unwrapped(wanted: object) -> dict[str, str]:
    """Returns `or_returns` with the value alone if APPS wrote the value as a list of one value. Both forms are then
    right."""
    return {"or_returns": json.dumps(wanted[0])} if isinstance(wanted, list) and len(wanted) == 1 else {}


def _integer_keys(*places: object) -> dict[str, str]:
    """Returns {"keys": "integers"} if a dict in the arguments or in the value had integer keys, which JSON made
    strings."""
    values = [value for place in places for value in (place, *(place if isinstance(place, list) else ()))]
    keys = [list(value) for value in values if isinstance(value, dict) and value]
    back = any(all(re.fullmatch(r"-?[0-9]{1,18}", key) for key in each) for each in keys)
    return {"keys": "integers"} if back else {}


def _lines(text: object) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _livecodebench(row: Row) -> Row:
    """Takes the public and the private cases."""
    cases = _json(row, "public_test_cases")
    if private := row.get("private_test_cases"):
        if isinstance(private, str) and not private.lstrip().startswith("["):
            row = row | {"private_test_cases": _packed_text("private_test_cases", private)}
        cases = [*cases, *_json(row, "private_test_cases")]
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise BadLayout("public_test_cases: not a list of cases")
    ours: Row = {"question": _with_starter(row["question_content"], row.get("starter_code")), "domain": "code"}
    if any(case.get("testtype") == "functional" for case in cases):
        ours["entry_point"] = (_json(row, "metadata") or {}).get("func_name")
        ours["cases"] = [
            {"arguments": f"[{','.join(str(case['input']).strip().splitlines())}]", "returns": str(case["output"])}
            for case in cases
        ]
    else:
        ours["cases"] = [{"stdin": str(case["input"]), "stdout": str(case["output"])} for case in cases]
    return _named(row, "question_id", "lcb-") | ours


def _packed_text(field: str, packed: str) -> str:
    """Returns the text in LiveCodeBench's packing: a pickle of one text, compressed, in base64.

    The pickle is not loaded, since that could run code: its instructions are read, and any but those of a text are
    refused.
    """
    try:
        unpacking = zlib.decompressobj()
        pickled = unpacking.decompress(base64.b64decode(packed, validate=True), MOST_UNPACKED_BYTES)
        if not unpacking.eof:
            raise BadLayout(f"{field}: more than {MOST_UNPACKED_BYTES >> 20} MiB when unpacked, or torn")
        steps = [(step.name, value) for step, value, _ in pickletools.genops(pickled)]
    except (ValueError, zlib.error) as e:
        raise BadLayout(f"{field}: neither JSON nor packed as LiveCodeBench packs it: {e}") from None
    texts = [value for name, value in steps if name in PICKLED_TEXT]
    if len(texts) != 1 or not all(name in PICKLED_TEXT | PICKLE_FRAME for name, _ in steps):
        raise BadLayout(f"{field}: a pickle of something else than one text, which is not opened")
    return str(texts[0])


def _with_starter(question: object, starter: object) -> str:
    code = str(starter or "").strip()
    return f"{question}\n\nComplete this code:\n\n```python\n{code}\n```" if code else str(question)


def _named(row: Row, field: str, prefix: str) -> Row:
    """Returns the row with an id made of its number in the data set, and without the fields that the layout
    replaces."""
    number = row.get(field)
    named = {} if number is None or row.get("id") is not None else {"id": f"{prefix}{number}"}
    return {k: v for k, v in row.items() if k not in ("tests", "cases", "answer")} | named


def _json(row: Row, field: str) -> Any:
    value = row.get(field)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadLayout(f"{field}: not JSON") from None


_LAYOUTS: tuple[tuple[tuple[str, ...], Layout], ...] = (
    (("prompt", "test", "entry_point"), _humaneval),
    (("test_list",), _mbpp),
    (("question", "input_output"), _apps),
    (("question", "combined_text"), _still2),
    (("question_content", "public_test_cases"), _livecodebench),
    (("tests",), dict),
    (("cases",), dict),
    (("problem",), _math),
    (("answer",), _gsm8k),
)
"""(the fields by which a layout is recognised, the function that reads it). The first layout that fits is taken."""
