package vmcs

import (
	"encoding/binary"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// ErrSaved is what errors about saved VMCSs wrap.
var ErrSaved = errors.New("the kernel's list of saved VMCSs is damaged")

// The list of saved VMCSs is that of the patches in scripts/linux, an RFC that
// is in no released kernel: struct vmx_crash_list, and struct vmx_crash_vmcs in
// a page for each VMCS. All addresses are physical.
const (
	savedListMagic = 0x4c435856 // "VXCL"
	savedMagic     = 0x52435856 // "VXCR"
	savedVersion   = 1

	savedListSize   = 16 // magic, version, address of the first record
	savedHeaderSize = 32 // magic, CPU, next record, VMCS, number of fields, 4 bytes reserved
	savedFieldSize  = 16 // encoding, 4 bytes reserved, value
	maxSavedFields  = (PageSize - savedHeaderSize) / savedFieldSize
)

// maxSavedSets bounds the sets of fields that records have: a host has one.
const maxSavedSets = 16

// FindSaved returns the VMCSs whose fields the kernel read with VMREAD and left
// in memory when it crashed. list is the physical address of the list's head.
// The values do not depend on the processor's layout. FindSaved makes a Page of
// them, by a Layout of [FormSaved] with the record's fields, so that all else
// reads them like any VMCS. A field is at the same place in all pages. Only the
// first 8 bytes of a page are those of the VMCS in memory.
//
// If the list is damaged the error wraps [ErrSaved], and the VMCSs are those
// that could be read before. The result's Layout is nil if there are none.
func FindSaved(r physmem.Reader, list uint64) (*Result, error) {
	s := saved{at: make(map[Encoding]int), layouts: make(map[string]*Layout), have: make(map[uint64]bool)}
	err := s.read(r, list)
	slices.SortFunc(s.vmcss, byAddr)
	res := &Result{VMCSs: s.vmcss}
	if n := len(s.vmcss); n > 0 {
		res.Layout = s.vmcss[0].Layout
		res.Trials = []Trial{{Layout: res.Layout, From: res.Layout, Matched: n, Live: n, trust: trustNote}}
	}
	return res, err
}

// saved gathers the VMCSs of a list.
type saved struct {
	at      map[Encoding]int   // offset in the pages
	layouts map[string]*Layout // by the encodings, as records have them
	vmcss   []*Candidate
	have    map[uint64]bool // their addresses
}

// read reads the list until it ends, or is damaged.
func (s *saved) read(r physmem.Reader, list uint64) error {
	b := make([]byte, PageSize)
	if n, err := r.ReadPhys(b[:savedListSize], list); n < savedListSize {
		return errors.Wrapf(ErrSaved, "head at %#x: %v", list, err)
	}
	le := binary.LittleEndian
	if magic, version := le.Uint32(b), le.Uint32(b[4:]); magic != savedListMagic || version != savedVersion {
		return errors.Wrapf(ErrSaved, "head at %#x: %#x, version %d, expected %#x, version %d", list, magic, version, savedListMagic, savedVersion)
	}
	seen := make(map[uint64]bool) // a list that is a circle has some twice
	for at := le.Uint64(b[8:]); at != 0; at = le.Uint64(b[8:]) {
		if seen[at] || len(seen) == MaxVMCSs {
			return errors.Wrapf(ErrSaved, "record at %#x: it comes twice, or after %d others", at, MaxVMCSs)
		}
		seen[at] = true
		if err := s.add(r, at, b); err != nil {
			return err
		}
	}
	return nil
}

// add reads the record at an address to b, a page.
func (s *saved) add(r physmem.Reader, at uint64, b []byte) error {
	le := binary.LittleEndian
	if n, err := r.ReadPhys(b, at); n < PageSize {
		return errors.Wrapf(ErrSaved, "record at %#x: %v", at, err)
	}
	if magic := le.Uint32(b); magic != savedMagic || at%PageSize != 0 {
		return errors.Wrapf(ErrSaved, "record at %#x: begins with %#x, expected %#x at a page's start", at, magic, savedMagic)
	}
	fields, addr := le.Uint32(b[24:]), le.Uint64(b[16:])
	if fields == 0 || fields > maxSavedFields || addr == 0 || addr%PageSize != 0 || addr >= maxPhys {
		return errors.Wrapf(ErrSaved, "record at %#x: %d fields of the VMCS at %#x, expected 1 to %d of a page", at, fields, addr, maxSavedFields)
	}
	records := b[savedHeaderSize : savedHeaderSize+fields*savedFieldSize]
	v := VMCS{Addr: addr, Page: make([]byte, PageSize)}
	// The VMCS itself may have been left out of the dump.
	if n, _ := r.ReadPhys(v.Page[:headerSize], addr); n < headerSize {
		clear(v.Page)
	}
	if v.Layout = s.layout(records, v.RevisionID()); v.Layout == nil {
		return errors.Wrapf(ErrSaved, "record at %#x: not the fields of any of %d others", at, maxSavedSets)
	}
	for f := records; len(f) > 0; f = f[savedFieldSize:] {
		e, x := Encoding(le.Uint32(f)), le.Uint64(f[8:])
		p := v.Layout.find(e)
		if p != nil {
			v.put(*p, x)
		}
	}
	if !s.have[addr] {
		s.have[addr], s.vmcss = true, append(s.vmcss, &Candidate{VMCS: v, Verdict: Live})
	}
	return nil
}

// layout returns the layout of a record's fields; nil if the list has too many
// different sets of fields.
func (s *saved) layout(records []byte, revisionID uint32) *Layout {
	var key []byte
	for f := records; len(f) > 0; f = f[savedFieldSize:] {
		key = append(key, f[:4]...)
	}
	if l := s.layouts[string(key)]; l != nil || len(s.layouts) == maxSavedSets {
		return l
	}
	l := &Layout{RevisionID: revisionID, Form: FormSaved, AccessRights: RightsPlain}
	for n := key; len(n) > 0; n = n[4:] {
		const room = 8 // of the widest field
		number := binary.LittleEndian.Uint32(n)
		e := Encoding(number)
		if uint32(e) != number || !e.Valid() || e.High() || l.find(e) != nil {
			continue
		}
		offset, ok := s.at[e]
		if !ok {
			offset = headerSize + room*len(s.at)
		}
		if offset+room <= PageSize {
			s.at[e] = offset
			f, _ := FieldByEncoding(e)
			l.Entries = append(l.Entries, Entry{Name: f.Name, Encoding: e, Known: true, Offset: offset, Width: e.Width()})
		}
	}
	s.layouts[string(key)] = l.clone() // it has an index
	return s.layouts[string(key)]
}
