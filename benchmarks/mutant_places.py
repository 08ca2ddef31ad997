"""Every place in a file of Python that can be broken, and how: comparisons, operators, numbers, `not`, `and`,
conditions, statements, results, and words of SQL. The benchmark mutants.py draws from them."""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIGNS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*",
    ast.FloorDiv: "//", ast.Div: "/", ast.Mod: "%", ast.BitOr: "|", ast.BitAnd: "&", ast.And: "and", ast.Or: "or",
}  # fmt: skip
OTHER = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in", ast.Add: "-", ast.Sub: "+", ast.Mult: "//",
    ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "*", ast.BitOr: "&", ast.BitAnd: "|", ast.And: "or", ast.Or: "and",
}  # fmt: skip
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|WHERE|JOIN|SET|COALESCE|SUM|COUNT)\b")
SQL_WORDS = {
    " AND ": " OR ", " = ": " != ", " < ": " <= ", " > ": " >= ", " + ": " - ", "IS NULL": "IS NOT NULL",
    "IS NOT NULL": "IS NULL", "SUM(": "MAX(", "MAX(": "MIN(", "MIN(": "MAX(", "LEFT JOIN": "JOIN", " DESC": " ASC",
    "NOT EXISTS": "EXISTS", "DISTINCT ": "",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    group: str
    file: str
    line: int
    start: int
    """Bytes of the file from `start` to `end` are replaced by `text`."""
    end: int
    text: str
    kind: str


def mutants_of(root: Path, group: str, file: str) -> Iterator[Mutant]:
    """Yields every mutant of a file."""
    data = (root / file).read_bytes()
    begins = [0]
    for row in data.splitlines(keepends=True):
        begins.append(begins[-1] + len(row))
    tree = ast.parse(data)
    notes = {id(n) for top in ast.walk(tree) for part in _annotations(top) for n in ast.walk(part)}

    def at(node: ast.AST, *, end: bool = False) -> int:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return begins[line - 1] + int(column)

    def one(start: int, end: int, text: str, kind: str) -> Mutant:
        return Mutant(group, file, data.count(b"\n", 0, start) + 1, start, end, text, kind)

    def between(left: ast.AST, right: ast.AST, op: ast.AST) -> Iterator[Mutant]:
        if type(op) in OTHER:
            word = SIGNS[type(op)]
            start = data.find(word.encode(), at(left, end=True), at(right))
            if start >= 0:
                yield one(start, start + len(word), OTHER[type(op)], f"{word} → {OTHER[type(op)]}")

    for node in ast.walk(tree):
        if id(node) in notes:
            continue
        match node:
            case ast.Compare(left=left, ops=ops, comparators=rights):
                for a, op, b in zip([left, *rights], ops, rights, strict=False):
                    yield from between(a, b, op)
            case ast.BinOp(left=left, op=op, right=right) if not isinstance(left, ast.JoinedStr):
                yield from between(left, right, op)
            case ast.BoolOp(op=op, values=values):
                for a, b in itertools.pairwise(values):
                    yield from between(a, b, op)
            case ast.UnaryOp(op=ast.Not()):
                yield one(at(node), at(node) + len("not "), "", "not left out")
            case ast.Constant(value=bool() as value):
                yield one(at(node), at(node, end=True), str(not value), f"{value} → {not value}")
            case ast.Constant(value=int() as value):
                yield one(at(node), at(node, end=True), str(value + 1), f"{value} → {value + 1}")
            case ast.Constant(value=str()) | ast.JoinedStr():
                source = data[at(node) : at(node, end=True)].decode()
                if file.startswith("harvest/store/") and SQL.search(source):
                    for word, other in SQL_WORDS.items():
                        for found in re.finditer(re.escape(word), source):
                            start = at(node) + len(source[: found.start()].encode())
                            yield one(
                                start, start + len(word), other, f"SQL: {word.strip()} → {other.strip() or 'nothing'}"
                            )
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if not _is_checking(test):
                source = data[at(test) : at(test, end=True)].decode()
                yield one(at(test), at(test, end=True), f"not ({source})", "condition turned")
            case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
                yield one(at(value), at(value, end=True), "None", "returns None")
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign():
                yield one(at(node), at(node, end=True), "pass", "statement left out")


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what is never run, or only to be read as a type."""
    for name in ("annotation", "returns"):
        if (part := getattr(node, name, None)) is not None:
            yield part
    if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.istitle() for t in node.targets):
        yield node.value  # the name of a type
    if isinstance(node, ast.If) and _is_checking(node.test):
        yield from node.body


def _is_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
