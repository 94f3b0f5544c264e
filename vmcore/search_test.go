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
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestSearchNoteKDump reads the blob that the pair points to out of the dump.
func TestSearchNoteKDump(t *testing.T) {
	for _, name := range testdumps.KDumpFiles {
		c := testdumps.OpenKDump(t, testdumps.KDumpFile(t, name))
		var hits []Hit
		hits, _, err := searchNote(t.Context(), c, vmcsInfo(func(n elfnote.Note) bool { return bytes.HasPrefix(n.Desc, []byte("REVISION_ID=")) }))
		if err != nil || len(hits) != 1 || !hits[0].Note.Equal(testdumps.Note(t, name)) {
			t.Errorf("%s: %d notes found, %v", name, len(hits), err)
		}
	}
}

// TestSearchNoteLive: descriptors that lie over page data are no error of the
// search.
func TestSearchNoteLive(t *testing.T) {
	c := testdumps.OpenKDump(t, testdumps.LiveKDump.Build())
	if hits, _, err := searchNote(t.Context(), c, vmcsInfo(func(elfnote.Note) bool { return true })); len(hits) > 0 || err != nil {
		t.Errorf("found %v, %v", hits, err)
	}
}

// TestManyRuns lists the memory of a dump with more runs of pages than the 2^20
// that were once the most: none of the holes between them counts as memory.
func TestManyRuns(t *testing.T) {
	const runs = 1<<20 + 1
	s := testdumps.KDump{MaxMapnr: 2 * runs, Pages: []uint64{}, Edit: func(b []byte, h *kdump.Header) {
		for i := h.BitmapOff(); i < h.DescOff(); i++ {
			b[i] = 0x55
		}
	}}
	// All pages are one of zeros, at the end.
	b := s.Build()
	page := uint64(len(b) + runs*plan.DescSize)
	for range runs {
		b = binary.LittleEndian.AppendUint64(b, page)
		b = binary.LittleEndian.AppendUint32(b, 4096)
		b = append(b, make([]byte, plan.DescSize-12)...) // not compressed
	}
	b = append(b, make([]byte, 4096)...)
	for name, c := range map[string]Core{
		"kdump":     kdumpCore{testdumps.OpenKDump(t, b)},
		"flattened": mustFlat(t, testdumps.Flat(testdumps.At(0, b))),
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for r := range c.Ranges() {
				if r.Size != 4096 || r.Addr/r.Size&1 != 0 {
					t.Fatalf("run %d is %+v", n, r)
				}
				n++
			}
			if n != runs {
				t.Errorf("%d runs", n)
			}
		})
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
			hits, _, err := searchNote(t.Context(), testdumps.OpenELF(t, tc.core), vmcsInfo(all))
			if err != nil {
				t.Fatal(err)
			}
			if tc.addr == 0 {
				if len(hits) > 0 {
					t.Errorf("found %+v", hits)
				}
				return
			}
			if len(hits) != 1 || hits[0].Addr != tc.addr || !hits[0].Note.Equal(testdumps.Note(t, tc.core)) {
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

// Memory full of headers, or of notes that differ, hides no note: one that is
// at the start of a page is found, and one of trusted memory is kept.
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
