"""Config strings -> objects: build("sigmoid(-3, 3, tau=0.9)").

A spec is the call that a person would write in Python, with literals (and other specs) as arguments.
It is parsed, never evaluated. A bare name may stand for a number that several specs share:
build("edm(sigma_data)", names={"sigma_data": 0.5}). What may be named are the lower-case dataclasses of
each module, so a new one is reachable by its name as soon as it is written; `repr` of what is built is
again a spec.
"""

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from noise_sched.diffusion import (
    clocks,
    conditioning,
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
}


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
      kind: one of `KINDS`; without it every kind is searched, schedules first.
      names: numbers that arguments may name, so that several specs share one.

    Returns:
      The object.

    Raises:
      SpecError: naming the nearest valid name or the call's true signature.
    """
    try:
        node = ast.parse(spec.strip(), mode="eval").body
    except SyntaxError as error:
        raise SpecError(
            f"cannot read {_title(kind)} {spec!r}: {error.msg}. Write it as a call, for example "
            f"{_example(kind)!r}."
        ) from None
    return _build_node(node, spec, kind, names or {})


def _build_node(node: ast.expr, spec: str, kind: str | None, names: Mapping[str, float]) -> Any:
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    if not isinstance(call.func, ast.Name):
        raise SpecError(
            f"cannot read {_title(kind)} {spec!r}: expected a name, with arguments in brackets if "
            f"it takes any, for example {_example(kind)!r}."
        )
    made = _find(call.func.id, spec, kind)
    fields = {f.name: f for f in dataclasses.fields(made)}

    def argument(value: ast.expr, field: str | None) -> Any:
        nested = fields[field].metadata.get("kind") if field in fields else None
        return _argument(value, spec, nested, names)

    in_order = dict(enumerate(fields))
    args = [argument(value, in_order.get(i)) for i, value in enumerate(call.args)]
    kwargs = {k.arg: argument(k.value, k.arg) for k in call.keywords if k.arg}
    if len(kwargs) < len(call.keywords):
        raise SpecError(f"cannot read {_title(kind)} {spec!r}: '**' is not allowed.")
    try:
        bound = inspect.signature(made).bind(*args, **kwargs)
    except TypeError as error:
        raise SpecError(_wrong_arguments(made, spec, kwargs, str(error))) from None
    try:
        return made(*bound.args, **bound.kwargs)
    except ValueError as error:
        raise SpecError(f"in {spec!r}: {error}") from None


def _argument(node: ast.expr, spec: str, kind: str | None, names: Mapping[str, float]) -> Any:
    if isinstance(node, ast.Call) or (kind and isinstance(node, ast.Name)):
        return _build_node(node, spec, kind, names)
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SpecError(
            f"in {spec!r}: {ast.unparse(node)!r} is not a literal. Arguments are numbers, strings, "
            f"booleans{_shared(names)} or other specs; nothing is evaluated."
        ) from None


def _find(name: str, spec: str, kind: str | None) -> type:
    kinds = [kind] if kind else list(KINDS)
    for each in kinds:
        if name in choices(each):
            return choices(each)[name]
    known = sorted({choice for each in kinds for choice in choices(each)})
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise SpecError(
        f"unknown {kind or 'name'} {name!r} in {spec!r}. {hint}Known: {', '.join(known)}."
    )


def _wrong_arguments(made: type, spec: str, kwargs: dict[str, Any], reason: str) -> str:
    known = list(inspect.signature(made).parameters)
    unknown = [name for name in kwargs if name not in known]
    near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5) if unknown else []
    hint = f"Did you mean {near[0]!r}? " if near else ""
    signature = ", ".join(
        name if p.default is p.empty else f"{name}={p.default!r}"
        for name, p in inspect.signature(made).parameters.items()
    )
    return f"in {spec!r}: {reason}. {hint}The call is {made.__name__}({signature})."


def _shared(names: Mapping[str, float]) -> str:
    return f", the shared {', '.join(names)}" if names else ""


def _title(kind: str | None) -> str:
    return f"the {kind}" if kind else "the spec"


def _example(kind: str | None) -> str:
    name = next(iter(choices(kind))) if kind else "sigmoid(-3, 3, tau=0.9)"
    return name if name.endswith(")") else f"{name}()"
