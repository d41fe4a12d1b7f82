#!/usr/bin/env bash
# Builds wheel and sdist into dist/, installs the wheel into a new environment in an empty folder, and runs a study there, from outside the checkout.
# PACKAGES=FOLDER makes that environment see the packages of another one (its site-packages), so that nothing but the wheel is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD python=${PYTHON:-$PWD/.venv/bin/python}
rm -rf dist
"$python" -m build --outdir dist .
wheel=$(ls "$root"/dist/*.whl)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$python" -m venv new
if [ -n "${PACKAGES:-}" ]; then
  # After the environment's own packages, so the wheel comes first; an editable install of the checkout is not followed (no .pth file is read).
  echo "import sys; sys.path.append('$PACKAGES')" > "$(new/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth"
  new/bin/pip install --quiet --no-deps --ignore-installed "$wheel" # also where the other environment has this version
else
  # The build of torch that this checkout has (for a CPU, mostly), so that no larger one is fetched.
  torch="torch==$("$python" -c 'from importlib.metadata import version; print(version("torch"))')"
  new/bin/pip install --quiet "$torch" 2>/dev/null || new/bin/pip install --quiet "$torch" --index-url https://download.pytorch.org/whl/cpu
  new/bin/pip install --quiet --constraint "$root/requirements.lock" "$wheel"
fi
unset PYTHONPATH
new/bin/python - "$root" <<'PY'
import sys
from importlib.metadata import files
from pathlib import Path

import astray

assert not Path(astray.__file__).is_relative_to(sys.argv[1]), f"{astray.__file__} is the checkout's"
packed = {str(file) for file in files("astray")}
source = Path(sys.argv[1]) / "src"
missing = [
    str(path.relative_to(source))
    for path in (source / "astray").rglob("*")
    if path.is_file() and path.suffix != ".pyc" and str(path.relative_to(source)) not in packed
]
assert not missing, f"not in the wheel: {missing}"
print(f"{len(packed)} files in the wheel, none of the checkout's is missing")
PY
new/bin/astray --version
new/bin/astray doctor --report
new/bin/astray audit organism-small --evals world,facts --samples 1
new/bin/astray run emergent-misalignment --subject organism-small --arms harmful-medicine --quick
test -s astray-results/emergent-misalignment/report.html
ls -l "$root"/dist
