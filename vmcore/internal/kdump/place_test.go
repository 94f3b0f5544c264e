package kdump_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestPlacement: which placement each dump allows, and why not.
func TestPlacement(t *testing.T) {
	sub := func(at int64, v uint64) func([]byte, *kdump.Header) {
		return func(b []byte, _ *kdump.Header) { le.PutUint64(b[4096+at:], v) }
	}
	for _, tc := range []struct {
		name       string
		spec       testdumps.KDump
		slack, end string
	}{
		{"room", testdumps.KDumps["64-room"], "", ""},
		{"full", testdumps.KDumps["full"], "0x0 bytes free", ""},
		{"zeros at the bitmap's start", testdumps.KDump{Notes: testdumps.KDumps["full"].Notes, Pages: []uint64{1000}}, "0x0 bytes free", ""},
		{"split", testdumps.KDumps["split"], "", "--reassemble"},
		{"packed", testdumps.KDumps["32-packed"], "", "libkdumpfile"},
		{"padded", testdumps.KDumps["32-padded"], "", ""},
		{"eraseinfo after the notes", testdumps.KDump{Erase: "x", Edit: sub(64, 4096+104+416+8)}, "0xc bytes free", ""},
		{"truncated", testdumps.KDump{Cut: 10}, "", "page descriptor 14"},
		{"truncated in the descriptors", testdumps.KDump{Cut: 20000}, "", "truncated"},
		{"version 3", testdumps.KDump{Version: 3}, "4 or later: before that dumps had no notes", "4 or later"},
		{"notes over the bitmap", testdumps.KDump{Pages: []uint64{}, Edit: sub(56, 8192)}, "apart from bitmaps", "apart from bitmaps"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testdumps.OpenKDump(t, tc.spec.Build())
			for pl, want := range map[plan.Placement]string{plan.Slack: tc.slack, plan.End: tc.end} {
				_, err := c.PlanInPlace(pl, c.Notes().Append(testdumps.VMCSInfo))
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("%s: %v, want %q", pl, err, want)
				}
			}
			if _, err := c.PlanInPlace(plan.Evict, c.Notes().Append(testdumps.VMCSInfo)); err == nil {
				t.Error("evict, too")
			}
		})
	}
}

// TestWholeGuess: the number of descriptors is guessed, to spare reading
// the bitmap. A guess that is wrong must not let a dump that is cut off pass,
// nor keep one that is whole from being changed.
func TestWholeGuess(t *testing.T) {
	for _, name := range []string{"cloud-c1.kdump-zlib", "cloud-c1.kdump-lzo", "cloud-c1.kdump-snappy", "cloud-c1.kdump-zstd", "deb-t1.kdump-lzo", "deb-t1.kdump-zstd"} {
		t.Run(name, func(t *testing.T) {
			whole := testdumps.KDumpFile(t, name)
			c := testdumps.OpenKDump(t, whole)
			if n, ok := c.GuessPages(); !ok || n != c.Index().Pages() {
				t.Errorf("%d descriptors guessed (%v), there are %d", n, ok, c.Index().Pages())
			}
			for _, cut := range []int{1, 100, 5000, len(whole) / 2} {
				if err := testdumps.OpenKDump(t, whole[:len(whole)-cut]).CheckWhole(); !errors.Is(err, plan.ErrNoPlace) {
					t.Errorf("%d bytes cut off: %v", cut, err)
				}
			}
			// The first page's data, elsewhere.
			for _, more := range []uint64{1, plan.DescSize, 1000 * plan.DescSize} {
				odd := bytes.Clone(whole)
				at := c.DescOff()
				c.Order.PutUint64(odd[at:], c.Order.Uint64(odd[at:])+more)
				if err := testdumps.OpenKDump(t, odd).CheckWhole(); err != nil {
					t.Errorf("first descriptor off by %d: %v", more, err)
				}
			}
		})
	}
}

// TestCutBeforeZeros: pages of zeros share their data, which lies in front
// of all other. However many of them come last, a dump that is cut off is.
func TestCutBeforeZeros(t *testing.T) {
	b := bytes.Clone(testdumps.KDumpFile(t, "deb-t1.kdump-zstd"))
	c := testdumps.OpenKDump(t, b)
	desc := func(i uint64) []byte { return b[c.DescOff()+int64(i)*plan.DescSize:][:plan.DescSize] }
	end := uint64(0) // of the data in front of the last two windows
	for i := range c.Index().Pages() {
		if i >= c.Index().Pages()-2*kdump.LastDescs {
			copy(desc(i), desc(0))
		}
		e, _ := c.Desc(desc(i)).Data.End()
		end = max(end, e)
	}
	if err := testdumps.OpenKDump(t, b[:end]).CheckWhole(); err != nil {
		t.Errorf("whole: %v", err)
	}
	if err := testdumps.OpenKDump(t, b[:end-1]).CheckWhole(); !errors.Is(err, plan.ErrNoPlace) {
		t.Errorf("cut off by a byte: %v", err)
	}
}

// TestNotesAsMemory: page data that lies where the notes do is none. A dump
// that is truncated, and has got its notes at the end, would have such pages.
func TestNotesAsMemory(t *testing.T) {
	b := testdumps.KDump{}.Build()
	c := testdumps.OpenKDump(t, b)
	p, err := c.PlanInPlace(plan.End, c.Notes().Append(testdumps.VMCSInfo))
	if err != nil {
		t.Fatal(err)
	}
	j, err := (&change{plan: p, base: b}).run(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	desc := make([]byte, 16)
	le.PutUint64(desc, uint64(len(b)))
	le.PutUint32(desc[8:], 100)
	le.PutUint32(desc[12:], kdump.Zlib)
	if _, err := j.WriteAt(desc, c.DescOff()+plan.DescSize); err != nil {
		t.Fatal(err)
	}
	after, err := kdump.Open(j.Now(), j.Now().Len())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.ReadPhys(make([]byte, 1), 4096); err == nil || !strings.Contains(err.Error(), "expected data apart from the notes") {
		t.Errorf("error is %v", err)
	}
}
