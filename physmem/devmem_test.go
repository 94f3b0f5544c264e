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

// fakeMem is a /dev/mem of a machine with len(ram) bytes of memory, in which
// read and mmap go as on the kernel at hand.
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
		{name: "below high memory", mem: fakeMem{high: 4 << 20}, addr: 0x1234, size: 0x2000, n: 0x2000},
		{name: "nothing asked for", mem: fakeMem{high: 4 << 20}, addr: 0x1234},
		{name: "above high memory", mem: fakeMem{high: 0, readErr: unix.EFAULT}, addr: 0x10000, size: 0x2000, n: 0x2000, maps: []int{0x2000}},
		{name: "above high memory, wrapped by os", mem: fakeMem{high: 0, readErr: &os.PathError{Op: "read", Err: unix.EFAULT}}, addr: 0x10000, size: 0x2000, n: 0x2000, maps: []int{0x2000}},
		{name: "not on a page", mem: fakeMem{high: 0, readErr: unix.EFAULT}, addr: 0x10010, size: 0x100, n: 0x100, maps: []int{0x110}},
		{name: "across high memory, error after a part", mem: fakeMem{high: 0x20000, readErr: unix.EFAULT}, addr: 0x1ff00, size: 0x200, n: 0x200, maps: []int{0x100}},
		{name: "short read", mem: fakeMem{high: 0x20000, readErr: io.EOF}, addr: 0x1ff00, size: 0x200, n: 0x200, maps: []int{0x100}},
		{name: "mapped 1 MiB at a time", mem: fakeMem{high: 0, readErr: unix.EFAULT}, addr: 0x10010, size: 2 << 20, n: 2 << 20, maps: []int{1 << 20, 1 << 20, 0x10}},
		{name: "CONFIG_STRICT_DEVMEM", mem: fakeMem{high: 0, readErr: unix.EPERM}, addr: 0x10000, size: 0x2000, err: unix.EPERM},
		{name: "hardware error is not cured by mmap", mem: fakeMem{high: 0x11000, readErr: unix.EIO}, addr: 0x10000, size: 0x2000, n: 0x1000, err: unix.EIO},
		{name: "RAM buffer: neither read nor mmap", mem: fakeMem{high: 0, readErr: unix.EFAULT, mapErr: unix.EPERM}, addr: 0x10000, size: 0x2000, err: unix.EPERM, maps: []int{0x2000}},
		{name: "wider than the CPU's addresses", mem: fakeMem{high: 0x11000, readErr: unix.EFAULT, mapErr: unix.EINVAL}, addr: 0x10000, size: 0x2000, n: 0x1000, err: unix.EINVAL, maps: []int{0x1000}},
		{name: "beyond 2^63", mem: fakeMem{}, addr: 1<<63 - 0x1000, size: 0x2000, err: unix.EFAULT},
		{name: "wraps", mem: fakeMem{}, addr: 1<<64 - 1, size: 2, err: unix.EFAULT},
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
		t.Errorf("read %d bytes after the end", n)
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
