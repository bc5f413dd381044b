package main

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"text/tabwriter"
)

// benchReport is what nrt bench found out; --json prints it as it is.
type benchReport struct {
	Version    string `json:"version"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Device     string `json:"device"`
	Threads    int    `json:"threads"`
	Model      string `json:"model"` // a shape's name, or what --model named
	Parameters int64  `json:"parameters"`
	Weights    string `json:"weights"` // the type in which weights are kept to serve
	PeakBy     string `json:"peak_by"` // what the peak of GFLOP/s was measured with
	// Profiled says that a run of each line was marked for a profiler, so that rates
	// may be the profiler's.
	Profiled bool `json:"profiled,omitempty"`
	// Elsewhere is the share of the processors that other programs took meanwhile;
	// null where the system does not tell.
	Elsewhere *float64       `json:"elsewhere"`
	Trip      *benchTrip     `json:"trip_ns"` // null with one thread or a card
	Rows      []benchRow     `json:"results"`
	LeftOut   []benchLeftOut `json:"left_out"`
}

// benchTrip is how many nanoseconds a word takes from one thread to another and
// back, before, between and after the parts.
type benchTrip struct {
	Shortest float64 `json:"shortest"`
	Longest  float64 `json:"longest"`
}

// benchRow is one measured line.
type benchRow struct {
	Part    string  `json:"part"`
	Work    string  `json:"work"`
	Rate    float64 `json:"rate"` // the median
	Slowest float64 `json:"slowest"`
	Fastest float64 `json:"fastest"`
	Unit    string  `json:"unit"`
	Runs    int     `json:"runs"`
	// What the rate makes of the machine: GFLOP/s of GFLOP/s, GB/s of GB/s.
	GFLOPs         float64 `json:"gflops,omitempty"`
	PeakShare      float64 `json:"peak_share,omitempty"`
	GBps           float64 `json:"gbps,omitempty"`
	BandwidthShare float64 `json:"bandwidth_share,omitempty"`
	// Ratio is the rate over that of another line of the part.
	Ratio float64 `json:"ratio,omitempty"`
	Than  string  `json:"than,omitempty"`
}

// benchLeftOut is a part that was not measured, and why.
type benchLeftOut struct {
	Part string `json:"part"`
	Why  string `json:"why"`
}

func (b *bench) describe() {
	all := parameters(b.config)
	name := b.o.model
	if name == "" {
		name = b.o.shape
	}
	b.benchReport = benchReport{
		Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Device: b.dev.Name(), Threads: b.o.on.threads, Model: name, Parameters: all, Weights: b.format().String(),
		Profiled: b.o.profile,
		Rows:     []benchRow{}, LeftOut: []benchLeftOut{},
	}
}

// add appends a line.
func (b *bench) add(part, work, unit string, s spread) *benchRow {
	b.Rows = append(b.Rows, benchRow{
		Part: part, Work: work, Unit: unit,
		Rate: s.median, Slowest: s.slowest, Fastest: s.fastest, Runs: s.runs,
	})
	return &b.Rows[len(b.Rows)-1]
}

// print is the table for people.
func (r *benchReport) print(out io.Writer) {
	fmt.Fprintf(out, "nrt %s, %s, %s, %s\n", r.Version, r.Go, r.Platform, r.Device)
	fmt.Fprintf(out, "%s, %s parameters, weights in %s\n", r.Model, millions(r.Parameters), r.Weights)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	part := ""
	for _, row := range r.Rows {
		if row.Part != part {
			part = row.Part
			fmt.Fprintf(w, "\n%s\t%8s\t%8s – fastest\t\n", part, "median", "slowest")
		}
		fmt.Fprintf(w, "  %s\t%8s %s\t%8s – %s\t%s\n", row.Work, digits(row.Rate), row.Unit, digits(row.Slowest), digits(row.Fastest), row.remark())
	}
	w.Flush()
	if r.Elsewhere != nil {
		fmt.Fprintf(out, "\nother programs took %.0f %% of the processors meanwhile\n", 100**r.Elsewhere)
	}
	if t := r.Trip; t != nil {
		fmt.Fprintf(out, "\nfrom one thread to another and back in %.0f to %.0f ns\n", t.Shortest, t.Longest)
	}
	if r.Profiled {
		fmt.Fprintf(out, "\na run of each line was marked for a profiler, under which rates mean little\n")
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(out, "\n%s was left out: %s\n", l.Part, l.Why)
	}
}

// remark sets the rate beside the machine's limits or another line.
func (r *benchRow) remark() string {
	text := ""
	add := func(format string, args ...any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, args...)
	}
	if r.GFLOPs > 0 && r.Unit != "GFLOP/s" {
		add("%s GFLOP/s", digits(r.GFLOPs))
	}
	if r.PeakShare > 0 {
		add("%.0f %% of peak", 100*r.PeakShare)
	}
	if r.GBps > 0 && r.Unit != "GB/s" {
		add("%s GB/s of weights", digits(r.GBps))
	}
	if r.BandwidthShare > 0 {
		add("%.0f %% of reading", 100*r.BandwidthShare)
	}
	if r.Ratio > 0 {
		add("%.2f × %s", r.Ratio, r.Than)
	}
	return text
}

// digits prints a rate with the digits that can mean something.
func digits(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// millions prints a number of parameters.
func millions(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.2f million", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f billion", float64(n)/1e9)
}
