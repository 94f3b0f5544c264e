package elfcore_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/coretext"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestReadPhysReal reads what the pair points to, out of real cores of every
// writer, and compares it with what the kernel itself had there.
func TestReadPhysReal(t *testing.T) {
	for _, name := range []string{"deb-t1.thin", "deb-t4-smp4.thin", "cloud-c1.thin", "deb-d1.qemu-elf.thin", "deb-d1.qemu-elf-p.thin", "deb-d1.qemu-range"} {
		t.Run(name, func(t *testing.T) {
			var addr, size uint64
			pair := map[string][2]uint64{"deb-t1": {0x1ef68000, 0x2000}, "deb-t4-smp4": {0x1efe6000, 0x2000}, "cloud-c1": {0x56a2000, 0x2000}, "deb-d1": {0x2a46000, 0x2000}}
			for kernel, p := range pair {
				if len(name) > len(kernel) && name[:len(kernel)+1] == kernel+"." {
					addr, size = p[0], p[1]
				}
			}
			got := make([]byte, size)
			if n, err := testdumps.OpenELF(t, name).ReadPhys(got, addr); err != nil || n != len(got) {
				t.Fatalf("%d bytes, %v", n, err)
			}
			if !bytes.Equal(got, testcores.Blob(t, name)) {
				t.Error("not what the kernel had")
			}
		})
	}
}

// TestReadPhys reads cores whose memory says where it belongs.
func TestReadPhys(t *testing.T) {
	for _, tc := range []struct {
		name string
		core string
		addr uint64
		size int
		n    int
		err  error
	}{
		{"within a PT_LOAD", "kernel-slack", 0x100010, 64, 64, nil},
		{"to its end", "kernel-full", 0x1000 + 0x1c00 - 16, 16, 16, nil},
		{"beyond its end", "kernel-full", 0x1000 + 0x1c00 - 16, 32, 16, plan.ErrNoMemory},
		{"nowhere", "kernel-full", 0x9000000, 8, 0, plan.ErrNoMemory},
		{"the top of the address space", "kernel-full", ^uint64(0) - 3, 8, 0, plan.ErrNoMemory},
		{"in an overlapped PT_LOAD whose other half is elsewhere", "overlap-filtered", 0x1002000, 16, 16, nil},
		{"cut off", "truncated-memory", 0, 0, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := make([]byte, tc.size)
			n, err := testdumps.OpenELF(t, tc.core).ReadPhys(p, tc.addr)
			if n != tc.n || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Fatalf("%d bytes, %v; want %d, %v", n, err, tc.n, tc.err)
			}
			want := make([]byte, n)
			coretext.Pattern(want, tc.addr)
			if !bytes.Equal(p[:n], want) {
				t.Errorf("got  %x\nwant %x", p[:n], want)
			}
		})
	}
}

// TestReadPhysEverywhere goes through every core made of text: each byte that a
// PT_LOAD claims is either the right one or an error, and the reason fits.
func TestReadPhysEverywhere(t *testing.T) {
	for _, name := range testdumps.ELFCores(t) {
		if slices.Contains([]string{"deb-", "clou"}, name[:4]) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := testdumps.OpenELF(t, name)
			for i, p := range c.Progs {
				if i == c.Note {
					continue
				}
				for off := uint64(0); off < p.Memsz && off < 1<<16; off += 512 {
					got, want := make([]byte, 8), make([]byte, 8)
					_, err := c.ReadPhys(got, p.Paddr+off)
					held := plan.Extent{Off: p.Off, Size: p.Filesz}.Clip(c.Size)
					switch {
					case off+8 <= held && err != nil:
						t.Fatalf("phdr[%d] + %#x: %v", i, off, err)
					case err == nil:
						coretext.Pattern(want, p.Paddr+off)
						if !bytes.Equal(got, want) && !bytes.Equal(got, make([]byte, 8)) {
							t.Fatalf("phdr[%d] + %#x: got %x, want %x", i, off, got, want)
						}
					case off < p.Filesz && !errors.Is(err, plan.ErrTruncated), off >= p.Filesz && !errors.Is(err, plan.ErrExcluded) && !errors.Is(err, plan.ErrTruncated):
						t.Fatalf("phdr[%d] + %#x: %v", i, off, err)
					}
				}
			}
		})
	}
}

func TestPhysRuns(t *testing.T) {
	rs := slices.Collect(testdumps.OpenELF(t, "deb-d1.qemu-elf-p.thin").Ranges())
	last := uint64(0)
	for _, r := range rs {
		if r.Addr < last || r.Size == 0 {
			t.Fatalf("range %+v after %#x", r, last)
		}
		last = r.Addr + r.Size
	}
	if len(rs) == 0 || len(rs) > 20 {
		t.Errorf("%d ranges of 65,800 mappings", len(rs))
	}
}
