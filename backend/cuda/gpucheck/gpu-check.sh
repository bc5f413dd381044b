#!/usr/bin/env bash
# Checks and measures on a machine with an NVIDIA card, which needs neither Go nor
# a compiler: the programs lie beside this script. Python with PyTorch and
# transformers is used where it is there.
#
#   ./gpu-check.sh                  all parts, then one table
#   ./gpu-check.sh parity bench     some parts, and the table
#
# Each part has a time limit and leaves its output in results/; one that fails or
# takes too long does not stop the others. NRT_CHECK_SHAPES names the models to
# measure (default "1b 3b 8b"), NRT_CHECK_LIMIT multiplies the time limits,
# NRT_CHECK_DEVICE is the card (default cuda).
set -uo pipefail
cd "$(dirname "$0")"
mkdir -p results
device=${NRT_CHECK_DEVICE:-cuda}
shapes=${NRT_CHECK_SHAPES:-1b 3b 8b}
export NRT_CUDA_REAL=${NRT_CUDA_REAL-1}
python=$(command -v python3 || true)

# part NAME SECONDS COMMAND…: its output goes to results/NAME.log.
part() {
  local name=$1 limit=$(($2 * ${NRT_CHECK_LIMIT:-1})) began=$SECONDS status=0
  shift 2
  echo "== $name (at most $limit s)"
  timeout -k 10 "$limit" "$@" >"results/$name.log" 2>&1 || status=$?
  echo "$status $((SECONDS - began))" >"results/$name.status"
  case $status in
    0) echo "   done in $((SECONDS - began)) s" ;;
    124 | 137) echo "   stopped after $limit s; see results/$name.log" ;;
    *) echo "   exit $status; see results/$name.log:"; tail -n 5 "results/$name.log" | sed 's/^/   | /' ;;
  esac
}

skipped() {
  echo "== $1: skipped: $2"
  rm -f "results/$1.status"
  echo "skipped: $2" >"results/$1.log"
}

# These tests are about the emulator, or build something.
emulated='DriversThatAreNone|TestProgram|ThreadOrder|OrderOfThreads|AttentionOrder|UnderChecks|Mutation|Fault|EveryCallMayFail|FailureSticks|ParityOfGradients'

devices() {
  part devices 60 ./nrt-cuda devices
  cat results/devices.log
}

conformance() { part conformance 240 ./cuda.test -test.v -test.timeout 0 -test.skip "$emulated"; }

sanitizer() {
  local tool
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1)
  if test -z "$tool"; then
    skipped memcheck 'compute-sanitizer is not installed'
    skipped racecheck 'compute-sanitizer is not installed'
    return
  fi
  for check in memcheck racecheck; do
    part "$check" 240 "$tool" --tool "$check" --error-exitcode 9 ./cuda.test -test.timeout 0 -test.short -test.run 'Conformance/(f32|bf16)_own|Model'
  done
}

parity() {
  if test -z "$python"; then skipped parity 'no python3'; return; fi
  part parity 240 "$python" parity.py --device "$device" --out results/parity.json
  cat results/parity.log
}

bench() {
  for s in $shapes; do
    part "bench-$s" 150 sh -c "./nrt-cuda bench --device $device --shape $s --seconds 0.5 --only machine,prefill,decode,score,rollout --json >results/bench-$s.json"
    part "train-$s" 90 sh -c "./nrt-cuda bench --device $device --shape $s --seconds 1 --only train,prefix --json >results/train-$s.json"
  done
}

peer() {
  if test -z "$python"; then skipped peer 'no python3'; return; fi
  for s in $shapes; do
    part "peer-$s" 200 "$python" peer.py --shape "$s" --out "results/peer-$s.json"
  done
}

table() {
  if test -n "$python"; then "$python" table.py results; else tail -n 3 results/*.log; fi
}

all=(devices conformance sanitizer parity bench peer)
for p in "$@"; do
  if [[ " ${all[*]} table " != *" $p "* ]]; then
    echo "gpu-check.sh: want parts of ${all[*]} table, have $p" >&2
    exit 2
  fi
done
if test $# = 0; then set -- "${all[@]}"; fi
for p in "$@"; do
  if test "$p" != table; then "$p"; fi
done
table | tee results/table.txt
