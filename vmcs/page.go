package vmcs

import "encoding/binary"

// A VMCS is the page of one virtual CPU, and the layout it is read by.
type VMCS struct {
	// Addr is the page's physical address, a multiple of PageSize.
	Addr uint64
	// Page is its contents, PageSize bytes.
	Page []byte
	// Layout says where the fields are. It is never nil.
	Layout *Layout
}

// RevisionID is bits 30:0 of the page's first word.
func (v *VMCS) RevisionID() uint32 {
	return binary.LittleEndian.Uint32(v.Page) & maxRevisionID
}

// Shadow reports whether the page is a shadow VMCS (bit 31 of the first word),
// which a hypervisor keeps for a guest that is one itself; no processor can
// enter a guest with it.
func (v *VMCS) Shadow() bool {
	return binary.LittleEndian.Uint32(v.Page)&^maxRevisionID != 0
}

// Abort is the VMX-abort indicator, the page's second word: 0, unless a VM exit
// went so wrong that the processor shut down.
func (v *VMCS) Abort() uint32 { return binary.LittleEndian.Uint32(v.Page[4:]) }

// Field returns the field called name (Linux's name, or another that the layout
// has) as VMREAD does: access rights are decoded, as far as the layout tells
// how they are stored. The result is false if the layout lacks the field.
func (v *VMCS) Field(name string) (uint64, bool) {
	if f, ok := FieldByName(name); ok {
		return v.Read(f.Encoding)
	}
	e, ok := v.Layout.Lookup(name)
	if !ok {
		return 0, false
	}
	return v.Value(e)
}

// Read is Field for an encoding. If the layout does not name the high half of a
// 64-bit field, Read takes it from the whole field.
func (v *VMCS) Read(e Encoding) (uint64, bool) {
	if p := v.Layout.find(e); p != nil {
		return v.Value(*p)
	}
	if e.High() {
		whole, ok := v.Read(e &^ 1)
		return whole >> 32, ok
	}
	return 0, false
}

// Value reads an entry of the layout, as Field does. The result is false if the
// entry has no width, or lies outside the page.
func (v *VMCS) Value(e Entry) (uint64, bool) {
	raw, ok := v.raw(e)
	if e.Known && e.Encoding.Rights() {
		return uint64(v.Layout.AccessRights.decode(uint32(raw))), ok
	}
	return raw, ok
}

// raw reads an entry as it lies in the page, little-endian. It differs from
// Value for access rights alone.
func (v *VMCS) raw(e Entry) (uint64, bool) {
	if e.Offset < 0 || e.Offset > len(v.Page) {
		return 0, false
	}
	b := v.Page[e.Offset:]
	switch {
	case e.Width > len(b):
		return 0, false
	case e.Width == 2:
		return uint64(binary.LittleEndian.Uint16(b)), true
	case e.Width == 4:
		return uint64(binary.LittleEndian.Uint32(b)), true
	case e.Width == 8:
		return binary.LittleEndian.Uint64(b), true
	}
	return 0, false
}

// put writes x where an entry lies, which must be inside the page.
func (v *VMCS) put(e Entry, x uint64) {
	copy(v.Page[e.Offset:][:e.Width], binary.LittleEndian.AppendUint64(nil, x))
}

// TakeGuestState copies the guest state of another VMCS, as far as both layouts
// have it. A hypervisor's own copy of a guest's VMCS gets this state only when
// the guest is left.
func (v *VMCS) TakeGuestState(from *VMCS) {
	for _, e := range v.Layout.Entries {
		if !e.Known || e.Encoding.Kind() != Guest || e.Offset < headerSize || e.Offset+e.Width > len(v.Page) {
			continue
		}
		x, ok := from.Read(e.Encoding)
		if e.Encoding.Rights() {
			x = uint64(v.Layout.AccessRights.Encode(uint32(x)))
			ok = ok && from.Layout.AccessRights != RightsUnknown
		}
		if ok {
			v.put(e, x)
		}
	}
}
