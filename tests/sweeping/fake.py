"""A sweep's folder with made-up results, for the tests of the report."""

import json

import numpy as np
from PIL import Image
from sweeps import base

from noise_sched.sweeping import cells, record
from noise_sched.sweeping.record import Definition, Status

SIZES, SCALES, SEEDS = (4, 8), (0.3, 0.6, 1.0), (0, 1, 2)
SCHEDULES = ("linear()", "cosine(0.2, 1.0, tau=1.0)")


def sweep(folder, *, done=1.0):
    """b x size x two schedules x three seeds; the first share `done` of the cells is judged.

    At size 4 b = 1 is clearly the best, at 8 b = 0.6 and 1 tie.
    """
    from configs.sweeps.cells import choices, named, product, seeds

    axes = [
        choices("schedule", SCHEDULES),
        [named("b", b, {"process": f"vp(input_scale={b})"}) for b in SCALES],
        [named("size", s, {"data.image_size": s, "network.patch_size": s // 2}) for s in SIZES],
        seeds(3),
    ]
    made = cells.make(base(), product(*axes))
    layout = {"rows": ["b"], "columns": ["size"], "within": ["size"], "figures": ["swd/distance"]}
    record.claim(folder, Definition("configs/sweeps/<fake>.py", base(), made, layout))
    rng = np.random.default_rng(0)
    for number, cell in enumerate(made):
        place = record.folder_of(folder, cell)
        place.mkdir(parents=True)
        steps = range(0, 101, 10)
        rows = [{"step": s, "loss": float(np.exp(-s / 50) + 0.05 * rng.random())} for s in steps]
        (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if number >= done * len(made):
            record.write_status(folder, cell, Status("running", 50, 100, rows[-1]["loss"]))
            if number == len(made) - 1:
                text = "step 3 is not finite <b>"
                record.write_status(folder, cell, Status("stopped", 3, 100, None, text))
            continue
        judge(folder, cell, rng)
    return made


def judge(folder, cell, rng):
    place = record.folder_of(folder, cell)
    b, size, seed = (cell.labels[axis] for axis in ("b", "size", "seed"))
    gap = (1 - b) if size == 4 else max(0.6 - b, 0)
    figures = {
        "swd/distance": 10 + 5 * gap + 0.1 * seed + 0.05 * rng.normal(),
        "class_agreement/agreement": 0.9 - 0.1 * gap + 0.01 * rng.normal(),
    }
    better = {"swd/distance": "lower", "class_agreement/agreement": "higher"}
    found = {"step": 100, "num_images": 10, "figures": figures, "better": better}
    (place / record.EVALUATION).write_text(json.dumps(found))
    logsnr = np.linspace(8, -8, 24)
    levels = {"logsnr": logsnr.tolist(), "error": (0.3 / (1 + np.exp(logsnr))).tolist()}
    (place / record.LEVELS).write_text(json.dumps(levels))
    pixels = rng.integers(0, 255, (120, 400, 3), np.uint8)
    Image.fromarray(pixels).save(place / record.SAMPLES)
    record.write_status(folder, cell, Status("done", 100, 100, 0.2))
