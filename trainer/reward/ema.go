package reward

// EMA is an exponential moving average without a start-up bias: after n updates
// it is the mean of all n values weighted Decay^age, so the first step already
// has a σ floor and does not dominate the next hundred. Its fields are its
// whole state.
type EMA struct {
	Decay  float64 `json:"decay"`
	Sum    float64 `json:"sum"`    // Σ (1−Decay)·Decay^age·x
	Weight float64 `json:"weight"` // Σ (1−Decay)·Decay^age
}

// Update takes in x.
func (e *EMA) Update(x float64) {
	e.Sum = e.Decay*e.Sum + (1-e.Decay)*x
	e.Weight = e.Decay*e.Weight + (1 - e.Decay)
}

// Value is the average, 0 before the first Update.
func (e EMA) Value() float64 {
	if e.Weight == 0 {
		return 0
	}
	return e.Sum / e.Weight
}
