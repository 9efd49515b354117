package lab

import (
	"context"
	"fmt"
	"slices"
)

// Comparison is a measurement without (A) and with (B) something, round by round.
type Comparison struct {
	A, B   []float64
	Ratio  float64 // median of B/A over the rounds
	Low    float64 // lowest and
	High   float64 // highest of them
	MedA   float64
	MedB   float64
	Rounds int
}

// String returns the ratio with its spread and the medians.
func (c Comparison) String() string {
	return fmt.Sprintf("ratio %.3f (%.3f to %.3f, %d rounds), median %.4g without, %.4g with",
		c.Ratio, c.Low, c.High, c.Rounds, c.MedA, c.MedB)
}

// Compare measures in turns without and with something attached: A, B, A, B, ... so that a slow
// change of the machine meets both. The first two measurements only warm up. set switches what
// is compared; it is off when Compare returns.
func Compare(ctx context.Context, rounds int, set func(on bool) error, measure func(context.Context) (float64, error)) (c Comparison, err error) {
	defer func() {
		if off := set(false); err == nil && off != nil {
			err = fmt.Errorf("lab: compare: switch off: %w", off)
		}
	}()
	var results [2][]float64
	for i := range 2 * (max(rounds, 1) + 1) {
		on := i%2 == 1
		if err := set(on); err != nil {
			return c, fmt.Errorf("lab: compare: switch to %v: %w", on, err)
		}
		v, err := measure(ctx)
		if err != nil {
			return c, fmt.Errorf("lab: compare: round %d, attached %v: %w", i/2, on, err)
		}
		if i >= 2 {
			results[i%2] = append(results[i%2], v)
		}
	}
	return compared(results[0], results[1]), nil
}

// compared works the ratios out; a and b have the same length, at least 1.
func compared(a, b []float64) Comparison {
	ratios := make([]float64, len(a))
	for i := range a {
		if a[i] != 0 {
			ratios[i] = b[i] / a[i]
		}
	}
	return Comparison{
		A: a, B: b, Rounds: len(a), Ratio: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios),
		MedA: median(a), MedB: median(b),
	}
}

// median returns the middle of v, the mean of the two middle ones when there is none.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
