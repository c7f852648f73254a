"""What the binaries share: flags, and mistakes told in one message instead of a traceback."""

import contextlib
import difflib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import app, flags

from noise_sched import memory

flags.DEFINE_bool("debug", False, "Show the traceback of a mistake in the input.")


def run(main: Callable[[], None]) -> None:
    """Parses the flags and runs `main`; unknown keys of --config end in one message."""
    memory.keep_freed()
    app.run(lambda _: main(), flags_parser=_parse)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turns a mistake in the user's input (ValueError, OSError) into one message and exit code 2.

    Wrap what happens before the work starts. With --debug the traceback is shown.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        stop(str(error))


def stop(message: str) -> NoReturn:
    """Prints `message` to standard error and exits with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _parse(argv: list[str]) -> list[str]:
    rest: list[str] = []
    with clear_config_errors():
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            # Where a config file raised, the text ends with its traceback.
            stop(str(error).strip().splitlines()[-1] if "Traceback" in str(error) else str(error))
    if len(rest) > 1:
        stop(f"unexpected argument {rest[1]!r}: options are written --name=value.")
    return rest


@contextlib.contextmanager
def clear_config_errors() -> Iterator[None]:
    """Turns what ml_collections raises for --config and --config.KEY=VALUE into one message."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        stop(_config_mistake(str(error)))


def _config_mistake(text: str) -> str:
    overrides = [arg.split("=")[0] for arg in sys.argv if arg.startswith("--config.")]
    near = re.search(r'Did you mean "(\w+)" instead of "(\w+)"', text)
    unknown = near.group(2) if near else text.strip("\\'\"")
    for override in overrides:
        if unknown in override.split("."):
            hint = f" Did you mean {near.group(1)!r}?" if near else ""
            return f"unknown key {override}.{hint}"
    return f"in the config ({', '.join(overrides) or 'no overrides'}): {text}"


def config_file(flag: flags.FlagHolder):
    """The value of a --config flag.

    Raises:
      ValueError: if it is missing, names no file or variant, or cannot be loaded.
    """
    spec = peek(flag.name)
    if spec is None:
        raise ValueError("--config is missing; give it, for example --config=configs/digits.py.")
    path = pathlib.Path(spec.split(":")[0])
    if not path.is_file():
        known = sorted(str(p) for p in path.parent.glob("*.py"))
        near = difflib.get_close_matches(str(path), known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"--config={spec}: there is no file {path}.{hint}")
    try:
        return flag.value
    except Exception as error:  # whatever the config file raised, with its traceback as text
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"--config={spec} cannot be loaded: {reason}") from error


def required(name: str, example: str) -> str:
    """The value of a flag that has to be given.

    Raises:
      ValueError: if it was not; `example` is what to write.
    """
    value = flags.FLAGS[name].value
    if value is None:
        raise ValueError(f"--{name} is missing; give it, for example {example}.")
    return value


def peek(name: str) -> str | None:
    """The (last) value of --name on the command line, before the flags are parsed."""
    value = None
    for arg, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        if arg.startswith((f"--{name}=", f"-{name}=")):
            value = arg.split("=", 1)[1]
        elif arg in (f"--{name}", f"-{name}"):
            value = following
    return value
