"""Two processes on this machine that are the two hosts of one run."""

import os
import pathlib
import socket
import subprocess
import sys

TESTS = pathlib.Path(__file__).parent


def run(program: str, *args: str, **environment: str) -> None:
    """Runs `program ARGS INDEX PORT` twice at once, on CPUs; both have to end well."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join(map(str, (TESTS.parent, TESTS, pathlib.Path(program).parent)))
    processes = [
        subprocess.Popen(
            [sys.executable, program, *args, str(index), str(port)],
            env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
