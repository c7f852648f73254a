"""What the binaries share: flags, and mistakes reported in one message instead of a traceback."""

import contextlib
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from noise_sched.command_line import config_files, help_text, memory, sweep_files
from noise_sched.experiment import ranges, workdir
from noise_sched.messages import did_you_mean
from noise_sched.training import files
from noise_sched.training.files import Folder

flags.DEFINE_bool("debug", False, "Show the traceback of a mistake in the input.")

_HELP = "A config, FILE.py or FILE.py:VARIANT; --config.KEY=VALUE changes it."
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")


def run(main: Callable[[], None], define_flags: Callable[[], None]) -> None:
    """Defines and parses the flags and runs `main`; a mistake in them ends in one message."""
    memory.keep_freed()
    define_flags()
    app.run(lambda _: main(), argv=arguments(), flags_parser=parse)


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


def arguments() -> list[str]:
    """The command line without --config=FILE, which `define_config_file` has read."""
    kept, skip = [], False
    for argument in sys.argv:
        name = argument.lstrip("-") if argument.startswith("-") else ""
        if not skip and name.split("=")[0] != "config":
            kept.append(argument)
        skip = not skip and name == "config"
    return kept


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; any mistake in them ends the program with one message."""
    rest: list[str] = []
    if {"--help", "-help", "-h"} & set(argv[1:]):
        say(help_text.of_command(sys.modules["__main__"].__doc__ or "", flags.FLAGS))
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        stop(_with_range(" ".join(str(error).split())))
    except (TypeError, ValueError, OSError) as error:  # what a config says of a value
        stop(_with_range(f"{_overrides()}: {error}"))
    if len(rest) > 1:
        stop(f"unexpected argument {rest[1]!r}: options are written --name=value.")
    return rest


def define_config_file() -> None:
    """Defines --config=FILE.py[:VARIANT], and --config.KEY=VALUE for every key of that file's config.

    The file is loaded here, as its keys are the names of the flags.
    """
    spec = peek("config")
    if spec is None:
        _answer_questions()
        if found := _overrides():
            stop(f"{found} changes a config, but there is no --config=FILE.py.")
        flags.DEFINE_string("config", None, _HELP)
        _show_in_help()
        return
    with clear_errors():
        config = config_files.load(spec)
    define_config(config)


def define_workdir_config(flag: str) -> None:
    """Defines --config.KEY=VALUE for the config of the workdir that a flag names, if it names one.

    The flag is read here, as the keys of that config are the names of the flags.
    """
    given, found = peek(flag), ConfigDict()
    with clear_errors():
        place = files.folder(given, f"--{flag}") if given else None
        if place is not None and (place / "config.json").is_file():
            found = workdir.load_config(place)
    define_config(found)


def define_sweep_file() -> None:
    """Defines --sweep=FILE.py[:VARIANT], and --config.KEY=VALUE for every key of its base config.

    Both are read here, as the keys of the config are the names of the flags; without --sweep those of no
    config, since a sweep that is there has its own.
    """
    flags.DEFINE_string("sweep", None, "A sweep, FILE.py or FILE.py:VARIANT; see configs/sweeps.")
    spec, base = peek("sweep"), ConfigDict()
    if spec is None and (found := _overrides()):
        stop(f"{found} changes the base of a sweep, but there is no --sweep=FILE.py.")
    if spec is not None:
        with clear_errors():
            base = sweep_files.load(spec).base
    define_config(base)


def config_overrides() -> list[str]:
    """The keys that --config.KEY=VALUE changes."""
    return [_OVERRIDE.sub(r"\1", path) for path in filter(None, _overrides().split(", "))]


def define_config(config: ConfigDict) -> None:
    """Defines --config.KEY=VALUE for every key of a config; one that it lacks ends the program."""
    known = dict(ranges.leaves(config))
    _answer_questions()
    for path in filter(None, _overrides().split(", ")):
        _check_override(path, known)
    with clear_errors():
        try:
            config_flags.DEFINE_config_dict(
                "config",
                config,
                _HELP,
                lock_config=True,
                sys_argv=arguments(),
            )
        except (flags.Error, ValueError) as error:
            ranges.check(config)  # it may be a value that cannot even be printed
            raise ValueError(str(error)) from None
    _show_in_help()


def _show_in_help() -> None:
    """Lists --config among the command's own flags, though this module defines it."""
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])


def config() -> ConfigDict:
    """The config that --config=FILE.py and its overrides made.

    Raises:
      ValueError: if there is none.
    """
    if not isinstance(flags.FLAGS.config, ConfigDict):
        raise ValueError("--config is missing; give it, for example --config=configs/digits.py.")
    return flags.FLAGS.config


def required(name: str, example: str) -> Any:
    """The value of a flag that has to be given.

    Raises:
      ValueError: if it was not, or is empty; `example` is what to write.
    """
    value = flags.FLAGS[name].value
    if value is None:
        raise ValueError(f"--{name} is missing; give it, for example {example}.")
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"--{name}={value} is empty; give it, for example {example}.")
    return value


def folder(name: str, example: str) -> Folder:
    """The folder that a flag names, which has to be given; it need not exist.

    Raises:
      ValueError: if it was not given, or is no folder's name.
    """
    return files.folder(required(name, example), f"--{name}")


def define_step() -> None:
    """Defines --step, which of a workdir's checkpoints; `step` reads it."""
    flags.DEFINE_string("step", None, "Step of the checkpoint, or best; the newest by default.")


def step() -> int | str | None:
    """The value of --step: a number, "best", or None for the newest.

    Raises:
      ValueError: for anything else.
    """
    text = flags.FLAGS.step
    if text is None or text == workdir.BEST:
        return text
    if not text.isdecimal():
        raise ValueError(f"--step={text}: expected the number of a step, or best.")
    return int(text)


def how_to_draw(workdir: Folder) -> str:
    """The end of what a command says that has made a workdir."""
    return (
        f"Draw images with:\n  python -m noise_sched.sample --workdir={workdir} --num_images=100 "
        f"--out={workdir}/samples"
    )


def out_folder(value: str | None) -> pathlib.Path | None:
    """The folder of --out for pictures and figures, on this machine; None where the flag is not given.

    Raises:
      ValueError: if it is an address, or a file.
    """
    if value is None:
        return None
    check_path("out", value)
    if pathlib.Path(value).is_file():
        raise ValueError(f"--out={value} is a file; give a folder.")
    return pathlib.Path(value)


def check_local(name: str, value: str) -> None:
    """Refuses the address of a bucket where a command reads or writes local files only.

    Raises:
      ValueError: naming the flag.
    """
    if "://" in value:
        raise ValueError(
            f"--{name}={value} is an address; this command reads and writes local files only. Copy it, or "
            "give a local path."
        )


def check_path(name: str, value: str) -> None:
    """Refuses what cannot be the path of a file or folder to write, before any work is done for it.

    Raises:
      ValueError: naming the flag and what stands in the way.
    """
    if not value.strip() or "\0" in value:
        raise ValueError(f"--{name}={value!r} is no path; give a file or folder to write.")
    check_local(name, value)
    above = pathlib.Path(value).expanduser().absolute()
    while not os.path.lexists(above):
        above = above.parent
    if above != pathlib.Path(value).absolute() and not above.is_dir():
        raise ValueError(f"--{name}={value} cannot be written: {above} is no folder.")
    if not os.access(above, os.W_OK):
        raise ValueError(f"--{name}={value} cannot be written: no permission to write to {above}.")


def peek(name: str) -> str | None:
    """The (last) value of --name on the command line, before the flags are parsed."""
    value = None
    for arg, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        if arg.startswith((f"--{name}=", f"-{name}=")):
            value = arg.split("=", 1)[1]
        elif arg in (f"--{name}", f"-{name}"):
            value = following
    return value


def say(text: str) -> None:
    """Prints; who reads only the beginning (`| head`) is no mistake."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer_questions() -> None:
    """--config.KEY=? says what the key may be, and ends the program."""
    asked = [argument for argument in sys.argv if re.fullmatch(r"--?config\.[^=]+=\?", argument)]
    if not asked:
        return
    from noise_sched.experiment import describing  # it loads all networks

    with clear_errors():
        for argument in asked:
            say(describing.describe(_OVERRIDE.sub(r"\1", argument.split("=")[0])))
    sys.exit(0)


def _overrides() -> str:
    """The overrides on the command line, "--config.train.steps, --config.seed"."""
    found = (argument.split("=")[0] for argument in sys.argv if _OVERRIDE.match(argument))
    return ", ".join(found)


def _check_override(path: str, known: dict[str, object]) -> None:
    key = _OVERRIDE.sub(r"\1", path)
    if key in known:
        return
    inside = [other for other in known if other.startswith(f"{key}.")]
    if inside:
        stop(
            f"{path} is a section of the config: change a key of it, such as --config.{inside[0]}."
        )
    section, _, name = key.rpartition(".")
    while section and not any(other.startswith(f"{section}.") for other in known):
        section, _, name = section.rpartition(".")
    start = f"{section}." if section else ""
    names = {other[len(start) :].split(".")[0] for other in known if other.startswith(start)}
    stop(f"unknown key {path}. {did_you_mean(name, sorted(names))}")


def _with_range(message: str) -> str:
    """`message`, and what is allowed, if it is about a key of the config."""
    found = re.search(r"config\.([\w.]+)", message)
    allowed = ranges.allowed(found.group(1)) if found else ""
    return f"{message.rstrip('.')}. Expected {allowed}." if allowed else message
