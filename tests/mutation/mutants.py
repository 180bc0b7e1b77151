"""Mutants of a module: its syntax tree with one small fault each; pure.

Left alone is what no behaviour depends on: annotations, decorators, keywords of classes, imports,
docstrings, texts of more than one word with their pieces, and `strict` of zip.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec import Struct

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_EITHER_WAY = {"min", "max", "zip"}  # with their first two arguments exchanged, nearly always
_SKIPPED = {"annotation", "returns", "decorator_list", "ctx", "type_comment"}
_IMPORTS = (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)


class Mutant(Struct, frozen=True):
    """One fault: where, what stood there, what stands there now; `tree` is the module with it."""

    line: int
    scope: str
    before: str
    after: str
    tree: Callable[[], ast.Module]  # made for the few that are tried: it is a copy of it all

    @property
    def name(self) -> str:
        """The same whatever moves above it."""
        return f"{self.scope}: {self.before} -> {self.after}"


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    tree = ast.parse(source)
    found = list(_below(tree, tree, ()))
    return [mutant for mutant in found if mutant.before != mutant.after]


def _below(tree: ast.Module, node: ast.AST, scope: tuple[str, ...]) -> Iterator[Mutant]:
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED or (isinstance(node, ast.ClassDef) and name == "keywords"):
            continue
        if isinstance(value, ast.AST):
            yield from _at(tree, value, scope, (node, name))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST) and not _is_piece(node, item):
                    yield from _at(tree, item, scope, (value, index))


def _at(
    tree: ast.Module, node: ast.AST, scope: tuple[str, ...], place: tuple[Any, Any]
) -> Iterator[Mutant]:
    """`place` is the object that holds the node, with the name or index there."""
    if isinstance(node, _IMPORTS) or _is_left_alone(node):
        return
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        scope = (*scope, node.name)
    for other in _replacements(node):
        yield Mutant(
            getattr(node.target if isinstance(node, ast.comprehension) else node, "lineno", 0),
            ".".join(scope) or "module",
            _text(node),
            _text(other),
            partial(_changed, tree, place, node, other),
        )
    yield from _below(tree, node, scope)


def _changed(tree: ast.Module, place: tuple[Any, Any], node: ast.AST, other: ast.AST) -> ast.Module:
    """A copy of the tree with another node in the place of one."""
    _put(place, other)
    changed = copy.deepcopy(tree)
    _put(place, node)
    return ast.fix_missing_locations(changed)


def _put(place: tuple[Any, Any], node: ast.AST) -> None:
    holder, key = place
    if isinstance(key, int):
        holder[key] = node
    else:
        setattr(holder, key, node)


def _text(node: ast.AST) -> str:
    """What a reader sees of a node: the head of a statement with a body."""
    return ast.unparse(node).split("\n")[0].strip()


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring, or ...
    if isinstance(node, ast.keyword):
        return node.arg == "strict"
    return isinstance(node, ast.Assign) and "__all__" in _text(node.targets[0])


def _is_piece(text: ast.AST, item: ast.AST) -> bool:
    """Of an f-string that is a sentence; the values in it are none."""
    if not (isinstance(text, ast.JoinedStr) and isinstance(item, ast.Constant)):
        return False
    pieces = (piece.value for piece in text.values if isinstance(piece, ast.Constant))
    return any(" " in str(piece) for piece in pieces)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.comprehension():
            for index in range(len(node.ifs)):
                yield _with(node, ifs=node.ifs[:index] + node.ifs[index + 1 :])
        case ast.If() | ast.IfExp():
            yield _with(node, test=ast.Constant(value=True))
            yield _with(node, test=ast.Constant(value=False))
        case ast.stmt():
            yield from _statements(node)
        case ast.expr():
            yield from _expressions(node)


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[op, *_]):
            yield _with(node, ops=[_COMPARED[type(op)](), *node.ops[1:]])
        case ast.BoolOp():
            yield from _conditions(node)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _COMPUTED:
            yield _with(node, op=_COMPUTED[type(node.op)]())
        case ast.Constant():
            yield from _constants(node)
        case ast.Call():
            yield from _calls(node)


def _with(node: ast.AST, **changed: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changed.items():
        setattr(other, name, value)
    return other


def _conditions(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for index in range(len(node.values)):
        rest = node.values[:index] + node.values[index + 1 :]
        yield rest[0] if len(rest) == 1 else _with(node, values=rest)


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(value=not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(value=node.value + 1)
    elif isinstance(node.value, str) and node.value and " " not in node.value.strip():
        yield ast.Constant(value=f"{node.value}X")


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    match node.func:
        case ast.Name(id=name) if name in _CALLED:
            yield _with(node, func=ast.Name(id=_CALLED[name], ctx=ast.Load()))
    if isinstance(node.func, ast.Name) and node.func.id in _EITHER_WAY:
        return
    match node.args:
        case [one, other, *rest] if not isinstance(one, ast.Starred | ast.Constant):
            yield _with(node, args=[other, one, *rest])


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.Return(value=ast.expr() as value) if _text(value) != "None":
            yield _with(node, value=ast.Constant(value=None))
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Raise():
            yield ast.Pass()
