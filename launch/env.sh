# shellcheck shell=bash
# Sourced by the scripts beside it: makes or reuses the checkout's virtual environment.
#
#     source ".../launch/env.sh"    goes to the checkout; from then on paths are relative to it
#     prepare_env [EXTRA]           installs the package (with its [EXTRA]) in .venv; sets PYTHON
#
# Written for bash 3.2, which is what macOS has.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$ROOT" || exit
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"

# Compiled programs are kept between runs.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}"

# So are compiled modules, in a place of their own where Python was told to write none beside them: without,
# each start compiles a thousand modules anew, which takes two seconds.
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
  unset PYTHONDONTWRITEBYTECODE
  export PYTHONPYCACHEPREFIX="$ROOT/.cache/python"
fi

fail() {
  printf 'error: %s\n(docs/how_to/failed_run.md and docs/how_to/clusters.md say more.)\n' "$*" >&2
  exit 1
}

# Whether the given Python runs and is one of the versions that setup.py allows.
python_is_supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
    >/dev/null 2>&1
}

# Prints a supported Python, one that can make virtual environments where there is one.
find_python() {
  local name without_venv=""
  for name in python3.12 python3.11 python3.13 python3 python; do
    if ! command -v "$name" >/dev/null 2>&1 || ! python_is_supported "$name"; then
      continue
    fi
    if "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
    without_venv="${without_venv:-$(command -v "$name")}"
  done
  printf '%s' "$without_venv"
}

make_venv() {
  local python
  python="$(find_python)"
  if command -v uv >/dev/null 2>&1; then
    # Without a Python of the right version uv fetches one.
    uv venv --quiet --python "${python:-3.12}" "$VENV"
    return
  fi
  [ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 is needed and none was found on PATH" \
    "(python3 is $(python3 --version 2>&1 || true)). Install one, or install uv, which fetches" \
    "its own: on macOS \`brew install python@3.12\`, on Debian \`apt-get install python3" \
    "python3-venv\`."
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    fail "$python cannot make virtual environments: its venv module is missing. On Debian and" \
      "Ubuntu: \`apt-get install python3-venv\` (or, for this Python, \`python$("$python" -c \
        'import sys; print("%d.%d" % sys.version_info[:2])')-venv\`); then run this again."
  "$python" -m venv "$VENV" || {
    rm -rf "$VENV" # What is half made must not look like an environment to the next run.
    fail "$python could not make a virtual environment; its own message stands above."
  }
}

# What the installation depends on, as one line: compared with the stamp of the last one.
fingerprint() {
  printf '%s %s %s' "$VENV" "$("$PYTHON" --version)" "$(cat setup.py constraints.txt | cksum)"
}

install_editable() {
  if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$PYTHON" --constraints constraints.txt --editable "$1"
    return
  fi
  "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null 2>&1 ||
    fail "$VENV has no pip. Remove it (\`rm -r '$VENV'\`) and run this again."
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  # uv installs all this in a sixth of the time (10 s, not 60), but does not read pip's settings:
  # where those name another package index, and wherever uv does not get through, it is pip. Where
  # they name certificates, uv is told.
  local settings certificates
  settings="$("$PYTHON" -m pip config list 2>/dev/null || true)"
  certificates="$(printf '%s\n' "$settings" | sed -n "s/^.*\.cert='\(.*\)'\$/\1/p" | tail -n 1)"
  if [ -n "$certificates" ]; then
    export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"
  fi
  if ! printf '%s\n' "$settings" | grep -qE '\.(index-url|no-index)=' &&
    "$PYTHON" -m pip install --quiet 'uv>=0.5,<1'; then
    "$PYTHON" -m uv pip install --quiet --python "$PYTHON" --constraints constraints.txt \
      --editable "$1" && return
    printf 'uv did not succeed; trying again with pip, which takes a minute longer.\n' >&2
  fi
  "$PYTHON" -m pip install --quiet --constraint constraints.txt --editable "$1"
}

prepare_env() {
  local extra="${1:-}" target="." stamp now
  [ "$(uname -s)-$(uname -m)" != "Darwin-x86_64" ] ||
    fail "jax has no packages for Macs with an Intel processor: use Linux (in a container, say)" \
      "or a Mac with Apple silicon. (On Apple silicon this terminal runs under Rosetta.)"

  if [ -d "$VENV" ] && ! python_is_supported "$PYTHON"; then
    fail "$VENV is there, but its Python does not run or is not 3.11 to 3.13." \
      "Remove it (\`rm -r '$VENV'\`) and run this again: it will be made anew."
  fi
  if [ ! -d "$VENV" ]; then
    printf 'Making a virtual environment in %s\n' "$VENV"
    make_venv
  fi

  # [test] installs all that the plain installation does.
  now="$(fingerprint)"
  for stamp in "$VENV/.installed-$extra" "$VENV/.installed-test"; do
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
      return
    fi
  done

  [ -z "$extra" ] || target=".[$extra]"
  printf 'Installing noise_sched and its dependencies in %s\n' "$VENV"
  install_editable "$target"
  printf '%s' "$now" >"$VENV/.installed-$extra"
}
