package run

import "math"

// mostPoints is how many points a curve has at most, an even number.
const mostPoints = 1000

// curve is a run's lines of metrics as a reader can see them: means of each lines that
// follow one another, mostPoints of them at most however many lines there are. A mean
// is there when its last line is.
type curve struct {
	each   int // a power of two, or 0 for 1
	full   []mean
	values []Values // of full; what is in it does not change
	open   mean     // of fewer lines
}

// mean is of some lines: of each name the sum, and how many it is of.
type mean struct {
	lines int
	step  float64 // of the last
	sum   Values
	of    map[string]float64
}

// add takes in a line. Numbers that are not known are left out.
func (m *mean) add(v Values) {
	if m.lines == 0 {
		m.sum, m.of = make(Values, len(v)), make(map[string]float64, len(v))
	}
	m.lines, m.step = m.lines+1, v["step"]
	for name, x := range v {
		if !math.IsNaN(x) {
			m.sum[name] += x
			m.of[name]++
		}
	}
}

// join is the mean of m's lines and n's, which follow them.
func (m mean) join(n mean) mean {
	for name := range n.sum {
		m.sum[name] += n.sum[name]
		m.of[name] += n.of[name]
	}
	m.lines, m.step = m.lines+n.lines, n.step
	return m
}

// value is the mean, at its last line's step.
func (m mean) value() Values {
	v := make(Values, len(m.sum))
	for name, x := range m.sum {
		v[name] = x / m.of[name]
	}
	v["step"] = m.step
	return v
}

// add takes the next line.
func (c *curve) add(v Values) {
	if c.open.add(v); c.open.lines >= c.each {
		c.close()
	}
}

// close ends the last mean with the lines that it has. Where there is no room for it, two
// before become one.
func (c *curve) close() {
	if c.open.lines == 0 {
		return
	}
	if list := c.full; len(list) == mostPoints {
		c.full, c.values, c.each = nil, nil, 2*max(c.each, 1)
		for i := 0; i < len(list); i += 2 {
			c.put(list[i].join(list[i+1]))
		}
	}
	c.put(c.open)
	c.open = mean{}
}

func (c *curve) put(m mean) { c.full, c.values = append(c.full, m), append(c.values, m.value()) }
