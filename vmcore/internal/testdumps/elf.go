package testdumps

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/coretext"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/plan"
)

// ELFCores are all cores that a note can be added to: those made of text,
// and the real ones but for those with more memory in them than is looked at.
func ELFCores(t testing.TB) []string {
	var names []string
	for _, n := range testcores.Names(t, "*") {
		if !strings.HasPrefix(n, "bad-") && !strings.HasSuffix(n, ".blob") &&
			!strings.HasSuffix(n, ".mdf") && !strings.HasSuffix(n, ".dmesg") && n != "vmcsinfo" {
			names = append(names, n)
		}
	}
	return names
}

// ELFSeeds adds all cores that are small enough to be mutated usefully.
func ELFSeeds(f *testing.F) {
	for _, name := range testcores.Names(f, "*") {
		if im := testcores.Image(f, name); im.Size() < 40<<10 {
			f.Add(testcores.Bytes(f, name))
		}
	}
}

// Note returns the note to add: the kernel's own for a real core.
func Note(t testing.TB, core string) elfnote.Note {
	if strings.Contains(core, ".") && !strings.HasPrefix(core, "deb-t8") {
		n, err := elfnote.FromBlob(testcores.Blob(t, core), elfnote.VMCSInfo, 0, binary.LittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=d\nFIELD(GUEST_ES_SELECTOR)=0500\nFIELD(GUEST_CS_SELECTOR)=0502\n" +
		strings.Repeat("FIELD(GUEST_RIP)=0718071607140712\n", 20))}
}

// A Sum is what must survive a change: all notes but VMCSINFO, and each PT_LOAD
// with its memory. Those that follow one another in memory count as one.
type Sum struct {
	Notes []byte
	Loads []Load
}

// A Load sums a PT_LOAD up.
type Load struct {
	Vaddr, Paddr, Filesz, Memsz uint64
	Held                        int64 // bytes that the file holds
	CRC                         uint32
}

// Summarize sums a core up, without the notes called skip.
func Summarize(t testing.TB, c *elfcore.ELF, skip string) Sum {
	t.Helper()
	var s Sum
	buf := make([]byte, 8<<10) // many dumps are small, and many are summarized
	crc := uint32(0)
	for i, e := range c.Notes().Notes {
		if e.Name == skip {
			continue
		}
		n, err := c.Notes().Note(i, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		s.Notes = append(s.Notes, n.Encode(c.Order)...)
	}
	for _, p := range byAddress(c) {
		l := Load{p.Vaddr, p.Paddr, p.Filesz, p.Memsz, int64(plan.Extent{Off: p.Off, Size: p.Filesz}.Clip(c.Size)), 0}
		last := len(s.Loads) - 1
		whole := last >= 0 && s.Loads[last].Held == int64(s.Loads[last].Memsz)
		if !whole || !follows(s.Loads[last], l) {
			crc = 0
		}
		if len(c.Progs) < 1000 { // tens of thousands of mappings of the same pages are looked at in golden files
			var err error
			if crc, err = checksum(crc, c.R, int64(p.Off), l.Held, buf); err != nil {
				t.Fatal(err)
			}
		}
		l.CRC = crc
		if whole && follows(s.Loads[last], l) {
			was := s.Loads[last]
			s.Loads[last] = Load{was.Vaddr, was.Paddr, was.Filesz + l.Filesz, was.Memsz + l.Memsz, was.Held + l.Held, l.CRC}
			continue
		}
		s.Loads = append(s.Loads, l)
	}
	return s
}

// byAddress returns the PT_LOADs and what else crash takes for memory, so that
// the parts of a segment that was split follow one another.
func byAddress(c *elfcore.ELF) []elf.ProgHeader {
	progs := slices.Delete(slices.Clone(c.Progs), c.Note, c.Note+1)
	if !slices.ContainsFunc(progs, func(p elf.ProgHeader) bool { return p.Vaddr != 0 }) {
		for i := range progs { // older QEMU says nothing of them
			progs[i].Vaddr = progs[i].Paddr
		}
	}
	slices.SortStableFunc(progs, func(a, b elf.ProgHeader) int {
		return cmp.Or(cmp.Compare(a.Vaddr-a.Paddr, b.Vaddr-b.Paddr), cmp.Compare(a.Paddr, b.Paddr))
	})
	return progs
}

// follows reports whether b is the memory directly after a.
func follows(a, b Load) bool {
	return a.Memsz > 0 && a.Paddr+a.Memsz == b.Paddr && a.Vaddr+a.Memsz == b.Vaddr
}

// Diff returns an error that says how two differ.
func (s Sum) Diff(o Sum) error {
	if !bytes.Equal(s.Notes, o.Notes) {
		return errors.New("notes differ")
	}
	if len(s.Loads) != len(o.Loads) {
		return errors.Errorf("%d PT_LOADs, want %d", len(s.Loads), len(o.Loads))
	}
	for i := range s.Loads {
		if s.Loads[i] != o.Loads[i] {
			return errors.Errorf("segment %d is %+v, want %+v", i, s.Loads[i], o.Loads[i])
		}
	}
	return nil
}

// OpenELF opens a golden core.
func OpenELF(t testing.TB, name string) *elfcore.ELF {
	t.Helper()
	im := testcores.Image(t, name)
	c, err := elfcore.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// OpenText opens the core that text describes.
func OpenText(t testing.TB, text string) *elfcore.ELF {
	t.Helper()
	b, err := coretext.Build([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TrySummarize is [Summarize] of a core that may be damaged.
func TrySummarize(c *elfcore.ELF) (s Sum, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return Summarize(panicker{}, c, ""), nil
}

// panicker lets Summarize be used where a failure is no failure of the test.
type panicker struct{ testing.TB }

func (panicker) Helper() {}

func (panicker) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
