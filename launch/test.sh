#!/usr/bin/env bash
# Everything that must hold before a change is merged: format, lint, types and tests.
#
#     bash launch/test.sh                           all but the slow tests
#     bash launch/test.sh -m slow                   the slow ones
#     bash launch/test.sh -m docs                   the site, code blocks and notebooks
#     bash launch/test.sh tests/diffusion -k ddim   arguments are pytest's
#
# PYTEST_WORKERS (2) is the number of processes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

prepare_env test

"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
"$PYTHON" -m pyrefly check --python-interpreter-path "$PYTHON"
# Each worker takes a run of neighbouring tests, which share compiled programs, and helps out at the end.
exec "$PYTHON" -m pytest -n "${PYTEST_WORKERS:-2}" --dist=worksteal "$@"
