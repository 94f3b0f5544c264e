package infer

import (
	"testing"

	"vmcsnote/internal/x86"
)

// A sample of large pages that all are the same costs no more than a look at
// each.
func TestSampleNoise(t *testing.T) {
	var s sample
	for i := range uint64(1 << 18) {
		s.add(x86.Mapping{Addr: i << 30, Size: 1 << 30})
	}
	if s.offers > 1<<27 {
		t.Errorf("%d pages looked at", s.offers)
	}
}
