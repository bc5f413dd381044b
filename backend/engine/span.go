package engine

import (
	"slices"

	"nrt/backend/device"
)

// spans hands out runs of cache rows, first fit.
type spans struct {
	free []device.Span // ascending, never adjacent
}

func newSpans(rows int) spans {
	return spans{free: []device.Span{{Len: rows}}}
}

// take returns the start of n free rows in a row, or -1 if there are none.
func (s *spans) take(n int) int {
	if n == 0 {
		return 0
	}
	for i := range s.free {
		f := &s.free[i]
		if f.Len < n {
			continue
		}
		start := f.Start
		f.Start, f.Len = f.Start+n, f.Len-n
		if f.Len == 0 {
			s.free = slices.Delete(s.free, i, i+1)
		}
		return start
	}
	return -1
}

// takeAll reserves a run of each size, or none at all and returns nil.
func (s *spans) takeAll(sizes []int) (list []device.Span) {
	for _, n := range sizes {
		start := s.take(n)
		if start < 0 {
			for _, r := range list {
				s.give(r)
			}
			return nil
		}
		list = append(list, device.Span{Start: start, Len: n})
	}
	return list
}

// give takes a run back and joins it with its neighbours.
func (s *spans) give(r device.Span) {
	if r.Len == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(s.free, r.Start, func(f device.Span, at int) int { return f.Start - at })
	s.free = slices.Insert(s.free, i, r)
	if i+1 < len(s.free) && s.free[i].Start+s.free[i].Len == s.free[i+1].Start {
		s.free[i].Len += s.free[i+1].Len
		s.free = slices.Delete(s.free, i+1, i+2)
	}
	if i > 0 && s.free[i-1].Start+s.free[i-1].Len == s.free[i].Start {
		s.free[i-1].Len += s.free[i].Len
		s.free = slices.Delete(s.free, i, i+1)
	}
}
