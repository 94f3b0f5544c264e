package guestlist

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/vmcs"
)

// TestReportOfMany: --json of 8,192 machines is one document, of which little
// is in memory at any moment.
func TestReportOfMany(t *testing.T) {
	const many, most = 8192, 32 << 20
	args := []string{"qemu-system-x86_64", "-append", strings.Repeat("x", 4000)}
	h := &Host{Host: &guest.Host{Found: new(vmcs.Result)}}
	for i := range many {
		v := &guest.VCPU{TID: 1000 + i, Thread: "CPU 0/KVM", State: "halted", HostCPU: i % 64, VMCB: 0x1000, Regs: &guest.Registers{}}
		m := &guest.Machine{Number: i, Name: fmt.Sprint("vm", i), PID: 100 + i, Command: args, FoundBy: guest.FoundByKVM, VCPUs: []*guest.VCPU{v}}
		h.Machines = append(h.Machines, m)
	}
	r, w := io.Pipe()
	watch := &heapWatch{w: w}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		w.CloseWithError(h.WriteJSON(watch, []string{"vmcore"}, nil))
	}()
	names := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), `      "name": "vm`) {
			names++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if names != many {
		t.Errorf("%d machines, expected %d", names, many)
	}
	if watch.bytes < 4000*many {
		t.Errorf("%d bytes, too few to tell", watch.bytes)
	}
	if grew := int64(watch.most) - int64(before.HeapAlloc); grew > most {
		t.Errorf("the heap grew by %d bytes for a document of %d, expected at most %d", grew, watch.bytes, most)
	}
}

// A heapWatch notes how large the heap is as a document is written.
type heapWatch struct {
	w     io.Writer
	bytes int
	seen  int
	most  uint64
}

func (h *heapWatch) Write(p []byte) (int, error) {
	h.bytes += len(p)
	if h.bytes-h.seen > 1<<20 {
		h.seen = h.bytes
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		h.most = max(h.most, now.HeapAlloc)
	}
	return h.w.Write(p)
}
