package vmcore

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// inCycles cuts a kdump-compressed dump as makedumpfile does that has no memory
// for all of the bitmap: page data, descriptors and bitmap, part by part.
func inCycles(t testing.TB, plain []byte, descsFirst bool) []testdumps.Record {
	c, err := kdump.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	bitmap, _ := c.Bitmaps()
	descs := c.DescOff()
	data := descs + int64(c.Index().Pages())*plan.DescSize
	half := func(from, end int64) int64 { return from + (end-from)/2 }
	piece := func(from, end int64) testdumps.Record { return testdumps.At(from, plain[from:end]) }
	size := int64(len(plain))
	first := []testdumps.Record{piece(data, half(data, size)), piece(descs, half(descs, data))}
	if descsFirst {
		slices.Reverse(first)
	}
	return slices.Concat([]testdumps.Record{piece(0, bitmap)}, first, []testdumps.Record{
		piece(bitmap, half(bitmap, descs)),
		piece(half(data, size), size), piece(half(descs, data), data),
		piece(half(bitmap, descs), descs),
	})
}

// TestStreamFlatCycles: makedumpfile goes in cycles where the bitmap of a large
// machine does not fit into a capture kernel.
func TestStreamFlatCycles(t *testing.T) {
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-zlib"))
	for edit := range edits {
		want := copyOf(t, plain, testdumps.VMCSInfo, edit)
		for _, descsFirst := range []bool{false, true} {
			got, err := streamed(t, testdumps.Flat(inCycles(t, plain, descsFirst)...), testdumps.VMCSInfo, edit)
			if err != nil {
				t.Errorf("%s, descriptors first %v: %v", edit, descsFirst, err)
			} else if !bytes.Equal(testdumps.Rearranged(t, got), want) {
				t.Errorf("%s, descriptors first %v: not what -o gives", edit, descsFirst)
			}
		}
	}
}

// TestStreamFlatCyclesWrong: page data that do not begin where descriptors end
// are an error, and the copy has no end marker. The rest can be passed on, so
// that all of the dump is there.
func TestStreamFlatCyclesWrong(t *testing.T) {
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/cloud-c1.flat-zlib"))
	for _, tc := range []struct {
		name  string
		later int64 // by how much the first record begins later
		want  string
	}{
		{"a part of a descriptor before it", 1, "a whole number of page descriptors"},
		{"a descriptor too many before it", plan.DescSize, "the bitmap has"},
	} {
		records := inCycles(t, plain, false)
		records[1].Off += tc.later
		records[1].Body = records[1].Body[tc.later:]
		got, err := streamed(t, testdumps.Flat(records...), testdumps.VMCSInfo, "inject")
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
		if complete(got) {
			t.Errorf("%s: it has an end marker", tc.name)
		}
		var broken *Broken
		if !errors.As(err, &broken) {
			t.Fatalf("%s: error is %v, want Broken", tc.name, err)
		}
		var rest bytes.Buffer
		if err := broken.PassOn(t.Context(), &rest); err != nil {
			t.Fatal(err)
		}
		came := 0
		for _, r := range records {
			came += len(r.Body)
		}
		held := 0
		all := openFlatCut(t, append(got, rest.Bytes()...))
		for _, r := range all.View.Runs {
			held += int(r.End() - r.Off)
		}
		if held < came {
			t.Errorf("%s: %d bytes in records, %d came", tc.name, held, came)
		}
	}
}

// openFlatCut opens a flattened dump, whatever its plain form.
func openFlatCut(t testing.TB, b []byte) *flatDump {
	t.Helper()
	f, err := openFlat(bytes.NewReader(b), int64(len(b)), opener())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestStreamFlatBlankTable: zeros come for the program headers before anything
// else, as makedumpfile -E writes them, and the headers last. The dump passes
// all the same, without being kept.
func TestStreamFlatBlankTable(t *testing.T) {
	plain := testdumps.Rearranged(t, testcores.Bytes(t, "flat/deb-t1.flat-elf31"))
	c, err := elfcore.Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	blank := testdumps.At(int64(c.Phoff), make([]byte, c.Phnum*c.Phentsize))
	records := append([]testdumps.Record{blank}, headLast(t, plain, flat.BodySize)...)
	for edit := range edits {
		got, err := streamed(t, testdumps.Flat(records...), testdumps.VMCSInfo, edit)
		if err != nil {
			t.Errorf("%s: %v", edit, err)
		} else if !bytes.Equal(testdumps.Rearranged(t, got), copyOf(t, plain, testdumps.VMCSInfo, edit)) {
			t.Errorf("%s: not what -o gives", edit)
		}
	}
	p := &flatHead{h: &head{r: bytes.NewReader(testdumps.Flat(records...))}}
	if _, err := p.plan(func(c Core) (elfnote.Splice, error) { return edits["inject"](c.Notes(), testdumps.VMCSInfo), nil }); err != nil || p.whole || p.h.size > 4*headChunk {
		t.Errorf("%v, or %d bytes kept before the notes were known", err, p.h.size)
	}
}
