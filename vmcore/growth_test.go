package vmcore

import (
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcsnote/internal/atomicfile"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// TestWriterGrowth: memory finds its place among four times as many pieces of
// memory in little more than the same time, so that all of them take some four
// times as long, not sixteen times.
func TestWriterGrowth(t *testing.T) {
	took := func(n int) time.Duration {
		w := &Writer{out: &atomicfile.File{File: os.Stdout}}
		for i := range n {
			w.segs = append(w.segs, physmem.Range{Addr: uint64(i) * 2 * plan.PageSize, Size: plan.PageSize})
			w.offs = append(w.offs, int64(i)*plan.PageSize)
		}
		least := time.Duration(math.MaxInt64)
		for range 5 {
			start := cpuTime(t)
			for _, s := range w.segs {
				if err := w.put(s.Addr, nil); err != nil {
					t.Fatal(err)
				}
			}
			least = min(least, cpuTime(t)-start)
		}
		return max(least, 5*time.Millisecond) // the clock may be coarse
	}
	if few, many := took(8192), took(4*8192); many > 9*few {
		t.Errorf("%v for 8,192 pieces, %v for 32,768", few, many)
	}
}

// cpuTime returns how long this thread and all others of the process have run.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
