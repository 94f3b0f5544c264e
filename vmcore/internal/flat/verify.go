package flat

import (
	"sort"

	"vmcsnote/vmcore/internal/plan"
)

// Verify finds what is wrong with the records; used is what the plain form
// consists of.
func (f *Records) Verify(used []plan.Extent) []plan.Finding {
	var v plan.Findings
	if n := len(f.View.Shared); n > 0 {
		bytes := uint64(0)
		for _, e := range f.View.Shared {
			bytes += e.Size
		}
		// A remark: makedumpfile may write a sub header again.
		v.Remark("crash may read either; all others read the later one",
			"%#x bytes of the plain form are in more than one record, the first at offset %#x: expected one for each byte", bytes, f.View.Shared[0].Off)
	}
	if hole, bytes := f.missing(used); bytes > 0 {
		v.Fault("all readers take them for zeros", "%#x bytes that the dump consists of are in no record, the first at offset %#x of the plain form", bytes, hole)
	}
	if f.IsCut() {
		v.Fault("makedumpfile -R, crash and libkdumpfile refuse it", "the file ends at %#x, expected the end marker: the dump is not complete", f.Size)
	}
	// The rest of a raw device, or of a change that was killed before it took
	// effect.
	if rest := f.Size - f.End - RecordHeader; rest > 0 {
		v.Remark("nothing reads them", "%#x bytes after the end marker at offset %#x of the file", rest, f.End)
	}
	return v.Found
}

// missing returns how many bytes something in the plain form refers to, within
// its size, though no record holds them, and the first one's offset.
func (f *Records) missing(used []plan.Extent) (first int64, bytes int64) {
	sort.Slice(used, func(i, j int) bool { return used[i].Off < used[j].Off })
	at := int64(0)
	for _, e := range used {
		if e.Off >= uint64(f.View.Size) {
			break
		}
		at = max(at, int64(e.Off))
		for end := int64(e.Off + e.Clip(f.View.Size)); at < end; {
			_, n, held := FindRun(f.View.Runs, at)
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
