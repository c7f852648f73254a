"""Does judging need more memory for 50,000 images than for 1,000? One Markdown table.

    python -m benchmarks.evaluation_memory --out=docs/results/evaluation_memory.md

Images of 64 x 64 in colour, in shards as `sample` writes them, beside 2,000 others, under every metric that
needs no weights. Each row is a process of its own; its peak of memory is the system's (ru_maxrss).
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import machine
from noise_sched.experiment import samples

COUNTS = (1_000, 10_000, 50_000)
SIZE, REFERENCE = 64, 2_000


def write(folder: pathlib.Path, count: int, seed: int) -> None:
    """Shards of smooth noise with labels, a shard in memory at a time."""
    rng, size = np.random.default_rng(seed), samples.shard_size((SIZE, SIZE, 3))
    folder.mkdir()
    for shard, start in enumerate(range(0, count, size)):
        number = min(size, count - start)
        small = rng.integers(0, 256, (number, SIZE // 8, SIZE // 8, 3), np.uint8)
        images = small.repeat(8, axis=1).repeat(8, axis=2)
        images //= 2
        images += rng.integers(0, 128, images.shape, np.uint8)
        samples.write_shard(folder, shard, images, np.arange(number) % 10)
    (folder / "samples.json").write_text("{}")


def judge(images: str, reference: str, cache: str) -> None:
    """What `evaluate` does, then the peak of this process's memory in MiB, and the seconds."""
    from noise_sched import evaluate
    from noise_sched.judging import sources

    start = time.perf_counter()
    evaluate.evaluate(sources.open_images(images), sources.open_images(reference), cache=cache)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"PEAK {peak:.0f} {time.perf_counter() - start:.0f}")


def main() -> None:
    """Prints the table and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write.")
    parser.add_argument("--judge", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.judge:
        judge(*arguments.judge)
        return
    lines = [
        "# Memory of an evaluation",
        "",
        "    python -m benchmarks.evaluation_memory --out=docs/results/evaluation_memory.md",
        "",
        f"{SIZE}×{SIZE} pixels in colour, beside {REFERENCE:,} others, all metrics that need no weights.",
        f"{machine.describe()}.",
        "",
        "| images | peak memory | seconds |",
        "|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as place:
        root = pathlib.Path(place)
        write(root / "reference", REFERENCE, 0)
        for count in COUNTS:
            write(root / str(count), count, count)
            command = [sys.executable, "-m", "benchmarks.evaluation_memory", "--judge"]
            command += [str(root / str(count)), str(root / "reference"), str(root / "cache")]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            _, peak, seconds = said.strip().splitlines()[-1].split()
            lines.append(f"| {count:,} | {int(peak):,} MiB | {seconds} |")
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
