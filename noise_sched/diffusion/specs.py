"""Config strings -> objects: build("sigmoid(-3, 3, tau=0.9)").

A spec is the call that a person would write in Python, with literals (and other specs) as arguments.
It is parsed, never evaluated. A bare name may stand for a number that several specs share:
build("edm(sigma_data)", names={"sigma_data": 0.5}). What may be named are the lower-case dataclasses of
each module, so a new one is reachable by its name as soon as it is written; `repr` of what is built is
again a spec.

What an argument may be is read from the dataclass's field: with `metadata={"kind": ...}` a spec of that
kind; with `metadata={"static": True}` a value of its annotated type, or a list of numbers where that is
`Leaf`; else a finite number. None is allowed where it is the default.
"""

import ast
import dataclasses
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any, get_args

from noise_sched.diffusion import (
    clocks,
    conditioning,
    density,
    grids,
    guidance,
    input_scale,
    parametrization,
    process,
    schedules,
    solvers,
    thresholding,
    times,
    weighting,
)
from noise_sched.diffusion.numbers import fits_float32
from noise_sched.messages import did_you_mean, hint, shown

KINDS: dict[str, ModuleType] = {
    "schedule": schedules,
    "process": process,
    "parametrization": parametrization,
    "input_scale": input_scale,
    "conditioning": conditioning,
    "weight": weighting,
    "solver": solvers,
    "clock": clocks,
    "grid": grids,
    "guidance": guidance,
    "threshold": thresholding,
    "time": times,
    "density": density,
}


# Characters of a spec: a table of 1000 betas, written out, has about 20,000.
MAX_LENGTH = 200_000
# Brackets within brackets; nobody nests schedules deeper.
MAX_DEPTH = 20
# Of whole numbers, which are levels, orders and steps.
MAX_WHOLE = 1_000_000


class SpecError(ValueError):
    """A config string that cannot be built; the message says what would be right."""


def choices(kind: str) -> dict[str, type]:
    """Every buildable name of a kind: {"sigmoid": sigmoid, ...} for "schedule"."""
    return {
        name: value
        for name, value in vars(KINDS[kind]).items()
        if dataclasses.is_dataclass(value) and isinstance(value, type) and name.islower()
    }


def build(spec: str, kind: str | None = None, names: Mapping[str, float] | None = None) -> Any:
    """Builds the object that a spec names.

    Args:
      spec: e.g. "sigmoid(-3, 3, tau=0.9)", "vp(input_scale=0.6)", "ddim(eta=0.5)" or just "linear".
      kind: one of `KINDS`; may be left out where the name, or else the arguments, belong to one kind only.
      names: numbers that arguments may name, so that several specs share one.

    Returns:
      The object.

    Raises:
      SpecError: naming the nearest valid name or the call's true signature.
    """
    if kind is not None and kind not in KINDS:
        raise SpecError(f"unknown kind {kind!r}. {did_you_mean(kind, KINDS)}")
    return _build_node(_parse(spec, kind), shown(spec), kind, names or {})


def _parse(spec: str, kind: str | None) -> ast.expr:
    if not isinstance(spec, str):
        raise SpecError(
            f"expected {_title(kind)} as a string, for example {_example(kind)!r}, got "
            f"{shown(spec)} of type {type(spec).__name__}."
        )
    if len(spec) > MAX_LENGTH:
        raise SpecError(
            f"{_title(kind)} {shown(spec)} is {len(spec):,} characters long; at most {MAX_LENGTH:,} are "
            "read."
        )
    # Before Python's parser, which fails in several ways on deep nesting.
    _check_depth(_bracket_depth(spec), spec, kind)
    try:
        node = ast.parse(spec.strip(), mode="eval").body
    except SyntaxError as error:
        reason = error.msg
    except (
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:  # NUL bytes, lone surrogates, 9999 signs
        reason = str(error) or "it is nested too deep"
    else:
        _check_depth(_node_depth(node), spec, kind)
        return node
    raise SpecError(
        f"cannot read {_title(kind)} {shown(spec)}: {reason}. Write it as a call, for example "
        f"{_example(kind)!r}."
    )


def _bracket_depth(spec: str) -> int:
    depth = deepest = 0
    for character in spec:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _node_depth(node: ast.expr) -> int:
    """Levels of brackets and signs, counted without recursion."""
    deepest, todo = 0, [(node, 0)]
    while todo:
        parent, depth = todo.pop()
        deepest = max(deepest, depth)
        todo += [(child, depth + 1) for child in ast.iter_child_nodes(parent)]
    # A call's argument is up to two levels down (as a keyword's value), and its context one more.
    return deepest // 3


def _check_depth(depth: int, spec: str, kind: str | None) -> None:
    if depth > MAX_DEPTH:
        raise SpecError(
            f"cannot read {_title(kind)} {shown(spec)}: it is nested {depth} deep, at most {MAX_DEPTH} "
            "are read."
        )


def _build_node(node: ast.expr, spec: str, kind: str | None, names: Mapping[str, float]) -> Any:
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    if not isinstance(call.func, ast.Name):
        raise SpecError(
            f"cannot read {_title(kind)} {spec}: expected a name, with arguments in brackets if "
            f"it takes any, for example {_example(kind)!r}."
        )
    keywords = {k.arg: k.value for k in call.keywords if k.arg}
    if len(keywords) < len(call.keywords):
        some = any(k.arg is None for k in call.keywords)
        reason = "'**' is not allowed" if some else "an argument is given twice"
        raise SpecError(f"cannot read {_title(kind)} {spec}: {reason}.")
    made = _find(call.func.id, spec, kind, (call.args, keywords))
    try:
        given = inspect.signature(made).bind(*call.args, **keywords).arguments
    except TypeError as error:
        raise SpecError(_wrong_arguments(made, spec, keywords, str(error))) from None
    fields = {f.name: f for f in dataclasses.fields(made)}
    values = {
        name: _argument(value, spec, made, fields[name], names) for name, value in given.items()
    }
    try:
        return made(**values)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise SpecError(f"in {spec}: {error}") from None


def _argument(
    node: ast.expr, spec: str, made: type, field: dataclasses.Field, names: Mapping[str, float]
) -> Any:
    """The value of one argument, of the kind and type that its field says."""
    kind = field.metadata.get("kind")
    if isinstance(node, ast.Call) or (kind and isinstance(node, ast.Name)):
        if kind is None:
            raise SpecError(_wrong_type(made, field, spec, ast.unparse(node)))
        return _build_node(node, spec, kind, names)
    if isinstance(node, ast.Name) and node.id in names:
        value = names[node.id]
    else:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError):  # {[]: 1} is a TypeError
            raise SpecError(
                f"in {spec}: {ast.unparse(node)!r} is not a literal. Arguments are numbers, strings, "
                f"booleans{_shared(names)} or other specs; nothing is evaluated."
            ) from None
    if not _is_allowed(value, field):
        raise SpecError(_wrong_type(made, field, spec, shown(value)))
    return value


def _is_allowed(value: Any, field: dataclasses.Field) -> bool:
    if value is None:
        return field.default is None
    if field.metadata.get("kind"):
        return False  # it would have been a call or a name
    if not field.metadata.get("static"):
        return fits_float32(value)
    types = _static_types(field)
    if not types:  # a table of plain numbers
        return isinstance(value, (list, tuple)) and all(map(fits_float32, value))
    if float in types:
        return fits_float32(value)
    if int in types:
        return type(value) is int and abs(value) <= MAX_WHOLE
    return type(value) in types


def _static_types(field: dataclasses.Field) -> tuple[type, ...]:
    """The types of a static field; () for `Leaf`."""
    annotated = get_args(field.type) or (field.type,)
    return tuple(t for t in annotated if t in (bool, int, float, str))


def _wrong_type(made: type, field: dataclasses.Field, spec: str, got: str) -> str:
    kind, types = field.metadata.get("kind"), _static_types(field)
    if kind:
        expected = f"a {kind}, for example {_example(kind)!r}"
    elif not field.metadata.get("static") or float in types:
        expected = "a finite number"
    elif not types:
        expected = "a list of finite numbers"
    else:
        words = {int: f"a whole number up to {MAX_WHOLE:,}", bool: "True or False", str: "a string"}
        expected = words[types[0]]
    optional = " or None" if field.default is None else ""
    return (
        f"in {spec}: {field.name} of {made.__name__} must be {expected}{optional}, got {got}. The call is "
        f"{_signature(made)}."
    )


def _find(
    name: str, spec: str, kind: str | None, arguments: tuple[list[ast.expr], dict[str, ast.expr]]
) -> type:
    """The class of that name; without a kind, the only one, or the only one that takes the arguments."""
    kinds = [kind] if kind else list(KINDS)
    found = {each: choices(each)[name] for each in kinds if name in choices(each)}
    if len(found) > 1:
        found = {k: made for k, made in found.items() if _takes(made, *arguments)} or found
    if len(found) > 1:
        raise SpecError(
            f"{spec} is ambiguous: {name!r} is a {' and a '.join(found)}. Say which one is meant, for "
            f"example build({spec}, {next(iter(found))!r})."
        )
    if found:
        return next(iter(found.values()))
    known = sorted({choice for each in kinds for choice in choices(each)})
    raise SpecError(f"unknown {kind or 'name'} {name!r} in {spec}. {did_you_mean(name, known)}")


def _takes(made: type, args: list[ast.expr], keywords: dict[str, ast.expr]) -> bool:
    try:
        inspect.signature(made).bind(*args, **keywords)
    except TypeError:
        return False
    return True


def _wrong_arguments(made: type, spec: str, keywords: Mapping[str, Any], reason: str) -> str:
    known = list(inspect.signature(made).parameters)
    unknown = [name for name in keywords if name not in known]
    near = hint(unknown[0], known) if unknown else ""
    return f"in {spec}: {reason}. {near}The call is {_signature(made)}."


def _signature(made: type) -> str:
    parameters = inspect.signature(made).parameters.items()
    listed = (name if p.default is p.empty else f"{name}={p.default!r}" for name, p in parameters)
    return f"{made.__name__}({', '.join(listed)})"


def _shared(names: Mapping[str, float]) -> str:
    return f", the shared {', '.join(names)}" if names else ""


def _title(kind: str | None) -> str:
    return f"the {kind}" if kind else "the spec"


def _example(kind: str | None) -> str:
    name = next(iter(choices(kind))) if kind else "sigmoid(-3, 3, tau=0.9)"
    return name if name.endswith(")") else f"{name}()"
