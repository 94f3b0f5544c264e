package faults

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Stops checks what is found of a file if the process dies after one of the
// edits, every so many of them: check fails if a version is neither the old
// dump nor the new one.
func Stops(t testing.TB, file *Version, edits []Edit, every int, check func(*Version) error) {
	t.Helper()
	for i := 0; i < len(edits); i += every {
		if err := check(&Version{file.Base, file.Size, edits[:i+1]}); err != nil {
			t.Fatalf("stopped after %d of %d: %v", i+1, len(edits), err)
		}
	}
}

// PowerLoss checks what is found of a file if the power fails at any of the
// edits, or at every so many of them: what was not synced may be there or not.
// It tries as many versions for each edit as tries says.
func PowerLoss(t testing.TB, file *Version, edits []Edit, every, tries int, check func(*Version) error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var durable, pending []Edit
	for i, e := range edits {
		if e.Sync {
			durable = append(durable, pending...)
			pending = nil
			continue
		}
		pending = append(pending, e.Sectors()...)
		if i%every != 0 {
			continue
		}
		for range tries {
			lost := slices.Clone(pending)
			rng.Shuffle(len(lost), func(i, j int) { lost[i], lost[j] = lost[j], lost[i] })
			lost = lost[:rng.IntN(len(lost)+1)]
			if err := check(&Version{file.Base, file.Size, append(slices.Clip(durable), lost...)}); err != nil {
				t.Fatalf("power lost at %d, with %d of %d sectors written: %v", i, len(lost), len(pending), err)
			}
		}
	}
	if len(pending) > 0 {
		t.Error("the plan does not end with a sync")
	}
}
