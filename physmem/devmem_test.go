package physmem

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// fakeMem is a /dev/mem of a machine with len(ram) bytes of memory, in which read and mmap go as on the kernel at hand.
type fakeMem struct {
	ram     []byte
	high    int64 // high_memory: reads that reach beyond it give readErr, after what is below
	readErr error
	mapErr  error
	maps    []int // the size of each mapping asked for
	mapped  int   // mappings not yet given back
}

func (f *fakeMem) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= f.high {
		return copy(p, f.ram[off:]), nil
	}
	return copy(p, f.ram[min(off, f.high):f.high]), f.readErr
}

func (f *fakeMem) Mmap(off int64, size int) ([]byte, error) {
	f.maps = append(f.maps, size)
	switch {
	case off%int64(os.Getpagesize()) != 0:
		return nil, unix.EINVAL
	case f.mapErr != nil:
		return nil, f.mapErr
	}
	f.mapped++
	return f.ram[off:][:size:size], nil
}

func (f *fakeMem) Munmap([]byte) error { f.mapped--; return nil }
func (f *fakeMem) Close() error        { return nil }

// pattern is n bytes in which no two places look alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestDevMemReadPhys(t *testing.T) {
	ram := pattern(4 << 20)
	for _, tt := range []struct {
		name string
		mem  fakeMem
		addr uint64
		size int
		n    int
		err  error
		maps []int
	}{
		{"below high memory", fakeMem{high: 4 << 20}, 0x1234, 0x2000, 0x2000, nil, nil},
		{"nothing asked for", fakeMem{high: 4 << 20}, 0x1234, 0, 0, nil, nil},
		{"above high memory", fakeMem{high: 0, readErr: unix.EFAULT}, 0x10000, 0x2000, 0x2000, nil, []int{0x2000}},
		{"above high memory, wrapped by os", fakeMem{high: 0, readErr: &os.PathError{Op: "read", Err: unix.EFAULT}},
			0x10000, 0x2000, 0x2000, nil, []int{0x2000}},
		{"not on a page", fakeMem{high: 0, readErr: unix.EFAULT}, 0x10010, 0x100, 0x100, nil, []int{0x110}},
		{"across high memory, error after a part", fakeMem{high: 0x20000, readErr: unix.EFAULT}, 0x1ff00, 0x200, 0x200, nil, []int{0x100}},
		{"short read", fakeMem{high: 0x20000, readErr: io.EOF}, 0x1ff00, 0x200, 0x200, nil, []int{0x100}},
		{"mapped 1 MiB at a time", fakeMem{high: 0, readErr: unix.EFAULT}, 0x10010, 2 << 20, 2 << 20, nil,
			[]int{1 << 20, 1 << 20, 0x10}},
		{"CONFIG_STRICT_DEVMEM", fakeMem{high: 0, readErr: unix.EPERM}, 0x10000, 0x2000, 0, unix.EPERM, nil},
		{"hardware error is not cured by mmap", fakeMem{high: 0x11000, readErr: unix.EIO}, 0x10000, 0x2000, 0x1000, unix.EIO, nil},
		{"RAM buffer: neither read nor mmap", fakeMem{high: 0, readErr: unix.EFAULT, mapErr: unix.EPERM},
			0x10000, 0x2000, 0, unix.EPERM, []int{0x2000}},
		{"wider than the CPU's addresses", fakeMem{high: 0x11000, readErr: unix.EFAULT, mapErr: unix.EINVAL},
			0x10000, 0x2000, 0x1000, unix.EINVAL, []int{0x1000}},
		{"beyond 2^63", fakeMem{}, 1<<63 - 0x1000, 0x2000, 0, unix.EFAULT, nil},
		{"wraps", fakeMem{}, 1<<64 - 1, 2, 0, unix.EFAULT, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.mem.ram = ram
			if page := os.Getpagesize(); page != 4096 && tt.maps != nil {
				t.Skip("sizes of mappings are for 4 KiB pages, not ", page)
			}
			p := make([]byte, tt.size)
			n, err := (&DevMem{path: "/dev/mem", f: &tt.mem}).ReadPhys(p, tt.addr)
			checkError(t, err, tt.err, tt.addr+uint64(tt.n))
			if n != tt.n || !bytes.Equal(p[:n], ram[min(tt.addr, 1<<20):][:n]) {
				t.Errorf("read %d bytes, want %d, or they are not those of the memory", n, tt.n)
			}
			if !slices.Equal(tt.mem.maps, tt.maps) || tt.mem.mapped != 0 {
				t.Errorf("mapped %#x, want %#x; %d not given back", tt.mem.maps, tt.maps, tt.mem.mapped)
			}
		})
	}
}

// A real mapping whose pages are gone raises a real SIGBUS.
func TestDevMemSIGBUS(t *testing.T) {
	page := os.Getpagesize()
	root := writeRoot(t, "dev/mem", pattern(3*page))
	mem, err := OpenDevMem(root)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	p := make([]byte, page)
	if n, err := mem.ReadPhys(p, uint64(page)+16); n != page || err != nil || !bytes.Equal(p, pattern(3 * page)[page+16:][:page]) {
		t.Errorf("got %d, %v, or bytes that are not those of the memory", n, err)
	}
	n, err := mem.ReadPhys(p, uint64(8*page))
	checkError(t, err, unix.EFAULT, uint64(8*page))
	if n != 0 {
		t.Errorf("read %d bytes behind the end", n)
	}
	if e := new(Error); errors.As(err, &e) && e.Op != OpMmap {
		t.Errorf("got %v, want an error of mmap", err)
	}
}

// writeRoot makes a root that holds one file.
func writeRoot(t *testing.T, name string, data []byte) string {
	t.Helper()
	root := t.TempDir()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}
