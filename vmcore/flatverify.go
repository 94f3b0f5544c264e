package vmcore

import (
	"cmp"
	"fmt"
	"slices"

	"vmcsnote/vmcore/internal/plan"
)

// Verify implements [Core]: what is wrong with the records, and then what is
// wrong with the plain form. Records out of order are nothing wrong: makedumpfile
// itself writes an ELF core's program headers last, and the page descriptors
// of a compressed dump in between their pages.
func (f *Flat) Verify() []Finding {
	return append(f.verifyRecords(), f.Core.Verify()...)
}

func (f *Flat) verifyRecords() []Finding {
	var found []Finding
	if n := len(f.view.shared); n > 0 {
		bytes := uint64(0)
		for _, e := range f.view.shared {
			bytes += e.Size
		}
		found = append(found, Finding{
			Remark:  true, // makedumpfile may write a sub header again
			Text:    fmt.Sprintf("%#x bytes of the plain form are in more than one record, the first at offset %#x: expected one for each byte", bytes, f.view.shared[0].Off),
			Readers: "crash may read either; all others read the later one",
		})
	}
	if hole, bytes := f.missing(); bytes > 0 {
		found = append(found, Finding{
			Text:    fmt.Sprintf("%#x bytes that the dump consists of are in no record, the first at offset %#x of the plain form", bytes, hole),
			Readers: "all readers take them for zeros",
		})
	}
	if f.isCut() {
		found = append(found, Finding{
			Text:    fmt.Sprintf("the file ends at %#x, expected the end marker: the dump is not complete", f.Size),
			Readers: "makedumpfile -R, crash and libkdumpfile refuse it",
		})
	}
	if rest := f.trailing(); rest > 0 {
		found = append(found, Finding{
			Remark:  true,
			Text:    fmt.Sprintf("%#x bytes behind the end marker at offset %#x of the file", rest, f.end),
			Readers: "nothing reads them",
		})
	}
	return found
}

// trailing is the number of bytes behind the end marker: the rest of a raw
// device, or what a change left that was killed before it took effect.
func (f *Flat) trailing() int64 { return f.Size - f.end - flatRecordHeader }

// missing returns how many bytes something in the plain form refers to, within
// its size, though no record holds them, and the first one's offset.
func (f *Flat) missing() (first int64, bytes int64) {
	used := []plan.Extent{{Off: uint64(f.NotesOff()), Size: uint64(f.Notes().Size)}}
	u, err := f.Used()
	if err != nil {
		return 0, 0 // the plain form's own Verify tells
	}
	used = append(used, u...)
	slices.SortFunc(used, func(a, b plan.Extent) int { return cmp.Compare(a.Off, b.Off) })
	at := int64(0)
	for _, e := range used {
		if e.Off >= uint64(f.view.size) {
			break
		}
		at = max(at, int64(e.Off))
		for end := int64(e.Off + e.Clip(f.view.size)); at < end; {
			_, n, held := findRun(f.view.runs, at)
			n = min(n, end-at)
			if !held {
				if bytes == 0 {
					first = at
				}
				bytes += n
			}
			at += n
		}
	}
	return first, bytes
}
