"""The table's figures, with how sure they are."""

import dataclasses

from noise_sched.evaluation.frechet import Frechet
from noise_sched.evaluation.kid import Kid
from noise_sched.judging import report
from noise_sched.judging.judge import Report


def test_intervals_and_errors_stand_beside_their_figures():
    fid = Frechet(12.34567, 11.9, 12.8, 10.0, 0.456, 50_000, None)
    kid = Kid(0.0123456, 0.00123, 1000)
    found = report.table(Report({}, {"fid": fid, "kid": kid}, {"kid": kid}, {}, {}))
    lines = [line.split("  ") for line in found.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["metric", "images", "real", "better"],
        ["fid", "distance", "12.35 [11.9, 12.8]", "lower"],
        ["infinity", "10 ± 0.46", "lower"],
        ["kid", "distance", "0.01235 ± 0.0012", "0.01235 ± 0.0012", "lower"],
    ]


def test_what_json_cannot_hold_is_a_string():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        distance: float = float("inf")
        parts: tuple[float, ...] = (1.0, float("nan"))

    text = report.as_json(Report({"images": {}}, {"odd": Odd()}, {}, {}, {}), {"images": "a"})
    assert '"distance": "inf"' in text and '"nan"' in text
