package vmcore

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// allocates returns how many bytes do allocates, what it frees meanwhile too.
func allocates(do func()) int64 {
	before := testdumps.Allocated()
	do()
	return int64(testdumps.Allocated() - before)
}

const deviceDump = 16 << 20

// withDeviceDump returns the dump with a note of deviceDump bytes before all
// others, as the kernel puts those of network cards.
func withDeviceDump(t *testing.T, dump []byte) []byte {
	t.Helper()
	c, err := Open(bytes.NewReader(dump), int64(len(dump)))
	if err != nil {
		t.Fatal(err)
	}
	n := elfnote.Note{Name: "LINUX", Type: 0x700, Desc: bytes.Repeat([]byte("device"), deviceDump/6)}
	l, err := c.PlanCopy(elfnote.Splice{Ins: c.Notes().Encode(n)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := &plan.Streamer{Ctx: t.Context(), W: &out, R: bytes.NewReader(dump), Buf: make([]byte, plan.BufSize)}
	if err := s.Run(l); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func flattenedWhole(t *testing.T, dump []byte) []byte {
	t.Helper()
	c, err := Open(bytes.NewReader(dump), int64(len(dump)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.PlanCopy(elfnote.Splice{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := flat.Flatten(t.Context(), &out, bytes.NewReader(dump), l); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLargeNotes: in a file, notes are changed without being kept in memory. A
// stream is kept once, up to the end of its notes, and within a bound.
func TestLargeNotes(t *testing.T) {
	inject := func(c Core) (elfnote.Splice, error) { return c.Notes().Insert(testdumps.VMCSInfo), nil }
	elf := withDeviceDump(t, testcores.Bytes(t, "kernel-full"))
	kdump := withDeviceDump(t, testcores.Bytes(t, "kdump/cloud-c1.kdump-zlib"))
	for name, dump := range map[string][]byte{
		"ELF": elf, "kdump-compressed": kdump,
		"ELF, flattened": flattenedWhole(t, elf), "kdump-compressed, flattened": flattenedWhole(t, kdump),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vmcore")
			if err := os.WriteFile(path, dump, 0o600); err != nil {
				t.Fatal(err)
			}
			const some = 6 << 20 // bytes for all but notes
			for what, do := range map[string]func(f *File) error{
				"copy": func(f *File) error {
					sp, _ := inject(f)
					_, err := f.CopyTo(t.Context(), path+".copy", sp, CopyOptions{})
					return err
				},
				"pipe": func(f *File) error {
					sp, _ := inject(f)
					l, err := f.PlanCopy(sp)
					if err != nil {
						return err
					}
					return f.WriteLayout(t.Context(), io.Discard, l, CopyOptions{})
				},
				"in place, and back": func(f *File) error {
					sp, _ := inject(f)
					p, err := f.Plan(sp, f.Notes().Append(testdumps.VMCSInfo), "")
					if err != nil {
						return err
					}
					if err := p.Do(t.Context(), nil); err != nil {
						return err
					}
					f.Close()
					if f, err = OpenFileRW(path); err != nil {
						return err
					}
					defer f.Close()
					i, _ := f.Notes().Find(elfnote.VMCSInfo, 0)
					sp = f.Notes().Remove(i)
					if p, err = f.Plan(sp, sp, ""); err != nil {
						return err
					}
					return p.Do(t.Context(), nil)
				},
			} {
				n := allocates(func() {
					f, err := OpenFileRW(path)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					if err := do(f); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				})
				if n > some {
					t.Errorf("%s: %d bytes allocated, expected at most %d", what, n, some)
				}
			}
			n := allocates(func() {
				if _, err := Stream(t.Context(), io.Discard, bytes.NewReader(dump), inject); err != nil {
					t.Fatal(err)
				}
			})
			if n > deviceDump+some {
				t.Errorf("stream: %d bytes allocated, expected at most %d", n, deviceDump+some)
			}
			var out bytes.Buffer
			out.Grow(len(dump))
			n = allocates(func() {
				_, err := StreamWithin(t.Context(), &out, bytes.NewReader(dump), inject, 8<<20)
				var whole *Unwritten
				if !errors.As(err, &whole) {
					t.Fatal(err)
				}
				if err := whole.PassOn(t.Context(), &out); err != nil {
					t.Fatal(err)
				}
			})
			if n > 8<<20+some || !bytes.Equal(out.Bytes(), dump) {
				t.Errorf("stream within 8 MiB: %d bytes allocated, passed on as it came: %v", n, bytes.Equal(out.Bytes(), dump))
			}
		})
	}
}
