package vmcs

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/pkg/errors"
)

const (
	savedHead  = 0x1000010 // in the kernel's image, not at a page's start
	savedFirst = 0x2000000
)

// A savedRecord is what the kernel saves of a VMCS.
type savedRecord struct {
	vmcs   uint64
	fields []uint64 // encoding, value...
}

// savedList returns memory with a list of records, in pages from savedFirst on.
func savedList(records ...savedRecord) memory {
	le, m := binary.LittleEndian, memory{savedHead &^ (PageSize - 1): make([]byte, PageSize)}
	head := m[savedHead&^(PageSize-1)][savedHead%PageSize:]
	le.PutUint32(head, savedListMagic)
	le.PutUint32(head[4:], savedVersion)
	link := head[8:]
	for i, r := range records {
		at, page := savedFirst+uint64(i)*PageSize, make([]byte, PageSize)
		m[at] = page
		le.PutUint64(link, at)
		link = page[8:]
		le.PutUint32(page, savedMagic)
		le.PutUint64(page[16:], r.vmcs)
		le.PutUint32(page[24:], uint32(len(r.fields)/2))
		for i, x := range r.fields {
			le.PutUint64(page[savedHeaderSize+8*i:], x)
		}
	}
	return m
}

func TestFindSaved(t *testing.T) {
	a := savedRecord{0x5000, []uint64{uint64(GuestRIP), 0xffffffff81000000, uint64(GuestCSSelector), 0x10, uint64(GuestCSARBytes), 0x1a09b, uint64(EPTPointer), 0x123405e}}
	b := savedRecord{0x3000, []uint64{uint64(GuestRIP), 1, uint64(GuestCSSelector), 2, uint64(GuestCSARBytes), 3, uint64(EPTPointer), 4}}
	other := savedRecord{0x7000, []uint64{uint64(GuestRIP), 0x77}}
	ab := "0x3000: GUEST_RIP=0x1 GUEST_CS_SELECTOR=0x2 GUEST_CS_AR_BYTES=0x3 EPT_POINTER=0x4; " +
		"0x5000: GUEST_RIP=0xffffffff81000000 GUEST_CS_SELECTOR=0x10 GUEST_CS_AR_BYTES=0x1a09b EPT_POINTER=0x123405e; "
	le := binary.LittleEndian
	head := func(m memory) []byte { return m[savedHead&^(PageSize-1)][savedHead%PageSize:] }
	record := func(m memory, i int) []byte { return m[savedFirst+uint64(i)*PageSize] }
	for _, tt := range []struct {
		name    string
		records []savedRecord
		damage  func(m memory)
		want    string
		err     string
	}{
		{name: "no VMCS was loaded"},
		{name: "sorted by address", records: []savedRecord{a, b}, want: ab},
		{name: "a VMCS twice", records: []savedRecord{a, b, a}, want: ab},
		{name: "fewer fields are unknown, not 0", records: []savedRecord{other, b}, want: ab[:83] + "0x7000: GUEST_RIP=0x77; "},
		{name: "fields that are none, or twice, or high halves", records: []savedRecord{{0x7000, []uint64{
			0x1000, 1, 0x10000, 2, uint64(GuestRIP), 3, uint64(EPTPointer) | 1, 4, 0x8000, 5, 0x6832, 6}}},
			want: "0x7000: GUEST_RIP=0x3 0x6832=0x6; "},
		{name: "another magic number", records: []savedRecord{a}, damage: func(m memory) { head(m)[0]++ },
			err: "head at 0x1000010: 0x4c435857, version 1, expected 0x4c435856, version 1"},
		{name: "a newer version", records: []savedRecord{a}, damage: func(m memory) { head(m)[4]++ },
			err: "head at 0x1000010: 0x4c435856, version 2, expected 0x4c435856, version 1"},
		{name: "a head that is not in the dump", damage: func(m memory) { clear(m) }, err: "head at 0x1000010: 0x1000010: no such page"},
		{name: "a record that is not in the dump", records: []savedRecord{a, b}, damage: func(m memory) { delete(m, savedFirst+PageSize) },
			want: ab[83:], err: "record at 0x2001000: 0x2001000: no such page"},
		{name: "a record that was overwritten", records: []savedRecord{a, b}, damage: func(m memory) { clear(record(m, 1)) },
			want: ab[83:], err: "record at 0x2001000: begins with 0x0, expected 0x52435856 at a page's start"},
		{name: "a record across pages", records: []savedRecord{a, b}, damage: func(m memory) {
			copy(record(m, 1)[16:], record(m, 1)[:64])
			le.PutUint64(record(m, 0)[8:], savedFirst+PageSize+16)
			m[savedFirst+2*PageSize] = make([]byte, PageSize)
		}, want: ab[83:], err: "record at 0x2001010: begins with 0x52435856, expected 0x52435856 at a page's start"},
		{name: "a circle", records: []savedRecord{a, b}, damage: func(m memory) { le.PutUint64(record(m, 1)[8:], savedFirst) },
			want: ab, err: fmt.Sprintf("record at 0x2000000: it comes twice, or after %d others", MaxVMCSs)},
		{name: "more fields than a page has", records: []savedRecord{a}, damage: func(m memory) { le.PutUint32(record(m, 0)[24:], 255) },
			err: "record at 0x2000000: 255 fields of the VMCS at 0x5000, expected 1 to 254 of a page"},
		{name: "no fields", records: []savedRecord{a}, damage: func(m memory) { le.PutUint32(record(m, 0)[24:], 0) },
			err: "record at 0x2000000: 0 fields of the VMCS at 0x5000, expected 1 to 254 of a page"},
		{name: "a VMCS that is no page", records: []savedRecord{a}, damage: func(m memory) { record(m, 0)[16]++ },
			err: "record at 0x2000000: 4 fields of the VMCS at 0x5001, expected 1 to 254 of a page"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := savedList(tt.records...)
			if tt.damage != nil {
				tt.damage(m)
			}
			res, err := FindSaved(m, savedHead)
			got := ""
			for _, c := range res.VMCSs {
				got += fmt.Sprintf("%#x:", c.Addr)
				for _, e := range c.Layout.Entries {
					x, _ := c.Read(e.Encoding)
					got += fmt.Sprintf(" %s=%#x", e.Name, x)
				}
				got += "; "
				if c.Verdict != Live || c.Layout.Form != FormSaved {
					t.Errorf("%#x: %s, %s", c.Addr, c.Verdict, c.Layout.Form)
				}
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if text := "the kernel's list of saved VMCSs is damaged"; tt.err == "" && err != nil ||
				tt.err != "" && (!errors.Is(err, ErrSaved) || err.Error() != tt.err+": "+text) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if (res.Layout == nil) != (len(res.VMCSs) == 0) || len(res.Ambiguous()) > 0 || len(res.Disputes()) > 0 {
				t.Errorf("layout %v of %d VMCSs", res.Layout, len(res.VMCSs))
			}
		})
	}
}

// Records may have any fields, but a host has one set of them: memory is
// bounded, and no field lies outside of the page.
func TestFindSavedSets(t *testing.T) {
	var records []savedRecord
	for i := range uint64(maxSavedSets + 1) {
		r := savedRecord{vmcs: 0x5000 + i*PageSize}
		for k := range uint64(maxSavedFields) {
			r.fields = append(r.fields, (k+i)*2%1024|i%4<<10|i%3<<13, k|i<<32)
		}
		records = append(records, r)
	}
	res, err := FindSaved(savedList(records...), savedHead)
	if len(res.VMCSs) != maxSavedSets || !errors.Is(err, ErrSaved) {
		t.Errorf("%d VMCSs, %v", len(res.VMCSs), err)
	}
	for _, c := range res.VMCSs {
		for _, e := range c.Layout.Entries {
			if e.Offset < headerSize || e.Offset+e.Width > PageSize {
				t.Errorf("%s at %#x", e.Name, e.Offset)
			}
		}
	}
}

// What is saved of real VMCSs reads as these do, whatever their layout.
func TestSavedReal(t *testing.T) {
	for _, name := range vmxCores {
		h := loadHost(t, name)
		v := h.vmcs("A.0")
		r := savedRecord{vmcs: v.Addr}
		for _, e := range v.Layout.Entries {
			if x, ok := v.Value(e); ok && e.Known && !e.Encoding.High() {
				r.fields = append(r.fields, uint64(e.Encoding), x)
			}
		}
		m := savedList(r)
		m[v.Addr] = v.Page
		res, err := FindSaved(m, savedHead)
		if err != nil || len(res.VMCSs) != 1 || res.VMCSs[0].RevisionID() != v.RevisionID() || res.Layout.RevisionID != v.RevisionID() {
			t.Fatalf("%+v, %v", res, err)
		}
		c := res.VMCSs[0]
		for _, e := range v.Layout.Entries {
			want, ok := v.Value(e)
			if got, ok2 := c.Read(e.Encoding); e.Known && (got != want || ok != ok2) {
				t.Errorf("%s: %s is %#x, want %#x", name, e.Name, got, want)
			}
		}
		if c.Mode() != v.Mode() || len(c.Layout.Entries) < 100 {
			t.Errorf("%s: %s, want %s; %d fields", name, c.Mode(), v.Mode(), len(c.Layout.Entries))
		}
	}
}

// Whatever memory holds, FindSaved ends, and what it returns can be read.
func FuzzFindSaved(f *testing.F) {
	m := savedList(savedRecord{0x5000, []uint64{uint64(GuestRIP), 1, uint64(GuestCSSelector), 2}}, savedRecord{0x5000, []uint64{uint64(GuestRIP), 3}})
	f.Add(m[savedHead&^(PageSize-1)][savedHead%PageSize:][:savedListSize], m[savedFirst][:128], m[savedFirst+PageSize][:128])
	f.Fuzz(func(t *testing.T, head, first, second []byte) {
		m := memory{savedHead &^ (PageSize - 1): make([]byte, PageSize), savedFirst: make([]byte, PageSize), savedFirst + PageSize: make([]byte, PageSize)}
		copy(m[savedHead&^(PageSize-1)][savedHead%PageSize:], head)
		copy(m[savedFirst], first)
		copy(m[savedFirst+PageSize], second)
		res, err := FindSaved(m, savedHead)
		if err != nil && !errors.Is(err, ErrSaved) {
			t.Fatal(err)
		}
		for _, c := range res.VMCSs {
			for _, e := range c.Layout.Entries {
				if _, ok := c.Value(e); !ok {
					t.Errorf("%s cannot be read", e.Name)
				}
			}
		}
		if !slices.IsSortedFunc(res.VMCSs, byAddr) {
			t.Error("not sorted")
		}
	})
}
