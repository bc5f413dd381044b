package main

import (
	"bytes"
	"io/fs"
	"strconv"
	"strings"
)

// busy counts processor time in the system's ticks since it started.
type busy struct {
	all   float64 // of every program, the system's own work and what a host took away
	ours  float64 // of this process
	total float64 // idle time too
}

// busyIn reads the counters of Linux; elsewhere there are none.
func busyIn(root fs.FS) (busy, bool) {
	system, err1 := fs.ReadFile(root, "proc/stat")
	self, err2 := fs.ReadFile(root, "proc/self/stat")
	if err1 != nil || err2 != nil {
		return busy{}, false
	}
	line, _, _ := strings.Cut(string(system), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	// The name of the program, in parentheses, may hold spaces; what follows it
	// starts with the third field, and user and system time are the 14th and 15th.
	mine := strings.Fields(string(self[bytes.LastIndexByte(self, ')')+1:]))
	if len(fields) < 9 || fields[0] != "cpu" || len(mine) < 13 {
		return busy{}, false
	}
	var b busy
	ok := true
	number := func(s string) float64 {
		x, err := strconv.ParseFloat(s, 64)
		ok = ok && err == nil
		return x
	}
	for i, f := range fields[1:9] {
		x := number(f)
		b.total += x
		if i != 3 && i != 4 { // idle, waiting for a disk
			b.all += x
		}
	}
	b.ours = number(mine[11]) + number(mine[12])
	return b, ok
}

// elsewhere is the share of all processor time since the start b that went
// neither to this process nor to idling.
func (b busy) elsewhere(now busy) float64 {
	if now.total <= b.total {
		return 0
	}
	return max(0, (now.all-b.all)-(now.ours-b.ours)) / (now.total - b.total)
}
