"""`--where`: an expression over the fields of a row, compiled once, never evaluated as Python.

`num_turns >= 3 and metadata.topic == "maps"`. Python's grammar, and of it only comparisons, `and`,
`or`, `not`, `in`, numbers, strings, lists, fields (`usage.completion_tokens`, `metadata["my key"]`,
`dialogue[0].instructor`) and `len()`. `null`, `true` and `false` as in JSON.

A field that is missing inside another is null. What cannot be compared, as null with a number, is
neither less nor greater.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence

from magpie_cli.errors import UsageError

Fields = Mapping[str, object]
Value = Callable[[Fields], object]

DEEPEST = 50
_HINT = "as: --where 'num_turns >= 3 and metadata.topic == \"maps\" and len(findings) == 0'"
_WORDS = {"null": None, "true": True, "false": False}


def _is_in(part: object, whole: object) -> bool:
    """Of a list, an object's keys, or a string: nothing is in anything else."""
    if isinstance(whole, str):
        return isinstance(part, str) and part in whole
    return isinstance(whole, list | dict) and part in whole


_COMPARE: dict[type[ast.cmpop], Callable[..., bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _is_in,
    ast.NotIn: lambda part, whole: not _is_in(part, whole),
}


class Where:
    """One expression. `names` are the fields of a row that it asks for."""

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.strip().splitlines())
        self.names: set[str] = set()
        self._value = self._compiled(self._parsed(), 0)

    def holds(self, fields: Fields) -> bool:
        """Whether it is true of a row."""
        return bool(self._value(fields))

    def _parsed(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            raise self._wrong(error.msg, (error.offset or 1) - 1) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._wrong("cannot be read", 0) from error

    def _compiled(self, node: ast.expr, depth: int) -> Value:
        if depth > DEEPEST:
            raise self._wrong(f"nested more than {DEEPEST} deep", self._place(node))
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as constant):
                return lambda _: constant
            case ast.Name(id=name):
                return self._name(name)
            case ast.List(elts=nodes) | ast.Tuple(elts=nodes):
                parts = [self._compiled(part, depth + 1) for part in nodes]
                return lambda fields: [part(fields) for part in parts]
            case ast.Call(func=ast.Name(id="len"), args=[whole], keywords=[]):
                return _length(self._compiled(whole, depth + 1))
            case ast.Attribute() | ast.Subscript():
                return self._field(node, depth + 1)
            case _:
                return self._operation(node, depth + 1)

    def _field(self, node: ast.Attribute | ast.Subscript, deeper: int) -> Value:
        """`metadata.topic`, `metadata["topic"]`, `dialogue[0]`, `dialogue[-1]`."""
        match node:
            case ast.Attribute(attr=key):
                return _part(self._compiled(node.value, deeper), key)
            case ast.Subscript(slice=ast.Constant(value=str() | int() as key)):
                return _part(self._compiled(node.value, deeper), key)
            case ast.Subscript(
                slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(back)))
            ):
                return _part(self._compiled(node.value, deeper), -back)
        raise self._wrong("in [ ] stands a string or a whole number", self._place(node.slice))

    def _operation(self, node: ast.expr, deeper: int) -> Value:
        match node:
            case ast.BoolOp(op=kind, values=nodes):
                parts = [self._compiled(part, deeper) for part in nodes]
                every = all if isinstance(kind, ast.And) else any
                return lambda fields: every(part(fields) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                value = self._compiled(inner, deeper)
                return lambda fields: not value(fields)
            case ast.UnaryOp(
                op=ast.USub(), operand=ast.Constant(value=int() | float() as number)
            ) if not isinstance(number, bool):
                return lambda _: -number
            case ast.Compare(left=left, ops=ops, comparators=right) if all(
                type(op) in _COMPARE for op in ops
            ):
                sides = [self._compiled(side, deeper) for side in (left, *right)]
                return _compared([_COMPARE[type(op)] for op in ops], sides)
            case _:
                raise self._wrong(
                    f"`{ast.get_source_segment(self.text, node)}` is neither a comparison, and, or,"
                    " not, in, nor a number, a string, a list, a field or len()",
                    self._place(node),
                )

    def _name(self, name: str) -> Value:
        if name in _WORDS:
            constant = _WORDS[name]
            return lambda _: constant
        self.names.add(name)
        return lambda fields: fields.get(name)

    def _place(self, node: ast.expr) -> int:
        """In characters; the tree counts bytes."""
        return len(self.text.encode()[: node.col_offset].decode())

    def _wrong(self, what: str, place: int) -> UsageError:
        return UsageError(
            f"--where, character {place + 1}: {what}\n  {self.text}\n  {' ' * place}^", _HINT
        )


def _part(whole: Value, key: str | int) -> Value:
    """The entry `key` of an object, or the `key`-th of a list; null where there is none."""

    def value(fields: Fields) -> object:
        found = whole(fields)
        if isinstance(found, dict) and isinstance(key, str):
            return found.get(key)
        if isinstance(found, list) and isinstance(key, int) and -len(found) <= key < len(found):
            return found[key]
        return None

    return value


def _length(whole: Value) -> Value:
    """Of a string in characters, of a list or an object in entries; null of anything else."""

    def value(fields: Fields) -> object:
        found = whole(fields)
        return len(found) if isinstance(found, str | list | dict) else None

    return value


def _compared(compare: Sequence[Callable[..., bool]], sides: Sequence[Value]) -> Value:
    """`a < b <= c`: each with the next."""

    def value(fields: Fields) -> object:
        values = [side(fields) for side in sides]
        try:
            return all(
                holds(left, right)
                for holds, left, right in zip(compare, values, values[1:], strict=False)
            )
        except TypeError:  # of two kinds that have no order
            return False

    return value
