package main

import (
	"fmt"
	"runtime"
	"strings"

	"nrt/backend/cpu"
	"nrt/backend/cuda"
)

func devicesCommand() *command {
	var asJSON bool
	return &command{
		name: "devices", group: groupAbout, short: "what this machine can compute with, and why not", args: "[--json]",
		long: `
Lists the processor and the CUDA cards that --device takes, with the memory that
is free on each and the libraries that drive the cards. Where there is no card to
compute with it says what is missing.`,
		examples: []string{"nrt devices", "nrt devices --json"},
		bind: func(f *flags) func(*env) error {
			f.json(&asJSON)
			return func(e *env) error {
				d, err := e.devices()
				if err != nil {
					return err
				}
				if asJSON {
					return e.printJSON(d, true)
				}
				fmt.Fprint(e.out, d)
				return nil
			}
		},
	}
}

// deviceList is what nrt devices found.
type deviceList struct {
	Auto string `json:"auto"` // what --device auto takes
	CPU  struct {
		Name    string `json:"name"` // with its kernels
		Threads int    `json:"threads"`
		BF16    bool   `json:"fast_bf16"`   // --dtype bf16 is faster than f32
		Free    int64  `json:"memory_free"` // bytes; 0 where the system does not tell
	} `json:"cpu"`
	CUDA struct {
		Built bool       `json:"built"`
		Why   string     `json:"why_not,omitempty"` // there is no card to compute with
		Cards []cardInfo `json:"cards"`
	} `json:"cuda"`
}

// cardInfo is cuda.Info in JSON.
type cardInfo struct {
	Device     string `json:"device"` // as --device takes it
	Name       string `json:"name"`
	Capability string `json:"compute_capability"`
	Total      int64  `json:"memory"`
	Free       int64  `json:"memory_free"`
	Driver     string `json:"driver"` // the CUDA version that it is for
	Library    string `json:"libcuda"`
	CuBLAS     string `json:"cublas,omitempty"`
	NoCuBLAS   string `json:"no_cublas,omitempty"`
	Unusable   string `json:"unusable,omitempty"`
}

func newCardInfo(i cuda.Info) cardInfo {
	return cardInfo{
		Device: fmt.Sprintf("cuda:%d", i.Ordinal), Name: i.Name, Capability: fmt.Sprintf("%d.%d", i.Major, i.Minor),
		Total: i.Total, Free: i.Free, Driver: fmt.Sprintf("%d.%d", i.Driver/1000, i.Driver%1000/10), Library: i.Library,
		CuBLAS: i.CuBLAS, NoCuBLAS: i.NoCuBLAS, Unusable: i.Unusable,
	}
}

func (e *env) devices() (d deviceList, err error) {
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		return d, err
	}
	d.CPU.Name = dev.Name()
	if err := dev.Close(); err != nil {
		return d, err
	}
	d.CPU.Threads, d.CPU.BF16 = runtime.GOMAXPROCS(0), cpu.FastBF16()
	if e.free != nil {
		d.CPU.Free = e.free()
	}
	d.Auto, d.CUDA.Built, d.CUDA.Cards = "cpu", e.cards.built, []cardInfo{}
	if !e.cards.built {
		d.CUDA.Why = withoutCUDA
		return d, nil
	}
	list, err := e.cards.list()
	if err != nil {
		d.CUDA.Why = strings.TrimPrefix(err.Error(), "cuda: ")
		return d, nil
	}
	if len(list) == 0 {
		d.CUDA.Why = withoutCard
	}
	for _, i := range list {
		d.CUDA.Cards = append(d.CUDA.Cards, newCardInfo(i))
	}
	if len(list) > 0 && list[0].Unusable == "" {
		d.Auto = "cuda"
	}
	return d, nil
}

// String is the list for people.
func (d deviceList) String() string {
	var b strings.Builder
	free := "memory free not known"
	if d.CPU.Free > 0 {
		free = gigabytes(d.CPU.Free) + " free"
	}
	fast := ""
	if d.CPU.BF16 {
		fast = ", faster with --dtype bf16"
	}
	fmt.Fprintf(&b, "cpu     %s%s, %s\n", strings.TrimPrefix(d.CPU.Name, "cpu "), fast, free)
	for _, c := range d.CUDA.Cards {
		fmt.Fprintf(&b, "%-7s %s, compute capability %s, %s of %s free\n", c.Device, c.Name, c.Capability, gigabytes(c.Free), gigabytes(c.Total))
		fmt.Fprintf(&b, "        driver for CUDA %s: %s\n", c.Driver, c.Library)
		if c.CuBLAS != "" {
			fmt.Fprintf(&b, "        cuBLAS: %s\n", c.CuBLAS)
		} else {
			fmt.Fprintf(&b, "        no cuBLAS, so the program's own kernels multiply: %s\n", c.NoCuBLAS)
		}
		if c.Unusable != "" {
			fmt.Fprintf(&b, "        cannot be used: %s\n", c.Unusable)
		}
	}
	if d.CUDA.Why != "" {
		fmt.Fprintf(&b, "cuda    none: %s\n", d.CUDA.Why)
	}
	fmt.Fprintf(&b, "\n--device auto takes %s.\n", d.Auto)
	return b.String()
}
