package vmcs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A transplant takes VMCSs from one layout to another: the tests' way to other
// processors.
type transplant struct {
	from, to *Layout
	id       uint32
}

// page returns the page with all fields that both layouts have.
func (x transplant) page(old []byte) []byte {
	page := make([]byte, PageSize)
	binary.LittleEndian.PutUint32(page, x.id)
	for _, e := range x.to.Entries {
		was, ok := x.from.Lookup(e.Name)
		if !ok {
			continue
		}
		v := VMCS{Page: old, Layout: x.from}
		value, _ := v.Value(was)
		if e.Encoding.Rights() {
			value = uint64(encodeRights(x.to.AccessRights, uint32(value)))
		}
		put(page[e.Offset:], e.Width, value)
	}
	return page
}

func put(b []byte, width int, v uint64) {
	for i := range width {
		b[i] = byte(v >> (8 * i))
	}
}

// encodeRights is the inverse of AccessRights.Decode.
func encodeRights(r AccessRights, v uint32) uint32 {
	switch r {
	case RightsRotated:
		return bits.RotateLeft32(v, 8)
	case RightsPacked:
		return v&0xf0ff | v>>5&0x0800
	}
	return v
}

// shuffled returns l's fields other places, at random, and its text as a note
// that tells offsets alone.
func shuffled(l *Layout, rng *rand.Rand, id uint32, rights AccessRights) (*Layout, string) {
	to := l.clone()
	to.RevisionID = id
	to.SetAccessRights(rights)
	var taken [PageSize]bool
	for i := range headerSize {
		taken[i] = true
	}
	order := rng.Perm(len(to.Entries))
	slices.SortStableFunc(order, func(a, b int) int { return to.Entries[b].Width - to.Entries[a].Width })
	for _, i := range order {
		e := &to.Entries[i]
		for {
			e.Offset = rng.IntN(PageSize/e.Width) * e.Width
			if !slices.Contains(taken[e.Offset:][:e.Width], true) {
				break
			}
		}
		for k := range e.Width {
			taken[e.Offset+k] = true
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "REVISION_ID=%x\n", id)
	for _, e := range to.Entries {
		fmt.Fprintf(&text, "FIELD(%s)=%x\n", e.Name, e.Offset)
	}
	return to, text.String()
}

// randomPage has the revision identifier and noise.
func randomPage(rng *rand.Rand, id uint32) []byte {
	page := make([]byte, PageSize)
	for i := 0; i < PageSize; i += 8 {
		binary.LittleEndian.PutUint64(page[i:], rng.Uint64())
	}
	binary.LittleEndian.PutUint32(page, id)
	return page
}

// decoys are pages that begin as VMCSs do, and what they are.
func decoys(l *Layout, rng *rand.Rand) map[string][]byte {
	fill := func(word func(off int) uint16) []byte {
		page := make([]byte, PageSize)
		for off := 0; off < PageSize; off += 2 {
			binary.LittleEndian.PutUint16(page[off:], word(off))
		}
		binary.LittleEndian.PutUint32(page, l.RevisionID)
		binary.LittleEndian.PutUint32(page[4:], 0)
		return page
	}
	noAbort := randomPage(rng, l.RevisionID)
	clear(noAbort[4:8])
	return map[string][]byte{
		"noise":                   randomPage(rng, l.RevisionID),
		"noise, no abort":         noAbort,
		"VMXON region":            fill(func(int) uint16 { return 0 }),
		"scratch page, all ones":  fill(func(int) uint16 { return 0xffff }),
		"scratch page, offsets":   fill(func(off int) uint16 { return uint16(off) }),
		"scratch page, the cells": fill(func(off int) uint16 { return uint16(off>>7<<9 | 0x100 | off&0x7f<<1) }),
	}
}

// addDecoys puts some of each into m, where there is nothing.
func addDecoys(m memory, l *Layout, rng *rand.Rand) {
	for range 3 {
		for _, page := range decoys(l, rng) {
			addr := uint64(0x7000_0000 + len(m)*PageSize)
			m[addr] = page
		}
	}
}

// TestFindShuffled is on the genuine VMCSs in layouts that no processor has,
// told by a note with offsets alone: how access rights lie is found out.
func TestFindShuffled(t *testing.T) {
	for _, name := range vmxCores {
		m, from, tr := loadMemory(t, "vmx/"+name+"/mini"), loadNote(t, "vmx/"+name), loadTruth(t, "vmx/"+name)
		from.SetAccessRights(RightsRotated)
		for seed := range uint64(10) {
			for rights := RightsPlain; rights <= RightsPacked; rights++ {
				t.Run(fmt.Sprintf("%s/%d/%v", name, seed, rights), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, uint64(rights)))
					id := uint32(rng.IntN(maxRevisionID-1) + 1)
					to, text := shuffled(from, rng, id, rights)
					note, err := ParseNote([]byte(text))
					if err != nil {
						t.Fatal(err)
					}
					m, tr := m.clone(), tr
					tr.VMCSs = slices.Clone(tr.VMCSs)
					for i, v := range tr.VMCSs {
						m[v.PA] = transplant{from, to, id}.page(m[v.PA])
						tr.VMCSs[i].Fields = make(map[string]uint64)
						for name, value := range v.Fields {
							if e, ok := to.Lookup(name); ok && e.Encoding.Rights() {
								value = uint64(encodeRights(rights, bits.RotateLeft32(uint32(value), -8)))
							}
							tr.VMCSs[i].Fields[name] = value
						}
					}
					addDecoys(m, to, rng)
					res := find(t, m, Search{Note: note})
					if res.Layout == nil || res.Layout.AccessRights != rights {
						t.Errorf("access rights %v, expected %v", res.Layout.AccessRights, rights)
					}
					compare(t, res, tr)
				})
			}
		}
	}
}

// TestFindBuiltin is on the genuine VMCSs in every built-in layout, found
// without a note, in a guest's memory with the note of the host.
func TestFindBuiltin(t *testing.T) {
	host := loadNote(t, "vmx/hsw-default")
	from := host.clone()
	from.SetAccessRights(RightsRotated)
	tr := loadTruth(t, "vmx/hsw-default")
	genuine := loadMemory(t, "vmx/hsw-default/mini")
	for _, l := range Builtin() {
		for _, id := range append([]uint32{l.RevisionID}, l.OtherIDs...) {
			t.Run(fmt.Sprintf("%s/%#x", l.Name, id), func(t *testing.T) {
				m := genuine.clone()
				for _, v := range tr.VMCSs {
					m[v.PA] = transplant{from, l, id}.page(m[v.PA])
				}
				addDecoys(m, l, rand.New(rand.NewPCG(1, uint64(id))))
				for name, s := range map[string]Search{"no note": {}, "nested": {Nested: true, Note: host}} {
					want := l.Name
					if s.Note != nil && l.Name == "bochs-2.8-to-3.0" && id == host.RevisionID {
						want = "" // the note's, which says the same and comes first
					}
					res := find(t, m, s)
					if len(res.VMCSs) != len(tr.VMCSs) || res.Layout == nil || res.Layout.Name != want {
						t.Errorf("%s: %d VMCSs, expected %d by layout %s", name, len(res.VMCSs), len(tr.VMCSs), want)
						for _, trial := range res.Trials {
							t.Logf("%s: %d matched, %d live, %d stale, %d points", trial.Layout.Name, trial.Matched, trial.Live, trial.Stale, trial.Score)
						}
					}
					for i, v := range res.VMCSs {
						if rip, ok := v.Field("GUEST_RIP"); ok && rip != tr.VMCSs[i].Fields["GUEST_RIP"] {
							t.Errorf("%s: GUEST_RIP %#x, expected %#x", name, rip, tr.VMCSs[i].Fields["GUEST_RIP"])
						}
					}
					if a := res.Ambiguous(); len(a) > 0 {
						t.Errorf("%s: as good as %s", name, a[0].Name)
					}
				}
			})
		}
	}
}
