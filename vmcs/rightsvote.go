package vmcs

import "encoding/binary"

// A ballot finds out of the pages how access rights are stored: read the right
// way they are valid for their segments in all of them. Ways that read the
// same out of a page get the same votes.
type ballot [RightsPacked + 1]int

// vote counts the segments of a page whose access rights are valid, for each
// way of storing them. One that is valid stored, and not all zero, counts.
func (b *ballot) vote(l *Layout, page []byte) {
	for i := range l.Entries {
		e := &l.Entries[i]
		if !e.Known || !e.Encoding.rights() {
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
			if stored&reservedStored[r] == 0 && validRights(int(e.Encoding-GuestESARBytes)/2, r.Decode(stored)) {
				b[r]++
			}
		}
	}
}

// reservedStored are the bits that are clear in access rights as they are
// stored. Decoding drops those of the packed ones.
var reservedStored = [...]uint32{RightsPlain: rightsReserved, RightsRotated: rightsReserved&0xffffff<<8 | rightsReserved>>24, RightsPacked: 0x0700}

// winner is the way with most votes. Where it is as good as others, the one
// stated stays; nobody's is RightsUnknown, or what is stated.
func (b *ballot) winner(stated AccessRights) AccessRights {
	best := stated
	for r := RightsPlain; r <= RightsPacked; r++ {
		if b[r] > b[best] {
			best = r
		}
	}
	return best
}
