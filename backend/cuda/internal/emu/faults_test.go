//go:build cuda

package emu

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// planted is a faulty kernel of testdata/faults.cu; the one named with _not behind
// it does the same without the fault. run launches either, and says what is wrong
// with what it did, or nothing.
type planted struct {
	kernel string
	run    func(m *machine, kernel string) string

	// What each check says of the fault; "" where it cannot tell. "result" is a
	// wrong number, found by the caller.
	plain, address, races string
}

// match reports whether a text has a regular expression in it.
func match(expression, s string) bool { return regexp.MustCompile(expression).MatchString(s) }

// result compares what a kernel wrote, after waiting for it.
func result[T comparable](m *machine, status int, p uintptr, want []T) string {
	m.t.Helper()
	if status == 0 {
		status = m.Call("cuCtxSynchronize")
	}
	if status != 0 {
		return fmt.Sprintf("error %d: %s", status, m.Fault())
	}
	have := back(m, make([]T, len(want)), p)
	for i := range want {
		if have[i] != want[i] {
			return fmt.Sprintf("result: [%d] is %v, want %v", i, have[i], want[i])
		}
	}
	return ""
}

func floats(n int, f func(i int) float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = f(i)
	}
	return x
}

func number(i int) float32 { return float32(i) }

var faults = []planted{
	{
		kernel: "missing_barrier",
		run: func(m *machine, kernel string) string {
			x := buffer(m, floats(384, number))
			return result(m, m.launch(kernel, [3]int{3, 1, 1}, 128, 0, x), x, floats(384, func(i int) float32 { return float32(i/128*128 + 127 - i%128) }))
		},
		plain: "result", races: "nothing has written|race",
	},
	{
		kernel: "missing_second_barrier",
		run: func(m *machine, kernel string) string {
			x := buffer(m, floats(256, number))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 128, 0, x), x, floats(256, func(i int) float32 { return float32(i/128*128 + 127 - i%128) }))
		},
		plain: "result", races: "race: (read|write) (of|to) byte",
	},
	{
		kernel: "missing_warp_barrier",
		run: func(m *machine, kernel string) string {
			x := buffer(m, floats(128, number))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 128, 0, x), x, floats(128, func(i int) float32 { return float32(i ^ 31) }))
		},
		plain: "result", races: "nothing has written|race",
	},
	{
		kernel: "global_read_out_of_bounds",
		run: func(m *machine, kernel string) string {
			out, x := buffer(m, make([]float32, 99)), buffer(m, floats(99, number))
			return result(m, m.launch(kernel, [3]int{2, 1, 1}, 64, 0, out, x, 99), out, floats(98, func(i int) float32 { return float32(i + 1) }))
		},
		address: "heap-buffer-overflow", races: "read of 4 bytes at byte 396 of an allocation of 396",
	},
	{
		kernel: "global_write_out_of_bounds",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 99))
			return result(m, m.launch(kernel, [3]int{2, 1, 1}, 64, 0, out, 99), out, floats(99, number))
		},
		plain:   "kernel global_write_out_of_bounds: a write 1 bytes past the end of an allocation of 396 bytes",
		address: "heap-buffer-overflow", races: "write of 4 bytes at byte 396 of an allocation of 396",
	},
	{
		kernel: "shared_read_out_of_bounds",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 32))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out), out, floats(32, func(i int) float32 { return float32(i + 1) }))
		},
		plain: "result", address: "use-after-poison", races: "read of 4 bytes at byte 132 of a shared array of 132",
	},
	{
		kernel: "shared_write_out_of_bounds",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 32))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 32*4, out, 2), out, floats(32, func(i int) float32 {
				if j := (31 - i) * 2; j < 32 {
					return float32(31 - i)
				}
				return 0
			}))
		},
		plain: "a write past the end of a shared array of 128 bytes", address: "use-after-poison", races: "bytes at byte [0-9]+ of a shared array of 128",
	},
	{
		kernel: "wrong_lane",
		run: func(m *machine, kernel string) string {
			out, x := buffer(m, make([]float32, 32)), buffer(m, floats(32, number))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out, x), out, floats(32, func(int) float32 { return 31 * 32 / 2 }))
		},
		plain: "result", races: "result",
	},
	{
		kernel: "missing_copy_wait",
		run: func(m *machine, kernel string) string {
			x := make([]uint32, 128)
			want := make([]uint32, 128)
			for i := range x {
				x[i] = uint32(i)
				want[i] = uint32((31-i/4)*4 + i%4)
			}
			out := buffer(m, make([]uint32, 128))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out, buffer(m, x)), out, want)
		},
		plain: "result", races: "result",
	},
	{
		kernel: "uninitialised_shared",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 32))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out, buffer(m, floats(32, number))), out, floats(32, func(i int) float32 { return float32(i ^ 1) }))
		},
		plain: "result", races: "which nothing has written",
	},
	{
		kernel: "divergent_barrier",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 64))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 64, 0, out, 40), out, floats(40, func(int) float32 { return 1 }))
		},
		plain: "divergence: 40 of 64 threads wait at sync in faults.cu:[0-9]+, 24 have returned",
		races: "divergence: 40 of 64 threads wait at sync in faults.cu:[0-9]+, 24 have returned",
	},
	{
		kernel: "two_barriers",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 64))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 64, 0, out, 40), out, floats(40, func(int) float32 { return 1 }))
		},
		plain: "divergence: sync in faults.cu:[0-9]+ while other threads wait at sync in faults.cu:",
		races: "divergence: sync in faults.cu:[0-9]+ while other threads wait at sync in faults.cu:",
	},
	{
		kernel: "divergent_shuffle",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 64))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 64, 0, out, 40), out, floats(64, func(i int) float32 {
				if i < 40 {
					return float32(i + (i ^ 1))
				}
				return float32(i)
			}))
		},
		plain: "divergence: 8 of 32 threads wait at shfl_xor in faults.cu:[0-9]+, 24 have returned",
		races: "divergence: 8 of 32 threads wait at shfl_xor in faults.cu:[0-9]+, 24 have returned",
	},
	{
		kernel: "float_race",
		run: func(m *machine, kernel string) string {
			sum := buffer(m, []float32{0})
			return result(m, m.launch(kernel, [3]int{2, 1, 1}, 32, 0, sum, buffer(m, floats(64, number))), sum, []float32{63 * 64 / 2})
		},
		races: "race: (read|write) (of|to) byte 0 of an allocation of 4 bytes, which another (thread|block) (wrote|read)",
	},
	{
		kernel: "write_race",
		run: func(m *machine, kernel string) string {
			last := buffer(m, []int32{-1})
			return result(m, m.launch(kernel, [3]int{5, 1, 1}, 32, 0, last), last, []int32{4})
		},
		plain: "result", races: "race: write to byte 0 of an allocation of 4 bytes, which another (thread|block) wrote",
	},
	{
		kernel: "handed_on_too_early",
		run: func(m *machine, kernel string) string {
			parts, ticket := buffer(m, make([]int32, 6)), buffer(m, []int32{0})
			return result(m, m.launch(kernel, [3]int{5, 1, 1}, 64, 0, parts, ticket), parts, []int32{0, 1, 2, 3, 4, 10})
		},
		plain: "any", races: "race: read of byte [0-9]+ of an allocation of 24 bytes, which another block wrote",
	},
	{
		kernel: "misaligned_vector",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 4))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out, buffer(m, floats(8, number))), out, floats(4, func(i int) float32 { return float32(i + 4) }))
		},
		plain: "error 716: .*load16 at 0x[0-9a-f]+, which is not a multiple of 16",
		races: "error 716: .*load16 at 0x[0-9a-f]+, which is not a multiple of 16",
	},
	{
		kernel: "matrix_not_shared",
		run: func(m *machine, kernel string) string {
			x := make([]uint32, 128)
			want := make([]uint32, 32)
			for i := range x {
				x[i] = uint32(i)
				want[i%32] = uint32(i % 32)
			}
			out := buffer(m, make([]uint32, 32))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out, buffer(m, x)), out, want)
		},
		plain: "error 700: .*ldmatrix_x4 at 0x[0-9a-f]+, which is not in shared memory",
		races: "error 700: .*ldmatrix_x4 at 0x[0-9a-f]+, which is not in shared memory",
	},
	{
		kernel: "too_much_static",
		run: func(m *machine, kernel string) string {
			out := buffer(m, make([]float32, 32))
			return result(m, m.launch(kernel, [3]int{1, 1, 1}, 32, 0, out), out, floats(32, number))
		},
		plain: "error 701: .*49156 bytes of static shared memory are more than 49152",
		races: "error 701: .*49156 bytes of static shared memory are more than 49152",
	},
}

// Each fault is caught, for the reason given, in at least one order of the
// threads, and the kernel without it passes in all of them.
func TestPlantedFaults(t *testing.T) {
	for _, check := range []Check{Plain, Races} {
		t.Run(check.String(), func(t *testing.T) {
			for _, f := range faults {
				want := f.plain
				if check == Races {
					want = f.races
				}
				t.Run(f.kernel, func(t *testing.T) {
					m := start(t, check, "faults.cu")
					var said []string
					for seed := range uint64(8) {
						m.Seed(seed)
						if s := f.run(m, f.kernel+"_not"); s != "" {
							t.Fatalf("without the fault, seed %d: %s", seed, s)
						}
						said = append(said, f.run(m, f.kernel))
						m.Reset()
					}
					caught := slices.ContainsFunc(said, func(s string) bool { return s != "" && match(want, s) })
					if want == "any" { // chance decides
						return
					}
					if want != "" && !caught {
						t.Errorf("not caught as %q: %q", want, said)
					}
					if want == "" && slices.ContainsFunc(said, func(s string) bool { return s != "" }) {
						t.Errorf("the table says that this check cannot tell, and it did: %q", said)
					}
				})
			}
		})
	}
}

// AddressSanitizer ends the process, so each fault has its own.
func TestPlantedFaultsUnderAddressSanitizer(t *testing.T) {
	const again = "^TestPlantedFaultsUnderAddressSanitizer$"
	name := os.Getenv("NRT_EMU_PLANTED")
	if name == "" {
		out, err := Again(t, Address, again, "NRT_EMU_PLANTED=none")
		if err != nil || !strings.Contains(string(out), "PASS") {
			t.Fatalf("without faults: %v\n%s", err, out)
		}
	}
	for _, f := range faults {
		switch name {
		case "":
			if f.address == "" {
				continue
			}
			out, err := Again(t, Address, again, "NRT_EMU_PLANTED="+f.kernel)
			if err == nil || !strings.Contains(string(out), "ERROR: AddressSanitizer: "+f.address) || !strings.Contains(string(out), "kernel_"+f.kernel) {
				t.Errorf("%s: not caught as %s: %v\n%s", f.kernel, f.address, err, out)
			}
		case "none":
			m := start(t, Address, "faults.cu")
			eachSeed(m, func() {
				if s := f.run(m, f.kernel+"_not"); s != "" {
					t.Errorf("%s without the fault: %s", f.kernel, s)
				}
			})
		case f.kernel:
			f.run(start(t, Address, "faults.cu"), f.kernel)
		}
	}
}
