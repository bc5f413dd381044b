package server

import "time"

// What a reader may ask: so many questions at once, then so many a second. An
// arrow key held on the training slider stays within it.
const (
	askBurst = 30
	askRate  = 5
)

// bucket is a token bucket: burst at once, then so many a second.
type bucket struct {
	burst, perSecond float64
	have             float64
	at               time.Time
}

func newBucket(burst, perSecond float64) bucket {
	return bucket{burst: burst, perSecond: perSecond, have: burst}
}

// take takes one, or says in how many seconds there is one.
func (b *bucket) take(now time.Time) (retry float64, ok bool) {
	if !b.at.IsZero() {
		b.have = min(b.burst, b.have+now.Sub(b.at).Seconds()*b.perSecond)
	}
	b.at = now
	if b.have < 1 {
		return (1 - b.have) / b.perSecond, false
	}
	b.have--
	return 0, true
}
