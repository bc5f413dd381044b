#!/usr/bin/env bash
# Checks and measures on a machine with an NVIDIA card, which needs neither Go nor
# a compiler: the programs lie beside this script. Python with PyTorch and
# transformers is used where it is there.
#
#   ./gpu-check.sh                  all parts but profile, then one table
#   ./gpu-check.sh parity bench     some parts, and the table
#
# Conformance comes first, then parity, then what measures, and the sanitizers last,
# each alone: what stops answering is then known, and cost nothing that came before.
# Each part has a time limit and leaves its output in results/; one that fails or
# takes too long does not stop the others.
# NRT_CHECK_SHAPES names the models to measure (default "1b 3b 8b"; profile takes the
# first), NRT_CHECK_LIMIT multiplies the time limits, NRT_CHECK_DEVICE is the card
# (default cuda).
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
  echo "== $name: at most $limit s"
  timeout -k 10 "$limit" "$@" >"results/$name.log" 2>&1 || status=$?
  echo "$status $((SECONDS - began))" >"results/$name.status"
  case $status in
    0) echo "   $name: done in $((SECONDS - began)) s" ;;
    124 | 137) echo "   $name: stopped after $limit s; see results/$name.log" ;;
    *) echo "   $name: exit $status; see results/$name.log:
$(tail -n 5 "results/$name.log" | sed 's/^/   | /')" ;;
  esac
}

skipped() {
  echo "== $1: skipped: $2"
  rm -f "results/$1.status"
  echo "skipped: $2" >"results/$1.log"
}

# These tests are about the emulator, or build something.
emulated='DriversThatAreNone|TestProgram|ThreadOrder|OrderOfThreads|AttentionOrder|UnderChecks|Mutation|Fault|EveryCallMayFail|FailureSticks|ParityOfGradients'

# tool NAME FOLDER…: where a program of NVIDIA's is, on the path or in a folder.
tool() {
  local name=$1
  shift
  command -v "$name" || ls "${@/%//$name}" 2>/dev/null | tail -n 1
}

# cublas names the cuBLAS of Python's packages in NRT_CUBLAS where the program finds
# none by itself: only Python knows where its packages are.
cublas() {
  if test -n "${NRT_CUBLAS-}${NRT_CUDA_LIBRARY-}" || test -z "$python"; then return; fi
  if ! ./nrt-cuda devices 2>/dev/null | grep -q 'no cuBLAS'; then return; fi
  local file
  while read -r file; do
    if NRT_CUBLAS=$file ./nrt-cuda devices 2>/dev/null | grep -q ' cuBLAS: '; then
      export NRT_CUBLAS=$file
      echo "cuBLAS: $file"
      return
    fi
  done < <("$python" - <<'END'
import glob, os, site, sysconfig
folders = [sysconfig.get_paths()[p] for p in ("purelib", "platlib")] + site.getsitepackages() + [site.getusersitepackages()]
for version in ("13", "12", "11"):
    for folder in dict.fromkeys(folders):
        for file in sorted(glob.glob(os.path.join(glob.escape(folder), "nvidia", "*", "lib", "libcublas.so." + version))):
            print(file)
END
  )
}

devices() {
  part devices 60 ./nrt-cuda devices
  cat results/devices.log
}

conformance() { part conformance 150 ./cuda.test -test.v -test.timeout 0 -test.skip "$emulated"; }

# A process for each type: a fault ends all that comes after it in one. Left out are
# tests of numbers that run the kernels of others once more, and for racecheck those
# of kernels without shared memory.
again='/(RowIndependence|NaN|SampleTies|Shapes|Kinds|Transfer)$'
shared='(MatMul|Project|Weights|RMSNorm|SumSquares|Classifier|Sample|Attention|AttentionDecode)$'

sanitizer() {
  local sanitize type
  sanitize=$(tool compute-sanitizer /usr/local/cuda*/bin)
  if test -z "$sanitize"; then
    skipped memcheck 'compute-sanitizer is not installed'
    skipped racecheck 'compute-sanitizer is not installed'
    return
  fi
  rm -f results/{memcheck,racecheck}.log
  for type in f32 bf16; do
    part "memcheck-$type" 120 "$sanitize" --tool memcheck --destroy-on-device-error kernel --error-exitcode 9 \
      ./cuda.test -test.v -test.timeout 0 -test.short -test.run "Conformance/${type}_own|Model/$type" -test.skip "Conformance/${type}_own$again"
    part "racecheck-$type" 120 "$sanitize" --tool racecheck --error-exitcode 9 \
      ./cuda.test -test.v -test.timeout 0 -test.short -test.run "Conformance/${type}_own/$shared"
  done
}

parity() {
  if test -z "$python"; then skipped parity 'no python3'; return; fi
  part parity 150 "$python" parity.py --device "$device" --out results/parity.json
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

profile() {
  local ncu shape=${shapes%% *} line name files=()
  ncu=$(tool ncu /usr/local/cuda*/bin /opt/nvidia/nsight-compute/*)
  if test -z "$ncu"; then skipped profile 'ncu (Nsight Compute) is not installed'; return; fi
  rm -f results/profile*
  for line in train prefill 'decode --at 1' 'decode --at 64'; do
    name=profile-${line// --at /-}
    files+=("results/$name.csv")
    # shellcheck disable=SC2086 # the words of line are arguments
    part "$name" 90 "$ncu" --profile-from-start off --clock-control none --metrics gpu__time_duration.sum,dram__bytes.sum \
      --csv --log-file "results/$name.csv" ./nrt-cuda bench --device "$device" --shape "$shape" --profile --only $line
  done
  if test -n "$python"; then "$python" kernels.py "${files[@]}" | tee results/profile.txt; fi
}

table() {
  if test -n "$python"; then "$python" table.py results; else tail -n 3 results/*.log; fi
}

all=(devices conformance parity bench peer sanitizer)
if test $# = 0; then set -- "${all[@]}"; fi
for p in "$@"; do
  if [[ " ${all[*]} profile table " != *" $p "* ]]; then
    echo "gpu-check.sh: want parts of ${all[*]} profile table, have $p" >&2
    exit 2
  fi
done
asked=$*
asked() { [[ " $asked " == *" $1 "* ]]; }
cublas
for p in "${all[@]}" profile; do
  if asked "$p"; then "$p"; fi
done
table | tee results/table.txt
