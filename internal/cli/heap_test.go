package cli

import (
	"runtime"
	"testing"
)

// TestGrowHeap: the heap is so large that the garbage collector has time, and
// no larger if it is grown again.
func TestGrowHeap(t *testing.T) {
	ballast = nil
	size := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := size()
	growHeap()
	once := size()
	growHeap()
	if twice := size(); once-before < ballastSize/2 || twice-before > 3*ballastSize/2 {
		t.Errorf("heap of %d bytes, then %d, then %d, expected %d more, once", before, once, twice, ballastSize)
	}
}
