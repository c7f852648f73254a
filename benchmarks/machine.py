"""What a table of measurements says of the machine."""

import os
import pathlib
import platform

import jax


def describe() -> str:
    """The processor, its cores and load now, and JAX's version and device."""
    device = jax.devices()[0]
    told = f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    if device.platform != "cpu":
        told += f", one {device.device_kind}"
    return f"{told}; jax {jax.__version__}"


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    named = next(line for line in info.read_text().splitlines() if "model name" in line)
    return named.split(":")[1].strip()
