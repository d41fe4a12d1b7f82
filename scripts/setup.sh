#!/usr/bin/env bash
# Makes the virtual environment: torch (CPU build, or CUDA where an NVIDIA GPU is found), then the locked versions, then Astray itself; and bubblewrap,
# where it is missing and can be installed.
set -euo pipefail
python=${PYTHON:-python3} venv=${VENV:-.venv}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Astray needs Python 3.11 or newer; name one: make setup PYTHON=python3.12"; exit 1; }
[ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
pip=("$venv/bin/pip" install --quiet --disable-pip-version-check)
version=2.13.0
if "$venv/bin/python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null; then
  echo "torch $version is there"
else
  echo "Installing PyTorch $version: some 200 MB, or 3 GB where there is an NVIDIA GPU"
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    "${pip[@]}" "torch==$version"
  else
    # Some indexes serve the CPU build under its own version; PyTorch's own index does for everybody else.
    "${pip[@]}" "torch==$version+cpu" 2>/dev/null || "${pip[@]}" "torch==$version+cpu" --index-url https://download.pytorch.org/whl/cpu
  fi
fi
echo "Installing $(grep -c == requirements.lock) packages, which takes a minute or two without a word"
"${pip[@]}" --requirement requirements.lock
"${pip[@]}" --no-deps --editable .
bash "$(dirname "$0")/sandbox.sh" || echo "Without it no code that a model wrote is run; everything else works."
