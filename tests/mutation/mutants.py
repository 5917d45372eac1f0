"""Which small changes are made to the core: each one is a piece of the source, replaced by another text.

Not touched, for nothing that matters can differ: docstrings, annotations, imports, decorators, `__all__`, `__slots__`,
`__repr__`, assertions (they state what cannot be otherwise), and texts for people: f-strings, and strings of several
words. Nor is an assignment left out where what is missing would be found at once: a name's, or one in `__init__`.

This file imports nothing of the project, so that a process that has it can still import a changed core.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CORE", "Mutant", "mutants", "mutants_of"]

CORE = Path(__file__).parents[2] / "middleware/kafka_once/core"

_COMPARE: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "//",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
    ast.LShift: ">>",
    ast.RShift: "<<",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SKIPPED_NAMES = {"__all__", "__slots__"}
_Changes = Iterator[tuple[ast.AST, str]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`first` and `last`: the lines of the statement that is changed, of a compound one those of its head.

    `where`: the function, or "" for what is evaluated at import; `function_line` is where that function begins.
    `again`: how many before it look the same.
    """

    file: str
    line: int
    where: str
    function_line: int
    first: int
    last: int
    before: str
    after: str
    source: str
    again: int = 0

    @property
    def name(self) -> str:
        """Tells it from all others, and stays the same when lines move."""
        return f"{self.file} {self.where or 'module'}: {self.before} → {self.after}" + f" ({self.again})" * bool(
            self.again
        )

    @property
    def diff(self) -> str:
        return f"{self.file}:{self.line} in {self.where or 'module'}\n  - {self.before}\n  + {self.after}"


class _Source:
    """A text and where its pieces are; `ast` counts columns in bytes."""

    def __init__(self, text: str) -> None:
        self.bytes = text.encode()
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self.starts[node.lineno - 1] + node.col_offset,  # type: ignore[attr-defined]
            self.starts[node.end_lineno - 1] + node.end_col_offset,  # type: ignore[attr-defined]
        )

    def of(self, node: ast.AST) -> str:
        begin, end = self.span(node)
        return self.bytes[begin:end].decode()

    def between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> str:
        """The two, with another operator between them."""
        begin, end = self.span(left)[1], self.span(right)[0]
        middle = self.bytes[begin:end].decode()
        assert middle.count(old) == 1, middle
        return middle.replace(old, new)

    def replaced(self, node: ast.AST, text: str) -> tuple[str, str, str]:
        """The whole, and the lines in question before and after, each as one."""
        begin, end = self.span(node)
        whole = self.bytes[:begin] + text.encode() + self.bytes[end:]
        line_begin, line_end = self.starts[node.lineno - 1], self.starts[node.end_lineno]  # type: ignore[attr-defined]
        before = self.bytes[line_begin:line_end].decode()
        after = (self.bytes[line_begin:begin] + text.encode() + self.bytes[end:line_end]).decode()
        return whole.decode(), " ".join(before.split()), " ".join(after.split())


class _Finder:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.source = _Source(text)
        self.tree = ast.parse(text)
        self.found: list[Mutant] = []
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def all(self) -> list[Mutant]:
        self._block(self.tree.body, "", 0)
        return self.found

    # ------------------------------------------------------------------------------------------------- what is visited

    def _block(self, body: list[ast.stmt], where: str, function_line: int, *, outer: str = "") -> None:
        for statement in body:
            self._statement(statement, where, function_line, outer)

    def _statement(self, node: ast.stmt, where: str, function_line: int, outer: str) -> None:
        if isinstance(node, ast.ClassDef):
            self._block(node.body, where, function_line, outer=f"{outer}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            self._function(node, where, function_line, outer)
        elif not _is_skipped(node):
            self._changes(node, where, function_line)
            for part in ("body", "orelse", "finalbody"):
                self._block(getattr(node, part, []), where, function_line, outer=outer)

    def _function(self, node: ast.FunctionDef, where: str, function_line: int, outer: str) -> None:
        if node.name == "__repr__":
            return
        for default in (*node.args.defaults, *node.args.kw_defaults):  # evaluated where the function is defined
            if default is not None:
                self._expressions(default, where, function_line, node)
        if where:  # one within another is changed with it
            self._block(node.body, where, function_line)
            return
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        self._block(node.body, f"{outer}{node.name}", first)

    # ---------------------------------------------------------------------------------------------- what is changed

    def _changes(self, node: ast.stmt, where: str, function_line: int) -> None:
        for text in _OF_STATEMENTS.get(type(node), _nothing)(node):
            if where.endswith("__init__") and isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            self._add(node, text, where, function_line, node)
        for _, value in ast.iter_fields(node):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.expr) and part is not getattr(node, "annotation", None):
                    self._expressions(part, where, function_line, node)
        if isinstance(node, ast.If | ast.While) and not _is_negated_otherwise(node.test):
            self._add(node.test, f"not ({self.source.of(node.test)})", where, function_line, node)

    def _expressions(self, root: ast.expr, where: str, function_line: int, statement: ast.stmt) -> None:
        for node in _walk(root):
            for changed, text in _OF_EXPRESSIONS.get(type(node), _no_change)(self.source, node):
                self._add(changed, text, where, function_line, statement)

    def _add(self, node: ast.AST, text: str, where: str, function_line: int, statement: ast.stmt) -> None:
        whole, before, after = self.source.replaced(node, text)
        body = getattr(statement, "body", None)
        last = body[0].lineno - 1 if isinstance(body, list) else statement.end_lineno
        line = node.lineno  # type: ignore[attr-defined]
        lines = statement.lineno, max(last or 0, statement.lineno)
        again = self._seen[where, before, after]
        self._seen[where, before, after] += 1
        self.found.append(Mutant(self.file, line, where, function_line, *lines, before, after, whole, again))


def _is_skipped(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.Pass):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id in _SKIPPED_NAMES for target in targets)


def _is_negated_otherwise(test: ast.expr) -> bool:
    """Whether another change turns it round already: a `not` is left out, a sign is the other one."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return isinstance(test.ops[0], ast.Is | ast.IsNot | ast.Eq | ast.NotEq | ast.In | ast.NotIn)
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _walk(root: ast.AST) -> Iterator[ast.AST]:
    if isinstance(root, ast.JoinedStr):
        return  # columns within it are not told rightly by every Python
    yield root
    for child in ast.iter_child_nodes(root):
        yield from _walk(child)


# -------------------------------------------------------------------------------------------------------- statements


def _nothing(_node: ast.stmt) -> Iterator[str]:
    return iter(())


def _deleted(_node: ast.stmt) -> Iterator[str]:
    yield "pass"


def _assignment(node: ast.stmt) -> Iterator[str]:
    """A name that is missing is found at once; what is kept is not."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]  # type: ignore[attr-defined]
    if (
        any(not isinstance(target, ast.Name | ast.Tuple) for target in targets)
        and getattr(node, "value", None) is not None
    ):
        yield "pass"


def _return(node: ast.stmt) -> Iterator[str]:
    assert isinstance(node, ast.Return)
    if node.value is None:
        yield "pass"
    elif not (isinstance(node.value, ast.Constant) and not node.value.value):
        yield "return None"  # for what is false it would be the same to whoever asks


_OF_STATEMENTS: dict[type[ast.stmt], Callable[[ast.stmt], Iterator[str]]] = {
    ast.Expr: _deleted,
    ast.AugAssign: _deleted,
    ast.Delete: _deleted,
    ast.Raise: _deleted,
    ast.Assign: _assignment,
    ast.AnnAssign: _assignment,
    ast.Return: _return,
    ast.Continue: lambda _node: iter(("pass", "break")),
    ast.Break: lambda _node: iter(("pass",)),
}

# ------------------------------------------------------------------------------------------------------- expressions


def _no_change(_source: _Source, _node: ast.AST) -> _Changes:
    return iter(())


def _compare(source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.Compare)
    operands = [node.left, *node.comparators]
    for number, operator in enumerate(node.ops):
        for new in _COMPARE[type(operator)]:
            texts = [source.of(operands[0])]
            for at, each in enumerate(node.ops):
                text = new if at == number else _SIGNS[type(each)]
                texts += [text, source.of(operands[at + 1])]
            yield node, f"({' '.join(texts)})"


_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


def _boolean(source: _Source, node: ast.AST) -> _Changes:
    """The other operator, and each operand left out."""
    assert isinstance(node, ast.BoolOp)
    texts = [f"({source.of(each)})" for each in node.values]
    word, other = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
    yield node, f"({other.join(texts)})"
    for number in range(len(texts)):
        yield node, f"({word.join(texts[:number] + texts[number + 1 :])})"


def _unary(source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.UnaryOp)
    if isinstance(node.op, ast.Not | ast.USub):
        yield node, f"({source.of(node.operand)})"


def _binary(source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.BinOp)
    if type(node.op) in _ARITHMETIC:
        yield node, f"(({source.of(node.left)}) {_ARITHMETIC[type(node.op)]} ({source.of(node.right)}))"


def _constant(_source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.Constant)
    if isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node.value, int | float):
        yield node, repr(node.value + 1)
    elif isinstance(node.value, str) and " " not in node.value:
        yield node, repr(node.value + "?")


def _condition(source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.IfExp)
    if not _is_negated_otherwise(node.test):
        yield node.test, f"(not ({source.of(node.test)}))"


def _filter(source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.comprehension)
    for each in node.ifs:
        if not _is_negated_otherwise(each):
            yield each, f"(not ({source.of(each)}))"
        yield each, "True"


def _call(_source: _Source, node: ast.AST) -> _Changes:
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        yield node.func, _CALLS[node.func.id]


def _entries(source: _Source, node: ast.AST) -> _Changes:
    """A table without one of its rows. A value in brackets is left: it is a text of several lines."""
    assert isinstance(node, ast.Dict)
    for key, value in zip(node.keys, node.values, strict=True):
        if key is not None and source.bytes[source.span(value)[1] :].lstrip()[:1] in b",}":
            row = ast.Name("row", lineno=key.lineno, col_offset=key.col_offset)
            row.end_lineno, row.end_col_offset = value.end_lineno, value.end_col_offset
            yield row, "**{}"


_OF_EXPRESSIONS: dict[type[ast.AST], Callable[[_Source, ast.AST], _Changes]] = {
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Constant: _constant,
    ast.IfExp: _condition,
    ast.comprehension: _filter,
    ast.Call: _call,
    ast.Dict: _entries,
}


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All of one module, in the order of the source."""
    return _Finder(file, text).all()


def mutants() -> list[Mutant]:
    """All of the core."""
    return [mutant for path in sorted(CORE.glob("*.py")) for mutant in mutants_of(path.name, path.read_text())]
