"""One small fault at a time in a module's source: what `bench.mutants` runs the tests against.

Cosmic Ray's operators do comparisons, arithmetic, booleans, numbers and loops; what it has none for (a statement
left out, an operand, a condition of a comprehension, an entry of a table) is made here from the syntax tree. Faults
that no test could see (in annotations, or that do not compile) are left out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

OPERATORS = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_GtE", "GtE_Lt", "Gt_LtE", "LtE_Gt")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "BitOr_BitAnd", "BitAnd_BitOr")),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub", "AddNot"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "NumberReplacer"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
)
SWAPPED = {"any": "all", "all": "any", "min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutant:
    """`source` with one fault: `kind` of it, the `line` (from 1) where it is, and that line `before` and `after`."""

    kind: str
    line: int
    before: str
    after: str
    source: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


def mutants(source: str) -> list[Mutant]:
    """All of them, by line; each changed source once. Raises SyntaxError when `source` is none itself."""
    seen = {_meaning(source)}
    found: list[Mutant] = []
    for kind, changed in (*_by_cosmic_ray(source), *_by_tree(source)):
        try:
            meaning = _meaning(changed)
        except SyntaxError:
            continue
        if meaning not in seen:
            seen.add(meaning)
            found.append(_place(kind, source, changed))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.kind))


def _by_cosmic_ray(source: str) -> Iterator[tuple[str, str]]:
    provider = OperatorProvider()
    for name in OPERATORS:
        occurrence = 0
        while (changed := mutate_code(source, provider[name](), occurrence)) is not None:
            yield name, changed
            occurrence += 1


def _by_tree(source: str) -> Iterator[tuple[str, str]]:
    text = _Text(source)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
                yield "statement left out", text.replaced(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple(), *_]):
                yield "statement left out", text.replaced(node, "pass")
            case ast.BoolOp(op=op, values=values):
                word = " and " if isinstance(op, ast.And) else " or "
                for value in values:
                    rest = word.join(f"({text.of(other)})" for other in values if other is not value)
                    yield "operand left out", text.replaced(node, f"({rest})")
            case ast.BinOp(left=left, right=right):
                for side in (left, right):
                    yield "operand left out", text.replaced(node, f"({text.of(side)})")
            case ast.IfExp(body=body, orelse=orelse):
                for side in (body, orelse):
                    yield "one branch always", text.replaced(node, f"({text.of(side)})")
            case ast.comprehension(ifs=ifs):
                for condition in ifs:
                    yield "condition left out", text.replaced(condition, "True")
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[right]):
                word = "not in" if isinstance(op, ast.In) else "in"
                yield "membership turned", text.replaced(node, f"({text.of(left)}) {word} ({text.of(right)})")
            case ast.Lambda(body=body):
                yield "lambda turned", text.replaced(body, f"not ({text.of(body)})")
            case ast.Call(func=ast.Name(id=name) as func) if name in SWAPPED:
                yield "function swapped", text.replaced(func, SWAPPED[name])
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield "nothing returned", text.replaced(value, f"type({text.of(value)})()")
            case ast.match_case(body=[first, *_]) if isinstance(first, ast.stmt):
                yield "case does nothing", text.replaced_all(node.body, "pass")
            case ast.If(body=body):
                yield "branch does nothing", text.replaced_all(body, "pass")


class _Text:
    """A source whose nodes are replaced by the text of others."""

    def __init__(self, source: str) -> None:
        self._bytes = source.encode()
        self._lines = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _span(self, first: ast.expr | ast.stmt, last: ast.expr | ast.stmt) -> tuple[int, int]:
        assert last.end_lineno is not None
        assert last.end_col_offset is not None
        begin = self._lines[first.lineno - 1] + first.col_offset
        return begin, self._lines[last.end_lineno - 1] + last.end_col_offset

    def of(self, node: ast.expr) -> str:
        begin, end = self._span(node, node)
        return self._bytes[begin:end].decode()

    def replaced(self, node: ast.expr | ast.stmt, by: str) -> str:
        begin, end = self._span(node, node)
        return (self._bytes[:begin] + by.encode() + self._bytes[end:]).decode()

    def replaced_all(self, nodes: list[ast.stmt], by: str) -> str:
        begin, end = self._span(nodes[0], nodes[-1])
        return (self._bytes[:begin] + by.encode() + self._bytes[end:]).decode()


class _Bare(ast.NodeTransformer):
    """Without annotations and slots: what no test can see the difference of."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "slots"]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    compile(source, "mutant", "exec")
    return ast.dump(_Bare().visit(tree))


def _place(kind: str, source: str, changed: str) -> Mutant:
    """Where the two differ first."""
    old, new = source.splitlines(), changed.splitlines()
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)) - 1)
    return Mutant(kind, at + 1, old[at].strip(), new[at].strip(), changed)
