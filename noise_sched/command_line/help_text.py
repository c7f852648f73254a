"""What --help prints: what the command does with its examples, then its own flags, a line or two each."""

import re
import shutil
import sys
import textwrap

from absl import flags

_KINDS = {"int": "N", "float": "X"}


def of_command(doc: str, values: flags.FlagValues) -> str:
    """The help of the command that runs.

    Args:
      doc: its module's docstring.
      values: the flags that are defined.
    """
    width = min(100, shutil.get_terminal_size((80, 24)).columns)
    made = values.flags_by_module_dict()
    own = made.get(sys.argv[0], [])
    shared = [flag for module, found in made.items() if "noise_sched" in module for flag in found]
    lines, seen = [doc.strip(), "", "Flags:", ""], set()
    by_name = lambda flag: flag.name
    for flag in [*sorted(own, key=by_name), *sorted(shared, key=by_name)]:
        # Those of --config.KEY are the keys of a config.
        if flag.name in seen or "." in flag.name:
            continue
        seen.add(flag.name)
        lines += textwrap.wrap(_line(flag), width, initial_indent="  ", subsequent_indent="      ")
    if "config" in seen:
        lines += ["", "`python -m noise_sched.describe` lists the keys of a config; a command with"]
        lines += ["'--config.KEY=?' says what one may be."]
    return "\n".join(lines)


def _line(flag: flags.Flag) -> str:
    if flag.name == "config" and flag.flag_type() != "string":
        return "--config.KEY=VALUE  Changes a key of the config that is read."
    default = flag.default
    said = "" if default in (None, "", False, True, []) else f" [{_shown(default)}]"
    text = re.sub(r"^<.*?>: ", "", flag.help or "")  # absl's list of an enum's values
    no = "[no]" if flag.boolean and default else ""
    return f"--{no}{flag.name}{_value(flag)}  {text}{said}"


def _value(flag: flags.Flag) -> str:
    if flag.boolean:
        return ""
    values = getattr(flag.parser, "enum_values", None)
    return "=" + ("|".join(values) if values else _KINDS.get(flag.flag_type(), "..."))


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)
