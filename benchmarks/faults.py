"""What faults do to a run: kills, stops, damaged files, a full disk, two commands at once.

    python -m benchmarks.faults --out=docs/results/faults.md
    python -m benchmarks.faults --parts kill sigterm --kills=3 --sigterms=2

A run of configs/digits.py:tiny is disturbed, the same command is given again, and what it ends with is
compared with an undisturbed run: the moving average bit by bit, and the rows of metrics.jsonl but for their
times. A full disk is a small tmpfs, which root alone can mount; without root that part is left out.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import logging
from PIL import Image

from benchmarks import machine
from noise_sched import experiment
from noise_sched.experiment import workdir
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.loop import AGAIN

ROOT = pathlib.Path(__file__).parent.parent
TRAIN = [
    "--config=configs/digits.py:tiny",
    "--config.train.steps=80",
    "--config.train.checkpoint_every=7",  # no multiple of log_every: means span the resumes
    "--config.train.log_every=4",
]
COUNT = 20  # images
HOSTS = 2

SAME = "as undisturbed"
REFUSED = "refused in one message"
ONE_REFUSED = "one as undisturbed, the other refused in one message"
ONE_WAITED = "both as undisturbed: the second waited for the first"


def start(module: str, *args: str) -> subprocess.Popen:
    """A command; warm it takes some seconds, most of them to start."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
    warm = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", f"noise_sched.{module}", *args],
        cwd=ROOT,
        env=os.environ | warm,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder: pathlib.Path, *more: str) -> subprocess.Popen:
    return start("train", *TRAIN, *more, f"--workdir={folder}")


def train_on_hosts(folder: pathlib.Path) -> list[subprocess.Popen]:
    """Two processes of one run."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    joined = (f"--coordinator=localhost:{port}", f"--num_hosts={HOSTS}")
    return [train(folder, *joined, f"--host={host}") for host in range(HOSTS)]


def end(process: subprocess.Popen) -> tuple[int, str]:
    """The exit code, and what was written to standard error."""
    errors = process.communicate(timeout=900)[1]
    return process.returncode, errors


def result(folder: pathlib.Path) -> tuple[int, list[np.ndarray], list[dict]]:
    """What a run ended with: the step, the moving average, the rows of metrics.jsonl."""
    exp = experiment.from_config(workdir.load_config(folder))
    abstract = jax.eval_shape(exp.init_params, jax.random.key(0))
    with Checkpoints(workdir.checkpoints(folder), read_only=True) as checkpoints:
        step, average = checkpoints.restore_ema(abstract)
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("time", None)
        row.pop("wall", None)
    return step, [np.asarray(leaf) for leaf in jax.tree.leaves(average)], rows


def differences(folder: pathlib.Path, undisturbed: tuple) -> str:
    """In what a run that has ended differs from the undisturbed one."""
    try:
        step, average, rows = result(folder)
    except ValueError as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    found = []
    if step != undisturbed[0]:
        found.append(f"ended at step {step}")
    if not all(map(np.array_equal, average, undisturbed[1])):
        found.append("other parameters")
    if rows != undisturbed[2]:
        found.append("other metrics rows")
    return ", ".join(found)


def outcome(process: subprocess.Popen, folder: pathlib.Path, undisturbed: tuple) -> str:
    """How a command ended."""
    code, errors = end(process)
    if code == 0:
        return differences(folder, undisturbed) or SAME
    lines = errors.strip().splitlines()
    if code == 2 and lines[-1:] and "error: " in errors and "Traceback" not in errors:
        return REFUSED
    return f"exit code {code}: {lines[-1] if lines else 'no message'}"


class Bench:
    """The undisturbed run, which all others are compared with."""

    def __init__(self, room: pathlib.Path):
        self.room, self.number = room, 0
        end(train(self.new()))  # fills the compilation cache
        self.finished = self.new()
        began = time.monotonic()
        code, errors = end(train(self.finished))
        if code:
            raise RuntimeError(f"the undisturbed run failed:\n{errors}")
        self.seconds = time.monotonic() - began
        self.undisturbed = result(self.finished)

    def new(self) -> pathlib.Path:
        self.number += 1
        return self.room / f"run{self.number}"

    def signalled(self, number: int, draw: random.Random) -> str:
        """A run that gets a signal at a random moment and is started again."""
        folder = self.new()
        process = train(folder)
        time.sleep(draw.uniform(0.0, self.seconds))
        process.send_signal(number)
        end(process)
        return outcome(train(folder), folder, self.undisturbed)

    def damaged(self, change: Callable[[pathlib.Path], None]) -> Iterator[tuple[str, str]]:
        """Each file of the newest checkpoint changed in turn, and the command given again."""
        newest = _newest(self.finished)
        for path in sorted(p for p in newest.rglob("*") if p.is_file()):
            folder = self.new()
            shutil.copytree(self.finished, folder)
            change(folder / path.relative_to(self.finished))
            name = str(path.relative_to(newest))
            yield name, outcome(train(folder), folder, self.undisturbed)
            shutil.rmtree(folder)

    def host_killed(self, undisturbed: tuple, seconds: float, draw: random.Random) -> str:
        """One of two hosts is killed: the other has to end by itself, within a minute."""
        folder = self.new()
        killed, other = train_on_hosts(folder)
        time.sleep(draw.uniform(0.3, 0.9) * seconds)
        killed.kill()
        began = time.monotonic()
        code, errors = end(other)
        took = time.monotonic() - began
        end(killed)
        if code == 0:
            return "had ended before"
        if took > 60:
            return f"the other host went on for {took:.0f} s: {errors.strip().splitlines()[-1:]}"
        how = self.hosts_again(folder, undisturbed)
        return f"{how}, the other host ended within a minute" if how == SAME else how

    def host_stopped(self, undisturbed: tuple, seconds: float, draw: random.Random) -> str:
        """One of two hosts is told to stop: both save after the same step, and ask to be started again."""
        folder = self.new()
        processes = train_on_hosts(folder)
        time.sleep(draw.uniform(0.6, 0.9) * seconds)  # before, it has not begun to train
        draw.choice(processes).terminate()
        ends = [end(process)[0] for process in processes]
        if ends == [0] * HOSTS:
            return "had ended before"
        if ends != [AGAIN] * HOSTS:
            return f"the hosts ended with {ends}"
        how = self.hosts_again(folder, undisturbed)
        return f"{how}, both hosts ended with {AGAIN}" if how == SAME else how

    def hosts_again(self, folder: pathlib.Path, undisturbed: tuple) -> str:
        """What the same command on two hosts ends with."""
        ends = [end(process)[0] for process in train_on_hosts(folder)]
        if any(ends):
            return f"started again, the hosts ended with {ends}"
        return differences(folder, undisturbed) or SAME

    def hosts(self, times: int, draw: random.Random) -> Iterator[tuple[str, str]]:
        """Runs on two hosts, one of which is killed or told to stop."""
        folder = self.new()
        for process in train_on_hosts(self.new()):  # fills the compilation cache
            end(process)
        began = time.monotonic()
        for process in train_on_hosts(folder):
            code, errors = end(process)
            if code:
                raise RuntimeError(f"the undisturbed run on two hosts failed:\n{errors}")
        seconds, undisturbed = time.monotonic() - began, result(folder)
        for _ in range(times):
            how = self.host_killed(undisturbed, seconds, draw)
            yield "kill -9 of one of two hosts at a random moment", how
        for _ in range(times):
            yield "SIGTERM to one of two hosts", self.host_stopped(undisturbed, seconds, draw)

    def unreadable_image(self) -> str:
        """Half of a file of the data is missing, which its head does not tell; then it is put back."""
        data = self.new()
        make_images(data, 40)
        source = (f"--config.data.name=folder:{data}", "--config.network.num_classes=0")
        whole, folder = self.new(), self.new()
        end(train(whole, *source))
        broken = data / "17.png"
        content = broken.read_bytes()
        truncate(broken)
        code, errors = end(train(folder, *source))
        lines = errors.strip().splitlines()
        if code != 2 or str(broken) not in lines[-1] or "Traceback" in errors:
            return f"exit code {code}: {lines[-1:]}"
        found = folder.exists() and any(workdir.checkpoints(folder).glob("[0-9]*"))
        saved = f"saved after step {_newest(folder).name}" if found else "before the first step"
        broken.write_bytes(content)
        again = outcome(train(folder, *source), folder, result(whole))
        return f"told in one line, {saved}; put back, {again}"

    def two_trainings(self) -> str:
        folder = self.new()
        processes = [train(folder), train(folder)]
        ends = [outcome(process, folder, self.undisturbed) for process in processes]
        if sorted(ends) == sorted([SAME, REFUSED]):
            return ONE_REFUSED
        return ONE_WAITED if ends == [SAME, SAME] else "; ".join(ends)

    def two_samplings(self) -> str:
        one, both = self.new(), self.new()

        def sample(out: pathlib.Path) -> subprocess.Popen:
            flags = (f"--workdir={self.finished}", f"--out={out}", f"--num_images={COUNT}")
            return start("sample", *flags)

        end(sample(one))
        ends = [end(process) for process in [sample(both), sample(both)]]
        images = [np.load(out / "samples.npz")["images"] for out in (one, both)]
        if not np.array_equal(*images):
            return "other images"
        refused = [errors.strip() for code, errors in ends if code]
        if not refused:
            return ONE_WAITED
        if len(refused) == 1 and "is in use by process" in refused[0]:
            return ONE_REFUSED
        return "; ".join(refused)

    def full_disk(self, share: float) -> str:
        """A run on a disk that holds a part of what it needs, which is then made larger."""
        size = int(share * sum(p.stat().st_size for p in self.finished.rglob("*") if p.is_file()))
        disk = self.new()
        disk.mkdir()
        _root("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk))
        try:
            code, errors = end(train(disk / "run"))
            if code == 0:
                return "did not fill the disk"
            # A slow machine's log has a line of progress every ten seconds, too.
            lines = [line for line in errors.strip().splitlines() if "image/s" not in line]
            _root("mount", "-o", "remount,size=1g", str(disk))
            again = outcome(train(disk / "run"), disk / "run", self.undisturbed)
            told = "no space left" in errors.lower() and "Traceback" not in errors
            count = f"{len(lines)} line" + "s" * (len(lines) > 1)
            message = f"told in {count}" if told else f"{count} of errors"
            return f"{message}; with room again {again}"
        finally:
            _root("umount", str(disk))


def make_images(folder: pathlib.Path, count: int) -> None:
    """A folder of pictures of noise."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def flip_a_byte(path: pathlib.Path) -> None:
    """Changes all bits of the byte in the middle; an empty file gets one."""
    data = bytearray(path.read_bytes()) or bytearray(b"\0")
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def truncate(path: pathlib.Path) -> None:
    """Leaves half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _newest(folder: pathlib.Path) -> pathlib.Path:
    found = pathlib.Path(workdir.checkpoints(folder)).glob("[0-9]*")
    return max((p for p in found if p.name.isdigit()), key=lambda p: int(p.name))


def _root(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def rows(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """(fault, outcome) of each disturbed run."""
    draw = random.Random(options.seed)
    if "kill" in options.parts:
        for _ in range(options.kills):
            yield "kill -9 at a random moment", bench.signalled(signal.SIGKILL, draw)
    if "sigterm" in options.parts:
        for _ in range(options.sigterms):
            yield "SIGTERM at a random moment", bench.signalled(signal.SIGTERM, draw)
    if "flip" in options.parts:
        for name, how in bench.damaged(flip_a_byte):
            yield "one byte of a checkpoint's file flipped", _named(name, how)
    if "truncate" in options.parts:
        for name, how in bench.damaged(truncate):
            yield "half of a checkpoint's file cut off", _named(name, how)
    if "full" in options.parts and os.geteuid() == 0:
        for share in (0.1, 0.4, 0.7):
            yield f"a disk for {share:.0%} of the run", bench.full_disk(share)
    if "two" in options.parts:
        yield "two `train` in one workdir", bench.two_trainings()
        yield "two `sample` to one --out", bench.two_samplings()

    if "data" in options.parts:
        yield "a file of the data cut off", bench.unreadable_image()
    if "host" in options.parts:
        yield from bench.hosts(options.hosts, draw)


def _named(name: str, how: str) -> str:
    return how if how == SAME else f"{name}: {how}"


def table(found: list[tuple[str, str]]) -> list[str]:
    """The outcomes counted, as Markdown."""
    lines = ["| fault | times | outcome |", "|---|---|---|"]
    for fault in dict.fromkeys(fault for fault, _ in found):
        outcomes = [how for each, how in found if each == fault]
        counted = {how: outcomes.count(how) for how in dict.fromkeys(outcomes)}
        told = "; ".join(f"{count} × {how}" for how, count in counted.items())
        lines.append(f"| {fault} | {len(outcomes)} | {told} |")
    return lines


PARTS = ("kill", "sigterm", "flip", "truncate", "full", "two", "data", "host")


def main() -> None:
    """Prints the table and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write.")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="Only these.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sigterms", type=int, default=5)
    parser.add_argument(
        "--hosts", type=int, default=5, help="Times that a host is killed and stopped."
    )
    parser.add_argument("--seed", type=int, default=0, help="Of the random moments.")
    options = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    lines = [
        "# Faults",
        "",
        f"    python -m benchmarks.faults {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"{machine.describe()}. `python -m noise_sched.train {' '.join(TRAIN)}` is disturbed and given "
        "again; then the moving average (bit by bit) and the rows of metrics.jsonl (but for their times) are "
        "compared with those of an undisturbed run.",
        "",
    ]
    with tempfile.TemporaryDirectory() as room:
        bench = Bench(pathlib.Path(room))
        found = []
        for fault, how in rows(bench, options):
            found.append((fault, how))
            print(f"{fault}: {how}", file=sys.stderr, flush=True)
    lines += [*table(found), "", f"The undisturbed run took {bench.seconds:.1f} s."]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
