package linux

import (
	"fmt"
	"hash/fnv"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

// meteredKernel returns a kernel of Find with a module, BTF and a log.
func meteredKernel(t *testing.T) (*Kernel, *fakelinux.Kernel) {
	t.Helper()
	f := fakelinux.New()
	cr3 := f.MapImage(4)
	f.Types.Tasks()
	f.Types.Log()
	f.LogRing(ring, words(6)...)
	module := f.Alloc(96, 72, f.Alloc(24))
	head := f.Image("modules", make([]byte, 16))
	f.Put(head, fakelinux.LE64(module))
	f.Put(module, fakelinux.LE64(head))
	manySymbols(f, 300)
	f.Finish()
	k, err := Find(f, []Root{{cr3, 4}})
	if err != nil {
		t.Fatal(err)
	}
	return k, f
}

// TestSpent: whatever is asked of a kernel that has cost all that it may fails,
// and so ends.
func TestSpent(t *testing.T) {
	for _, test := range []struct {
		name string
		ask  func(k *Kernel) error
	}{
		{"memory", func(k *Kernel) error { _, err := k.Pointer(fakeDirect + 0x10000000); return err }},
		{"symbols", func(k *Kernel) error { k.symbols.done = false; _, err := k.Symbols(); return err }},
		{"types", func(k *Kernel) error { _, err := k.Struct("task_struct"); return err }},
		{"types that were read", func(k *Kernel) error {
			left := k.meter.left
			k.meter.left = maxCost
			_, err := k.Struct("task_struct")
			if k.meter.left = left; err != nil {
				return err
			}
			_, err = k.Struct("module")
			return err
		}},
		{"modules", func(k *Kernel) error { _, err := k.Modules(); return err }},
		{"the log", func(k *Kernel) error {
			for _, err := range k.Log() {
				if err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k, _ := meteredKernel(t)
			if err := test.ask(k); err != nil {
				t.Fatal("before:", err)
			}
			k, _ = meteredKernel(t)
			k.meter.left = 90
			if err := test.ask(k); err == nil || !errors.Is(err, errSpent) && test.name != "symbols" && test.name != "the log" {
				t.Errorf("error is %v", err)
			}
			if k.meter.left != -1 {
				t.Errorf("%d are left", k.meter.left)
			}
		})
	}
}

// TestBacktraceCosts: stacks full of addresses cost no more than all of a look
// may, however many there are.
func TestBacktraceCosts(t *testing.T) {
	k, f := meteredKernel(t)
	stack := f.Alloc(maxScan)
	for off := uint64(0); off < maxScan; off += 8 {
		f.Put(stack+off, fakelinux.LE64(0xffffffffc0000000+off))
	}
	k.meter.left = maxCost / 100
	n := 0
	for ; k.meter.left > 0 && n < 1000; n++ {
		k.Backtrace(Registers{RIP: fakeImage + 0x10, RSP: stack})
	}
	if n == 1000 || n < 2 {
		t.Errorf("%d stacks", n)
	}
	if frames := k.Backtrace(Registers{RIP: fakeImage + 0x10, RSP: stack}); len(frames) != 1 {
		t.Errorf("%d frames after that", len(frames))
	}
}

// TestForgedNames: names that have the hash of another do not cost more than a
// few.
func TestForgedNames(t *testing.T) {
	h := fnv.New32a()
	h.Write([]byte("modules"))
	const num = 1 << 16
	s := &kallsyms{names: []byte{1, 'T'}, known: map[string]int{}, start: make([]uint32, num), hash: make([]uint32, num)}
	for i := range s.hash {
		s.hash[i] = h.Sum32()
	}
	for i := range s.token {
		s.token[i] = []byte(fmt.Sprint("T name ", i))
	}
	allocs := testing.AllocsPerRun(1, func() {
		clear(s.known)
		if _, ok := s.find("modules"); ok {
			t.Error("it is found")
		}
	})
	if allocs > 4*maxNotThis {
		t.Errorf("%v allocations", allocs)
	}
}

// TestRoom: what would be kept of a kernel is bounded before it is allocated.
func TestRoom(t *testing.T) {
	f := fakelinux.New()
	m := &meter{maxCost, maxRoom}
	k := openFake(t, metered{f, m}, f.Info())
	k.meter = m
	m.room = 1 << 20
	at := f.Alloc(4 << 20)
	if _, err := k.readGrowing(at, 4<<20); !errors.Is(err, errSpent) {
		t.Errorf("4 MiB in a room of 1: %v", err)
	}
	if err := new(kallsyms).readNames(k, fakeImage, maxSymbols); !errors.Is(err, errSpent) {
		t.Errorf("a million symbols: %v", err)
	}
}
