#!/usr/bin/env bash
# Whether a replay works on 64-bit ARM, without any such machine: a whole one under qemu's user emulation.
#
#   benchmarks/aarch64.sh FOLDER [SCENARIO.yaml MODEL.onnx...]
#
# FOLDER keeps what is downloaded (about 1.2 GB, two minutes): qemu, a Debian for arm64, wheels. Needs Debian
# or Ubuntu, root for debootstrap, and a python3 with pip and edgesched[bridge]. Nothing is installed or
# mounted. Without a scenario a small one is replayed. Times mean nothing here: only that it works, and which
# layers come out, is like on a Raspberry Pi.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:?usage: benchmarks/aarch64.sh FOLDER [SCENARIO.yaml MODEL.onnx...]}"
work=$(cd "$1" && pwd)
shift
python=${PYTHON:-python3}

if [ ! -d "$work/tools" ]; then
  echo '== qemu and debootstrap'
  (cd "$work" && apt-get download -qq qemu-user-static debootstrap)
  for file in "$work"/*.deb; do dpkg -x "$file" "$work/tools.new"; done
  mv "$work/tools.new" "$work/tools"
fi
if [ ! -d "$work/root" ]; then
  echo '== Debian for arm64'
  rm -rf "$work/root.new"
  DEBOOTSTRAP_DIR="$work/tools/usr/share/debootstrap" "$work/tools/usr/sbin/debootstrap" --foreign \
    --arch=arm64 --variant=minbase --include=python3 bookworm "$work/root.new" > "$work/debootstrap.log"
  for file in "$work"/root.new/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink -C "$work/root.new"
  done
  rm -f "$work/root.new/proc" && mkdir -p "$work/root.new/proc"
  # onnxruntime looks here for what the processor is, and crashes on what it says of another architecture.
  for cpu in 0 1 2 3; do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n' "$cpu"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
  done > "$work/root.new/proc/cpuinfo"
  printf 'Revision\t: c03112\nModel\t\t: Raspberry Pi 4 Model B Rev 1.2\n' >> "$work/root.new/proc/cpuinfo"
  mv "$work/root.new" "$work/root"
fi
if [ ! -d "$work/wheels" ]; then
  echo '== wheels'
  platforms=(--platform manylinux2014_aarch64)
  for minor in $(seq 17 36); do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
  rm -rf "$work/wheels.new"
  "$python" -m pip install --quiet --target "$work/wheels.new" --only-binary=:all: --implementation cp \
    --python-version 3.11 "${platforms[@]}" $("$python" - "$repo/pyproject.toml" <<'PY'
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["bridge"])
PY
  )
  mv "$work/wheels.new" "$work/wheels"
fi

echo '== edgesched'
rm -rf "$work/source" "$work/edgesched" && mkdir "$work/source"
(cd "$repo" && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$work/source")
"$python" -m pip install --quiet --no-deps --target "$work/edgesched" "$work/source"
cat > "$work/python" <<SH
#!/bin/sh
export PYTHONPATH="$work/edgesched:$work/wheels" EDGESCHED_CACHE="$work/cache"
exec "$work/tools/usr/bin/qemu-aarch64-static" -cpu cortex-a72 -L "$work/root" -0 "$work/python" \\
  "$work/root/usr/bin/python3.11" "\$@"
SH
chmod +x "$work/python"

if [ $# -eq 0 ]; then
  rm -rf "$work/example" && mkdir "$work/example"
  PYTHONPATH="$repo/tests" "$python" - "$work/example" <<'PY'
import json, sys
from pathlib import Path
from small_models import chain
folder = Path(sys.argv[1])
chain(folder / "small.onnx", channels=16, convolutions=2, features=(64,))
board = {
    "name": "emulated",
    "processors": [{"name": "cpu", "cores": 4}],
    "memory": {"total_bytes": 1 << 34, "base_bytes": 40_000_000},
    "runtime": {"weights_lifetime": "layer", "outputs_lifetime": "arena", "load_copies": False},
    "cost": {"execute": {"other": {"mac_s": 1e-9}}},
}
(folder / "board.yaml").write_text(json.dumps(board))
workload = {"arrivals": {"process": "offline"}, "networks": ["small.onnx"]}
scenario = {"device": "board.yaml", "workload": workload, "policy": "linear", "run": {"requests": 4}}
(folder / "scenario.yaml").write_text(json.dumps(scenario))
PY
  set -- "$work/example/scenario.yaml" "$work/example/small.onnx"
fi
scenario=$1
shift
models=()
for model in "$@"; do models+=(--model "$model"); done

echo '== replay'
rm -rf "$work/results"
(cd "$(dirname "$scenario")" && "$python" -c 'from edgesched.cli.main import main; main()' \
  replay "$(basename "$scenario")" --package "$work/package.zip" 2> /dev/null)
"$work/python" -m edgesched.bridge.remote.receive run "$work/package.zip" --out "$work/results" "${models[@]}"
"$python" - "$work" <<'PY'
import json, sys
from pathlib import Path
work = Path(sys.argv[1])
facts = json.loads((work / "results" / "replay.json").read_text())["replications"][-1]
assert facts["outcome"] == "done", facts["message"]
assert facts["host"]["architecture"] == "aarch64", facts["host"]
print(f"{facts['outcome']} on {facts['host']['cpu']}, onnxruntime {facts['host']['onnxruntime']}")
for path in sorted((work / "cache" / "bundles").glob("*/bundle.json")):
    bundle = json.loads(path.read_text())
    print(f"{bundle['network']}: {len(bundle['layers'])} layers, {bundle['machine']}")
PY
