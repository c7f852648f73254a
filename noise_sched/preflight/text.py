"""What a preflight found, in words and as a row of a table."""

from collections.abc import Sequence

from noise_sched.preflight import roofline
from noise_sched.preflight.chips import Topology
from noise_sched.preflight.programs import Program

_GIB = 2**30
_LISTED = 6  # collectives


def of_program(program: Program, topology: Topology, images: int) -> str:
    """One program: its memory, its roofline, its collectives."""
    chip, least = topology.chip, roofline.of(program, topology)
    rows = [
        ("memory", f"{_gib(program.memory)}, of {_gib(chip.memory)}", ""),
        ("  arguments", _gib(program.arguments), ""),
        ("  temporaries", _gib(program.temporaries), ""),
        (
            "operations",
            f"{_amount(program.flops, 'FLOP')} (the compiler's: {_amount(program.compiler_flops, 'FLOP')})",
            f"{_time(least.compute)} at {_amount(chip.flops, 'FLOP/s')}",
        ),
        (
            "bytes",
            _amount(program.bytes, "B"),
            f"{_time(least.memory)} at {_amount(chip.bandwidth, 'B/s')}",
        ),
        (
            "collectives",
            _amount(sum(c.moved for c in program.collectives), "B"),
            _time(least.links),
        ),
        *_of_collectives(program),
    ]
    lines = [
        f"{program.name}, on each of {topology.size} chips (compiled in {program.seconds:.0f} s)"
    ]
    lines += [f"  {name:<14}{what:<44}{took}".rstrip() for name, what, took in rows]
    lines.append(
        f"  at least {_time(least.time)} for {images} images, bound by {least.bound}: at most "
        f"{100 * least.utilization:.0f} % of the matrix rate; links busy {100 * least.collectives:.0f} %"
    )
    return "\n".join(lines)


def _of_collectives(program: Program) -> list[tuple[str, str, str]]:
    """The largest, equal ones as one line."""
    merged: dict[tuple[str, int], list[int]] = {}
    for each in program.collectives:
        entry = merged.setdefault((each.kind, each.parts), [0, 0])
        entry[0] += each.times
        entry[1] += each.bytes * each.times
    ordered = sorted(merged.items(), key=lambda item: -item[1][1])
    return [
        ("", f"{kind} over {parts} chips, {times} x, {_amount(total, 'B')} in all", "")
        for (kind, parts), (times, total) in ordered[:_LISTED]
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown of `row`s."""
    heads = (
        "config",
        "slice",
        "settings",
        "HBM, GiB",
        "FLOP a chip",
        "compiler's FLOP",
        "bytes",
        "collectives",
        "least time",
        "bound by",
        "utilization",
        "links",
        "compiling",
    )
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def row(name: str, settings: str, program: Program, topology: Topology) -> list[str]:
    """One program as a row of `table`."""
    least = roofline.of(program, topology)
    return [
        name,
        topology.name,
        settings,
        f"{program.memory / _GIB:.1f} of {topology.chip.memory / _GIB:.0f}",
        _amount(program.flops, ""),
        _amount(program.compiler_flops, ""),
        _amount(program.bytes, "B"),
        _amount(sum(c.moved for c in program.collectives), "B"),
        _time(least.time),
        least.bound,
        f"<= {100 * least.utilization:.0f} %",
        f"{100 * least.collectives:.0f} %",
        f"{program.seconds:.0f} s",
    ]


def _gib(count: float) -> str:
    return f"{count / _GIB:.2f} GiB"


def _amount(count: float, unit: str) -> str:
    for factor, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {letter}{unit}".strip()
    return f"{count:.3g} {unit}".strip()


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"
