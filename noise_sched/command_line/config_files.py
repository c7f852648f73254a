"""Loading a config file: --config=FILE.py or --config=FILE.py:VARIANT.

The file is a Python program of the user's with a function `get_config()`, or `get_config(variant)`. Whatever
goes wrong in it is told with its line, and what it returns is compared with the keys that there are.
"""

import inspect
import pathlib
import traceback
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from noise_sched.experiment import ranges
from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import hint_beside, shown

_EXAMPLES = {
    "config": "configs/digits.py",
    "sweep": "configs/sweeps/input_scale_grid.py:digits",
}


class Loaded(NamedTuple):
    """A config file that was run.

    Attributes:
      given: the flag as it was given, for messages.
      path: of the file.
      module: what it defines.
      arguments: the variant, if there is one.
      config: what its `get_config` returned.
    """

    given: str
    path: pathlib.Path
    module: types.ModuleType
    arguments: list[str]
    config: ConfigDict

    def run(self, part: Callable[[], Any]) -> Any:
        """Runs a part of the file; what it raises becomes one message."""
        return _run(self.given, self.path, part)


def load(spec: str) -> ConfigDict:
    """The config of "FILE.py" or "FILE.py:VARIANT".

    Raises:
      ConfigError: if there is no such file, it fails, or it returns something else than a config.
    """
    return load_module(spec, "config").config


def load_module(spec: str, flag: str) -> Loaded:
    """The file of --FLAG=FILE.py:VARIANT, run; raises as `load`."""
    name, colon, variant = spec.partition(":")
    given, path = f"--{flag}={spec}", pathlib.Path(name)
    _check_file(flag, given, name, path)
    module = types.ModuleType(flag)
    module.__file__ = str(path)
    get_config = _run(given, path, lambda: _get_config(given, path, module))
    arguments = [variant] if colon else []
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError:
        takes = "takes no variant: write" if colon else "needs a variant: write for example"
        wanted = name if colon else f"{name}:tiny"
        raise ConfigError(f"{given}: its get_config {takes} --{flag}={wanted}.") from None
    config = _run(given, path, lambda: get_config(*arguments))
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"{given}: get_config() returned {shown(config)} of type {type(config).__name__}, no "
            "ConfigDict. Return what configs.common.base() makes, with single keys changed."
        )
    try:
        ranges.check_keys(config)
    except ConfigError as error:
        raise ConfigError(f"{given}: {error}") from None
    return Loaded(given, path, module, arguments, config)


def _check_file(flag: str, given: str, name: str, path: pathlib.Path) -> None:
    if not name:
        raise ConfigError(
            f"{given} names no file; give one, for example --{flag}={_EXAMPLES[flag]}."
        )
    if "\0" in name or len(name) > 4096:
        raise ConfigError(f"--{flag}={shown(name)} is no name of a file.")
    if path.is_dir():
        files = ", ".join(sorted(str(file) for file in path.glob("*.py"))[:5]) or "none"
        raise ConfigError(f"{given}: {path} is a folder; give a file. Of its .py files: {files}.")
    if not path.is_file():
        hint = hint_beside(path, sorted(file.name for file in path.parent.glob("*.py")))
        raise ConfigError(f"{given}: there is no file {path}.{hint}")
    if path.suffix != ".py":
        raise ConfigError(
            f"{given}: {path} is no .py file; a config is a Python file with get_config()."
        )


def _get_config(given: str, path: pathlib.Path, module: types.ModuleType) -> Any:
    """Runs the file, without writing the compiled program beside it."""
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    found = getattr(module, "get_config", None)
    if not callable(found):
        raise ConfigError(
            f"{given}: {path} has no function get_config(); it has to return the config."
        )
    return found


def _run(given: str, path: pathlib.Path, part: Any) -> Any:
    """Runs a part of the user's program; what it raises becomes one message."""
    try:
        return part()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        if isinstance(error, SyntaxError):
            lines.append(error.lineno)
        at = f", line {lines[-1]}" if lines else ""
        what = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
        what = what if len(what) <= 300 else f"{what[:300]}..."
        raise ConfigError(
            f"{given} cannot be loaded: {what or 'no reason given'} ({type(error).__name__} in {path}{at})."
        ) from error
