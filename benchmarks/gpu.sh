#!/usr/bin/env bash
# Tests the GPU kernels and times them beside NequIP's, on a fresh machine with an NVIDIA GPU, within minutes:
#
#   benchmarks/gpu.sh [--minutes 8] [--json gpu.json] [options of benchmarks/gpu.py]
#   benchmarks/gpu.sh --dry-run --device cpu     # installs nothing: tiny sizes with $PYTHON (python3), no GPU needed
#
# Packages go into a temporary venv, which is removed at the end together with all caches. A torch that is there already
# and sees the GPU is used as it is. Set PYTHON for another interpreter (3.11 or newer), TORCH_INDEX for another place of
# torch's wheels. What could not be installed is a line of the result; benchmarks/gpu.py says what the result holds.
set -uo pipefail

started=$(date +%s)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
python=${PYTHON:-python3}
minutes=8
dry_run=
previous=
for argument in "$@"; do
  [ "$previous" = --minutes ] && minutes=$argument
  case $argument in
    --dry-run) dry_run=yes ;;
    --minutes=*) minutes=${argument#--minutes=} ;;
    -h | --help) exec "$python" "$here/gpu.py" --help ;;
  esac
  previous=$argument
done

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
if [ -n "$dry_run" ]; then
  exec "$python" "$here/gpu.py" --started "$started" "$@"
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# Cold caches of our own: first steps are those of a new machine, and nothing is left behind.
export TRITON_CACHE_DIR=$work/triton TORCHINDUCTOR_CACHE_DIR=$work/inductor NEQUIP_LIKE_CACHE=$work/nequip_like
export TORCH_EXTENSIONS_DIR=$work/extensions
export PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off

note() { # name, status, seconds, and the last line of the error: one line of the result
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$(printf %s "$4" | tr '\t\n' '  ')" | tee -a "$work/installed.tsv"
}

run() { # name and command: at most two thirds of all minutes go into what is installed
  local name=$1 begin=$SECONDS left status=0 log=$work/install.log
  shift
  left=$(awk "BEGIN { print int($minutes * 40 - $SECONDS) }")
  if [ "$left" -lt 1 ]; then
    note "$name" failed 0 'out of time'
    return 1
  fi
  timeout "$left" "$@" >"$log" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then
    note "$name" installed $((SECONDS - begin)) ''
  elif [ "$status" -eq 124 ]; then
    note "$name" failed $((SECONDS - begin)) "not done within $left s"
  else
    note "$name" failed $((SECONDS - begin)) "$(grep -E 'ERROR|Error' "$log" | tail -n 1 | grep . || tail -n 1 "$log")"
  fi
  return "$status"
}

install() { # name and packages
  local name=$1
  shift
  # Byte code is left to the first import: torch alone has thousands of modules that nothing here loads.
  run "$name" "$venv/bin/python" -m pip install --no-compile --prefer-binary -c "$work/constraints.txt" "$@"
}

usable_torch='import torch
assert torch.cuda.is_available() and tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 10)'
requirements='import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
extras = project["optional-dependencies"]
print("\n".join(project["dependencies"] + extras["gpu"] + extras["test"]))'

install_all() {
  local site='' index='' cuda
  "$python" -c "$usable_torch" 2>/dev/null && site=--system-site-packages
  run venv "$python" -m venv $site "$venv" || return 1
  # torch is the build for this driver, so its version is not that of the other pins when the machine has brought it.
  grep -v '^torch==' "$root/constraints.txt" >"$work/constraints.txt"
  "$venv/bin/python" -c "$requirements" "$root/pyproject.toml" >"$work/requirements.txt" || return 1
  if [ -z "$site" ]; then
    # PyPI's torch is built for CUDA 13; drivers of CUDA 12 need another build, which pip takes for the newer one.
    nvidia-smi 2>/dev/null | grep -q 'CUDA Version: 12' && index=https://download.pytorch.org/whl/cu126
    index=${TORCH_INDEX:-$index}
    install torch "$(grep '^torch==' "$root/constraints.txt")" ${index:+--extra-index-url "$index"} || return 1
  fi
  install ours -r "$work/requirements.txt" || return 1
  cuda=$("$venv/bin/python" -c 'import torch; print((torch.version.cuda or "").split(".")[0])')
  install cuequivariance-ops "cuequivariance-ops-torch-cu${cuda:-13}"
  install nequip nequip==0.19.1
  install openequivariance openequivariance
}

venv=$work/venv
if install_all; then
  python=$venv/bin/python
elif [ -x "$venv/bin/python" ]; then
  python=$venv/bin/python # without torch it says so in the result, cell by cell
fi
"$python" "$here/gpu.py" --started "$started" --installed "$work/installed.tsv" "$@"
