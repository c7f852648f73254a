"""What a compiled program moves: bytes of memory and collectives, with loops counted as often as they run.

Reads the text of an optimized HLO module (`compiled.as_text()`), as the compiler's own figures have the body
of a loop once. The rules for bytes are those of XLA's cost analysis: an instruction reads its operands and
writes its result, a fusion only what it does not slice away; what stays in fast memory (a layout with S(1))
costs nothing.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

_SHAPE = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<= ]*)\](?:\{([^}]*)\})?")
_BITS = re.compile(r"\d+")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^{]*\)|\(.*\)) -> .*\{$")
_CALLED = re.compile(
    r"\b(body|condition|to_apply|calls|called_computations|true_computation|false_computation"
    r"|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\s*\{"n":\s*"(\d+)"')
_GROUPS = re.compile(r"replica_groups=(?:\{(\{[\d,{} ]*\})\}|\[(\d+),(\d+)\])")
# By the axes of a mesh: mesh['a'=4,'b'=2] {'a'}
_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,{} ]*\})\}")

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "ragged-all-to-all",
    "collective-broadcast",
)
# Neither read nor write: names for parts of what is there, and what is waited for.
_FREE = {
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "opt-barrier",
    "partition-id",
    "replica-id",
    "iota",
    "add-dependency",
    "domain",
}
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shape: str
    inside: str
    attributes: str
    is_root: bool

    @property
    def operands(self) -> list[str]:
        """The names of what it works on."""
        return re.findall(r"%([\w.\-]+)", self.inside)


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective, as often as it runs.

    Attributes:
      kind: "all-reduce".
      bytes: of the larger of what goes in and what comes out, on one device, once.
      parts: devices of a group.
      times: how often it runs.
    """

    kind: str
    bytes: int
    parts: int
    times: int

    @property
    def moved(self) -> float:
        """Bytes that each device passes on, all times together, in a ring."""
        if self.kind == "collective-permute":
            return float(self.bytes * self.times)
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * self.bytes * (self.parts - 1) / self.parts * self.times


class Module:
    """A module's computations, and how often each runs."""

    def __init__(self, text: str):
        found = dict(_computations(text))
        entries = [name for name in found if name.startswith("ENTRY ")]
        if len(entries) != 1:
            raise ValueError(f"expected a module with one entry, got {len(entries)}")
        self._by_name = {name.removeprefix("ENTRY "): lines for name, lines in found.items()}
        self._times: collections.Counter[str] = collections.Counter()
        self._control: set[str] = set()
        self._visit(entries[0].removeprefix("ENTRY "), 1, True)

    def bytes(self) -> int:
        """What the program reads from memory and writes to it, on one device."""
        return sum(
            self._times[name] * _bytes(line, self._shapes(name), self._by_name)
            for name in self._control
            for line in self._by_name[name]
        )

    def collectives(self) -> list[Collective]:
        """All that the devices tell each other, largest first."""
        found = []
        for name, lines in self._by_name.items():
            for line in lines:
                kind = line.opcode.removesuffix("-start")
                if kind in COLLECTIVES and self._times[name]:
                    found.append(_collective(kind, line, self._shapes(name), self._times[name]))
        return sorted((c for c in found if c.parts > 1 and c.bytes), key=lambda c: -c.moved)

    def _visit(self, name: str, times: int, control: bool) -> None:
        """Counts a computation, and those that it calls; `control` if its lines are run one by one."""
        self._times[name] += times
        if control:
            self._control.add(name)
        for line in self._by_name.get(name, ()):
            trips = self._trips(line) if line.opcode == "while" else 1
            inner = control and line.opcode in ("while", "conditional", "call")
            for called in _called(line):
                if called in self._by_name:
                    self._visit(called, times * trips, inner)

    def _trips(self, line: Instruction) -> int:
        """How often a loop runs: as the compiler notes it, or as the loop's condition i < n has it."""
        if found := _TRIPS.search(line.attributes):
            return int(found.group(1))
        condition = re.search(r"condition=%?([\w.\-]+)", line.attributes)
        lines = self._by_name.get(condition.group(1), []) if condition else []
        bounds = [int(x.inside) for x in lines if x.opcode == "constant" and x.inside.isdecimal()]
        below = any(x.is_root and "direction=LT" in x.attributes for x in lines)
        return bounds[0] if below and len(bounds) == 1 else 1

    @functools.cache  # noqa: B019  (a module lives as long as its figures are asked for)
    def _shapes(self, name: str) -> Mapping[str, str]:
        return {line.name: line.shape for line in self._by_name[name]}


def _computations(text: str) -> Iterator[tuple[str, list[Instruction]]]:
    name, lines = "", []
    for row in text.splitlines():
        if (
            not row.startswith(" ")
            and row.rstrip().endswith("{")
            and (head := _HEAD.match(row.rstrip()))
        ):
            name, lines = (head.group(1) or "") + head.group(2), []
        elif row.startswith("}") and name:
            yield name, lines
            name = ""
        elif name and " = " in row:
            lines.append(_instruction(row.strip()))


def _instruction(row: str) -> Instruction:
    left, _, right = row.partition(" = ")
    is_root = left.startswith("ROOT ")
    shape, rest = _split_type(right)
    opcode, _, rest = rest.partition("(")
    end = _closing(rest)
    name = left.removeprefix("ROOT ").lstrip("%")
    return Instruction(name, opcode.strip(), shape, rest[:end], rest[end + 1 :], is_root)


def _split_type(text: str) -> tuple[str, str]:
    """The type in front of an opcode, a tuple's in parentheses, and what follows."""
    if text.startswith("("):
        end = _closing(text[1:]) + 2
        return text[:end], text[end:].strip()
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character == " " and not depth:
            return text[:position], text[position + 1 :]
    return text, ""


def _closing(text: str) -> int:
    """Where the parenthesis that was opened before `text` is closed."""
    depth = 1
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return position
    return len(text)


def _called(line: Instruction) -> list[str]:
    names = []
    for _, value in _CALLED.findall(line.attributes):
        names += re.findall(r"%?([\w.\-]+)", value.strip("{}"))
    return names


def _sizes(shape: str, *, slow_only: bool = True) -> list[int]:
    """Bytes of each array of a type; with `slow_only` none for those in fast memory."""
    sizes = []
    for kind, dims, layout in _SHAPE.findall(shape):
        if kind in ("token", "s", "u", "f") or (slow_only and "S(1)" in layout):
            sizes.append(0)
            continue
        bits = 8 if kind == "pred" else int((_BITS.search(kind) or [8])[0])
        count = math.prod(int(n) for n in re.findall(r"\d+", dims)) if dims else 1
        sizes.append(count * bits // 8)
    return sizes


def _bytes(
    line: Instruction, shapes: Mapping[str, str], modules: Mapping[str, Sequence[Instruction]]
) -> int:
    """What one instruction, run by itself, reads and writes."""
    if line.opcode in _FREE or line.opcode.endswith("-done"):
        return 0
    operands = [sum(_sizes(shapes.get(name, ""))) for name in line.operands]
    if line.opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
        return _of_copy(line)
    if line.opcode.endswith("-start"):  # its type has operands, results and marks
        return max(sum(_sizes(line.shape)), sum(operands))
    if line.opcode == "dynamic-update-slice":
        return 2 * operands[1] if len(operands) > 1 else 0
    if line.opcode in _SLICES:
        return 2 * sum(_sizes(line.shape))
    if line.opcode != "fusion":
        return sum(operands) + sum(_sizes(line.shape))
    inner = next((modules[name] for name in _called(line) if name in modules), ())
    return _of_fusion(operands, sum(_sizes(line.shape)), inner)


def _of_copy(line: Instruction) -> int:
    """A copy, or a slice, brought from one memory to another: its type is (both of them, a mark)."""
    slow, whole = _sizes(line.shape), _sizes(line.shape, slow_only=False)
    if line.opcode == "copy-start":
        return slow[0] + slow[1]
    read = whole[1] if slow[0] else 0  # of the operand no more than the result
    return read + slow[1]


def _of_fusion(operands: list[int], result: int, inner: Sequence[Instruction]) -> int:
    """A fusion reads of an operand what it slices out of it, and writes of a result what it updates."""
    by_name = {line.name: line for line in inner}
    users: dict[str, list[Instruction]] = collections.defaultdict(list)
    for line in inner:
        for name in line.operands:
            users[name].append(line)

    def read(name: str, whole: int) -> int:
        used = 0
        for user in users[name]:
            if user.opcode == "bitcast":
                used += read(user.name, whole)
            elif user.opcode in _SLICES:
                used += sum(_sizes(user.shape, slow_only=False))
            elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                continue
            else:
                return whole
        return min(used, whole)

    total = 0
    for line in inner:
        if line.opcode == "parameter":
            total += read(line.name, operands[int(line.inside)])
    updates = [
        sum(_sizes(by_name[line.operands[1]].shape, slow_only=False))
        for line in inner
        if line.opcode == "dynamic-update-slice" and line.operands[1] in by_name
    ]
    return total + (min(sum(updates), result) if updates else result)


def _collective(kind: str, line: Instruction, shapes: Mapping[str, str], times: int) -> Collective:
    operands = sum(sum(_sizes(shapes.get(name, ""), slow_only=False)) for name in line.operands)
    results = _sizes(line.shape, slow_only=False)
    # A start's type is (operands, results, marks).
    result = max(results, default=0) if line.opcode.endswith("-start") else sum(results)
    return Collective(kind, max(operands, result), _parts(line), times)


def _parts(line: Instruction) -> int:
    """The size of a collective's groups."""
    if found := _GROUPS.search(line.attributes):
        if found.group(3):
            return int(found.group(3))
        return len(re.findall(r"\d+", found.group(1).split("}")[0]))
    if found := _AXES.search(line.attributes):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found.group(1)))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", found.group(2)))
    return 2 if _PAIRS.search(line.attributes) else 1
