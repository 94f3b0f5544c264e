package vmcs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// AccessRights is how a processor keeps the access rights of the guest's
// segments (GUEST_*_AR_BYTES) in the page. VMREAD returns them plain on every
// processor.
type AccessRights uint8

const (
	// RightsUnknown: not known yet; the pages themselves can tell.
	RightsUnknown AccessRights = iota
	// RightsPlain: 32 bits as VMREAD returns them (KVM's, Xen's, VirtualBox's
	// nested VMCSs).
	RightsPlain
	// RightsRotated: 32 bits rotated left by 8, as in bits 23:8 of a segment
	// descriptor's upper half (Penryn to Ivy Bridge).
	RightsRotated
	// RightsPacked: 16 bits, with "unusable" at bit 11, which is reserved in
	// the access rights, for bit 16 (Haswell and later).
	RightsPacked
)

var rightsNames = [...]string{"unknown", "plain", "rotated", "packed"}

// String names the way of storing.
func (r AccessRights) String() string { return rightsNames[r&3] }

// Width is the bytes that one segment's access rights take in the page.
func (r AccessRights) Width() int {
	if r == RightsPacked {
		return 2
	}
	return 4
}

// decode turns access rights as they lie in the page, read with Width, into
// what VMREAD returns. RightsUnknown leaves them as they are.
func (r AccessRights) decode(stored uint32) uint32 {
	switch r {
	case RightsRotated:
		return bits.RotateLeft32(stored, -8)
	case RightsPacked:
		return stored&0xf0ff | stored&0x0800<<5
	}
	return stored
}

// Encode turns what VMREAD returns into what lies in the page.
func (r AccessRights) Encode(rights uint32) uint32 {
	switch r {
	case RightsRotated:
		return bits.RotateLeft32(rights, 8)
	case RightsPacked:
		return rights&0xf0ff | rights>>5&0x0800
	}
	return rights
}

// rightsVotes gathers what the values of GUEST_*_AR_BYTES tell of how access
// rights are stored.
type rightsVotes struct {
	plain, rotated int
	other          []rightsValue // neither
}

// rightsValue is a value of access rights that is not made of cells.
type rightsValue struct {
	place string
	field Field
	value uint64
}

// packedCell has the bits that VMREAD can return for access rights whose 16
// bits in the page are a cell.
const packedCell = 0x130fc

func (r rightsValue) packed() bool { return r.value != 0 && r.value&^packedCell == 0 }

// placeRights adds access rights that VMREAD returns as they are stored, or
// rotated right by 8, which parity shows. Others wait for settleRights.
func (b *builder) placeRights(place string, f Field, v uint64) {
	if v>>32 != 0 {
		b.warn(place, "%s: %#x, expected 32 bits", f.Name, v)
	} else if offset, width, fault := decodeCells(v); fault == "" && width == 4 {
		b.rights.plain++
		b.place(place, f, true, offset, width)
	} else if offset, width, fault := decodeCells(uint64(bits.RotateLeft32(uint32(v), 8))); fault == "" && width == 4 {
		b.rights.rotated++
		b.place(place, f, true, offset, width)
	} else {
		b.rights.other = append(b.rights.other, rightsValue{place, f, v})
	}
}

// settleRights decides how access rights are stored, as far as the source
// tells, and adds those that VMREAD unpacks from 16 bits.
func (b *builder) settleRights() {
	found := b.AccessRights
	switch r := b.rights; {
	case r.plain > 0 && r.rotated > 0:
		found = RightsUnknown
		b.warn("access rights", "%d segments stored plain, %d rotated by 8: expected one way for all", r.plain, r.rotated)
	case r.plain > 0:
		found = RightsPlain
	case r.rotated > 0:
		found = RightsRotated
	case slices.ContainsFunc(r.other, rightsValue.packed) || b.AccessRights == RightsUnknown && b.rightsSqueezed():
		found = RightsPacked
	}
	if b.AccessRights != RightsUnknown && found != b.AccessRights {
		b.warn("access rights", "stated to be %s, found %s", b.AccessRights, found)
	}
	b.SetAccessRights(found)
	for _, r := range b.rights.other {
		if found != RightsPacked {
			b.warn(r.place, "%s: value %#x is not made of cells, plain or rotated by 8", r.field.Name, r.value)
		} else if offset, fault := b.unpackCell(r.field, r.value); fault != "" {
			b.warn(r.place, "%s: %s", r.field.Name, fault)
		} else {
			b.place(r.place, r.field, true, offset, found.Width())
		}
	}
}

// rightsSqueezed reports whether some access rights have no room for 32 bits:
// another field lies in their upper half.
func (b *builder) rightsSqueezed() bool {
	for _, p := range b.overlaps() {
		if p[0].Known && p[0].Encoding.Rights() && p[1].Offset >= p[0].Offset+2 {
			return true
		}
	}
	return false
}

// unpackCell returns the offset of access rights that lie in 16 bits, from what
// VMREAD made of their cell: bits 10:8 are gone, and bit 11 is at 16. So bits
// 8:7 of the offset are missing. Of the four possible places it returns the one
// after the segment's selector, as on Haswell and later, or else the only free
// one.
func (b *builder) unpackCell(f Field, v uint64) (offset int, fault string) {
	if v&^packedCell != 0 {
		return 0, fmt.Sprintf("value %#x is no cell packed in 16 bits", v)
	}
	first := int(v>>12&3<<10 | v>>16&1<<9 | v&0xfc>>1)
	selector, _ := FieldByEncoding((f.Encoding - 0x4814) + 0x0800)
	if i, ok := b.seen[selector.Name]; ok && (b.Entries[i].Offset+2)&^0x180 == first {
		return b.Entries[i].Offset + 2, ""
	}
	var free []int
	for offset := first; offset < first+0x200; offset += 0x80 {
		if offset >= headerSize && b.free(offset, 2) {
			free = append(free, offset)
		}
	}
	if len(free) != 1 {
		return 0, fmt.Sprintf("packed in 16 bits at %#x, %#x, %#x or %#x: cannot tell which", first, first+0x80, first+0x100, first+0x180)
	}
	return free[0], ""
}

// free reports whether no entry has a byte in [offset, offset+n).
func (b *builder) free(offset, n int) bool {
	for _, e := range b.Entries {
		if e.Offset < offset+n && offset < e.end() {
			return false
		}
	}
	return true
}

// A ballot finds out from the pages how access rights are stored: read the
// right way, they are valid for their segments in all pages. Ways that read the
// same from a page get the same votes.
type ballot [RightsPacked + 1]int

// vote counts, for each way of storing access rights, the segments of a page
// whose access rights are valid if they are stored that way.
func (b *ballot) vote(l *Layout, page []byte) {
	for i := range l.Entries {
		e := &l.Entries[i]
		if !e.Known || !e.Encoding.Rights() {
			continue
		}
		for r := RightsPlain; r <= RightsPacked; r++ {
			if e.Offset < 0 || e.Offset+r.Width() > len(page) {
				continue
			}
			stored := uint32(binary.LittleEndian.Uint16(page[e.Offset:]))
			if r.Width() == 4 {
				stored = binary.LittleEndian.Uint32(page[e.Offset:])
			}
			if stored&reservedStored[r] == 0 && validRights(int(e.Encoding-GuestESARBytes)/2, r.decode(stored)) {
				b[r]++
			}
		}
	}
}

// reservedStored are the reserved bits of access rights as they are stored.
// Decoding drops those of packed ones.
var reservedStored = [...]uint32{RightsPlain: rightsReserved, RightsRotated: rightsReserved&0xffffff<<8 | rightsReserved>>24, RightsPacked: 0x0700}

// winner returns the way with most votes, and the stated one if no other has
// more votes.
func (b *ballot) winner(stated AccessRights) AccessRights {
	best := stated
	for r := RightsPlain; r <= RightsPacked; r++ {
		if b[r] > b[best] {
			best = r
		}
	}
	return best
}
