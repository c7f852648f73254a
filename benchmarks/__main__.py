"""The benchmarks: `python -m benchmarks` lists them, `python -m benchmarks NAME ...` runs one.

Each is also a module of its own, `python -m benchmarks.NAME --help`; results are in docs/results/.
"""

import ast
import pathlib
import runpy
import sys

from noise_sched.messages import did_you_mean

HERE = pathlib.Path(__file__).parent


def known() -> dict[str, str]:
    """Benchmarks by name, with the first line of what they say of themselves; nothing is imported."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not path.stem.startswith("_") and "def main()" in text:
            found[path.stem] = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
    return found


def main() -> None:
    """Lists the benchmarks, or runs the one that is named."""
    benchmarks, arguments = known(), sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks NAME ..., with NAME one of\n")
        print("\n".join(f"  {name:<20}{what}" for name, what in benchmarks.items()))
        return
    name = arguments[0]
    if name not in benchmarks:
        sys.exit(f"error: unknown benchmark {name!r}. {did_you_mean(name, benchmarks)}")
    sys.argv = [name, *arguments[1:]]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
