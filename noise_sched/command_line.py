"""What the binaries share: flags, and mistakes told in one message instead of a traceback."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from absl import app, flags

_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of a mistake in the input.")


def run(main: Callable[[], None]) -> None:
    """Parses the flags and runs `main`; unknown keys of --config end in one message."""
    app.run(lambda _: main(), flags_parser=_parse)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turns a mistake in the user's input (ValueError, OSError) into one message and exit code 2.

    Wrap what happens before the work starts. With --debug the traceback is shown.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if _DEBUG.value:
            raise
        stop(str(error))


def stop(message: str) -> None:
    """Prints `message` to standard error and exits with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        stop(str(error))
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        # ml_collections reports unknown keys of a config through these.
        stop(_config_mistake(error, argv))
    if len(rest) > 1:
        stop(f"unexpected argument {rest[1]!r}: options are written --name=value.")
    return rest


def _config_mistake(error: Exception, argv: list[str]) -> str:
    text = str(error).replace("\\n", " ").replace('\\"', '"').replace("\\'", "'").strip("\"'")
    overrides = [arg.split("=")[0] for arg in argv if arg.startswith("--config.")]
    where = f" (among {', '.join(overrides)})" if overrides else ""
    return f"in the config{where}: {text}"
