package vmcore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/coretext"
	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/plan"
)

func openImage(t testing.TB, name string) *elfcore.ELF {
	t.Helper()
	im := testcores.Image(t, name)
	c, err := elfcore.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

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
			if n, err := openImage(t, name).ReadPhys(got, addr); err != nil || n != len(got) {
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
		{"beyond its end", "kernel-full", 0x1000 + 0x1c00 - 16, 32, 16, ErrNoMemory},
		{"nowhere", "kernel-full", 0x9000000, 8, 0, ErrNoMemory},
		{"the top of the address space", "kernel-full", ^uint64(0) - 3, 8, 0, ErrNoMemory},
		{"in an overlapped PT_LOAD whose other half is elsewhere", "overlap-filtered", 0x1002000, 16, 16, nil},
		{"cut off", "truncated-memory", 0, 0, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := make([]byte, tc.size)
			n, err := openImage(t, tc.core).ReadPhys(p, tc.addr)
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
	for _, name := range goldenCores(t) {
		if slices.Contains([]string{"deb-", "clou"}, name[:4]) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := openImage(t, name)
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
					case off < p.Filesz && !errors.Is(err, ErrTruncated), off >= p.Filesz && !errors.Is(err, ErrExcluded) && !errors.Is(err, ErrTruncated):
						t.Fatalf("phdr[%d] + %#x: %v", i, off, err)
					}
				}
			}
		})
	}
}

func TestPhysRuns(t *testing.T) {
	rs := slices.Collect(openImage(t, "deb-d1.qemu-elf-p.thin").Ranges())
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

// vmcsInfo is a search for VMCSINFO.
func vmcsInfo(intact func(elfnote.Note) bool) NoteSearch {
	return NoteSearch{Name: elfnote.VMCSInfo, Order: binary.LittleEndian, Intact: intact}
}

func TestSearchNote(t *testing.T) {
	all := func(elfnote.Note) bool { return true }
	for _, tc := range []struct {
		core string
		addr uint64
	}{{"deb-t1.thin", 0x1ef68000}, {"deb-t1.elf31", 0x1ef68000}, {"deb-d1.qemu-elf-p.thin", 0x2a46000}, {"deb-t1.head", 0}} {
		t.Run(tc.core, func(t *testing.T) {
			hits, _, err := searchNote(t.Context(), openImage(t, tc.core), vmcsInfo(all))
			if err != nil {
				t.Fatal(err)
			}
			if tc.addr == 0 {
				if len(hits) > 0 {
					t.Errorf("found %+v", hits)
				}
				return
			}
			if len(hits) != 1 || hits[0].Addr != tc.addr || !hits[0].Note.Equal(testNote(t, tc.core)) {
				t.Errorf("found %d, the first at %#x", len(hits), hits[0].Addr)
			}
		})
	}
}

// mem is memory for the search: pages by address.
type mem map[uint64][]byte

func (m mem) Ranges() iter.Seq[physmem.Range] {
	var rs []physmem.Range
	for a, b := range m {
		rs = append(rs, physmem.Range{Addr: a, Size: uint64(len(b))})
	}
	slices.SortFunc(rs, func(a, b physmem.Range) int { return int(int64(a.Addr) - int64(b.Addr)) })
	return slices.Values(rs)
}

func (m mem) ReadPhys(p []byte, addr uint64) (int, error) {
	for a, b := range m {
		if addr >= a && addr+uint64(len(p)) <= a+uint64(len(b)) {
			return copy(p, b[addr-a:]), nil
		}
	}
	return 0, ErrNoMemory
}

func TestSearchNoteDecoys(t *testing.T) {
	note := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_RIP)=08\n")}
	enc := note.Encode(binary.LittleEndian)
	at := func(size, off int, b []byte) []byte {
		p := make([]byte, size)
		copy(p[off:], b)
		return p
	}
	long := bytes.Clone(enc)
	binary.LittleEndian.PutUint32(long[4:], 1<<20+1)
	outer := bytes.Clone(enc[:24])
	binary.LittleEndian.PutUint32(outer[4:], 100)
	typed := bytes.Clone(enc)
	typed[8] = 1
	other := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=e\nFIELD(GUEST_RIP)=08\n")}.Encode(binary.LittleEndian)
	for _, tc := range []struct {
		name string
		m    mem
		want []uint64
	}{
		{"at a page's start", mem{0x1000: at(4096, 0, enc)}, []uint64{0x1000}},
		{"inside a page", mem{0x1000: at(4096, 0x234, enc)}, []uint64{0x1234}},
		{"header across two chunks", mem{0: at(3<<20, 1<<20-16, enc)}, []uint64{1<<20 - 16}},
		{"note across two chunks", mem{0: at(3<<20, 1<<20-40, enc)}, []uint64{1<<20 - 40}},
		{"twice the same", mem{0x1000: at(4096, 0, enc), 0x9000: at(4096, 8, enc)}, []uint64{0x1000}},
		{"a page's start preferred", mem{0x1000: at(4096, 8, enc), 0x9000: at(4096, 0, enc)}, []uint64{0x9000}},
		{"a header inside of a note", mem{0x1000: at(4096, 0, slices.Concat(outer, []byte("REVISION_ID=d\nxx"), enc))}, []uint64{0x1028}},
		{"two that differ", mem{0x1000: at(4096, 0, enc), 0x9000: at(4096, 8, other)}, []uint64{0x1000, 0x9008}},
		{"not aligned", mem{0x1000: at(4096, 2, enc)}, nil},
		{"n_descsz absurd", mem{0x1000: at(4096, 0, long)}, nil},
		{"n_type not 0", mem{0x1000: at(4096, 0, typed)}, nil},
		{"cut off by the end of memory", mem{0x1000: enc[:len(enc)-8]}, nil},
		{"name alone", mem{0x1000: at(4096, 64, []byte("VMCSINFO\x00\x00\x00\x00"))}, nil},
		{"full of headers that lead to no note", mem{0: bytes.Repeat(enc[:24], 1000)}, nil},
		{"not intact", mem{0x1000: at(4096, 0, elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("junk")}.Encode(binary.LittleEndian))}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hits, _, err := searchNote(context.Background(), tc.m, vmcsInfo(func(n elfnote.Note) bool { return bytes.HasPrefix(n.Desc, []byte("REVISION_ID=")) }))
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, h := range hits {
				got = append(got, h.Addr)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("found at %#x, want %#x", got, tc.want)
			}
		})
	}
}

// badPage is memory with a page that cannot be read.
type badPage struct {
	mem
	at uint64
}

var errBadPage = errors.New("bad page")

func (m badPage) ReadPhys(p []byte, addr uint64) (int, error) {
	if addr+uint64(len(p)) <= m.at || addr >= m.at+4096 {
		return m.mem.ReadPhys(p, addr)
	}
	if addr >= m.at {
		return 0, errBadPage
	}
	n, err := m.mem.ReadPhys(p[:m.at-addr], addr)
	return n, cmp.Or(err, errBadPage)
}

// searchNote looks for notes in all of m.
func searchNote(ctx context.Context, m physmem.Memory, n NoteSearch) (hits []Hit, more int, err error) {
	f := NewNoteFinder(m, n)
	err = physmem.Scan(ctx, m, physmem.ScanOptions{}, f.Look)
	hits, more = f.Hits()
	return hits, more, err
}

// TestSearchNoteBadPage: a page that cannot be read hides what it holds, and
// nothing before or after it.
func TestSearchNoteBadPage(t *testing.T) {
	enc := func(id byte) []byte {
		return elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=" + string(id) + "\nFIELD(GUEST_RIP)=08\n")}.Encode(binary.LittleEndian)
	}
	b := make([]byte, 2<<20)
	for i, at := range []int{0x1010, 0x2000 - 32, 0x2020, 0x3000, 1 << 20} {
		copy(b[at:], enc('a'+byte(i)))
	}
	var lost []uint64
	s := vmcsInfo(func(elfnote.Note) bool { return true })
	opt := physmem.ScanOptions{Lost: func(addr uint64, err error) {
		if lost = append(lost, addr); !errors.Is(err, errBadPage) {
			t.Error(err)
		}
	}}
	m := badPage{mem{0: b}, 0x2000}
	f := NewNoteFinder(m, s)
	err := physmem.Scan(t.Context(), m, opt, f.Look)
	hits, _ := f.Hits()
	var got []uint64
	for _, h := range hits {
		got = append(got, h.Addr)
	}
	if want := []uint64{0x3000, 1 << 20, 0x1010}; err != nil || !slices.Equal(got, want) || !slices.Equal(lost, []uint64{0x2000}) {
		t.Errorf("found at %#x, want %#x; lost %#x, %v", got, want, lost, err)
	}
}

// Memory full of headers, or of notes that differ, hides no note: one that is at
// the start of a page is found, and one of trusted memory is kept.
func TestSearchNoteFull(t *testing.T) {
	var decoys []byte
	for i := range 3 * maxHits {
		n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: fmt.Appendf(nil, "REVISION_ID=%x\nFIELD(GUEST_RIP)=08\n", i+1)}
		decoys = append(decoys, n.Encode(binary.LittleEndian)...)
	}
	head := bytes.Clone(decoys[:24])
	binary.LittleEndian.PutUint32(head[4:], elfnote.MaxBlob)
	heads := bytes.Repeat(head, (maxLooks+1000)*24/len(head))
	genuine := make([]byte, 4096)
	copy(genuine, elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=abc\nFIELD(GUEST_RIP)=08\n")}.Encode(binary.LittleEndian))
	m := &countedMem{mem: mem{1 << 12: decoys, 1 << 20: heads, 1 << 30: genuine}}
	s := vmcsInfo(func(n elfnote.Note) bool { return bytes.HasPrefix(n.Desc, []byte("REVISION_ID=")) })
	s.Trust = func(addr uint64) int { return int(addr >> 30) }
	hits, more, err := searchNote(t.Context(), m, s)
	if err != nil || len(hits) != maxHits || hits[0].Addr != 1<<30 || hits[0].Trust != 1 || more < maxHits {
		t.Errorf("%d hits, %d more, %v", len(hits), more, err)
	}
	if size := int64(len(decoys) + len(heads)); m.read.Load() > 20*size {
		t.Errorf("%d bytes read of %d", m.read.Load(), size)
	}
}

// countedMem counts the bytes read.
type countedMem struct {
	mem
	read atomic.Int64
}

func (m *countedMem) ReadPhys(p []byte, addr uint64) (int, error) {
	m.read.Add(int64(len(p)))
	return m.mem.ReadPhys(p, addr)
}
