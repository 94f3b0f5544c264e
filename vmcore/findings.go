package vmcore

import "fmt"

// maxOfKind is how many findings of one kind are listed. A core may have as many
// faulty program headers, sections or notes as its tables have entries.
const maxOfKind = 10

// findings collects what Verify finds.
type findings struct {
	found []Finding
	kinds map[string]*kind // by format
}

// A kind is the findings of one format.
type kind struct {
	n     int    // how many there are
	first string // text of the first
	more  int    // index in found of the finding that counts those not listed
}

func (f *findings) fault(readers, format string, args ...any) {
	f.add(Finding{Text: fmt.Sprintf(format, args...), Readers: readers}, format)
}

func (f *findings) remark(readers, format string, args ...any) {
	f.add(Finding{Remark: true, Text: fmt.Sprintf(format, args...), Readers: readers}, format)
}

// add lists a finding, or counts it if there are too many of its kind.
func (f *findings) add(n Finding, format string) {
	if f.kinds == nil {
		f.kinds = make(map[string]*kind)
	}
	k := f.kinds[format]
	if k == nil {
		k = &kind{first: n.Text}
		f.kinds[format] = k
	}
	k.n++
	if k.n > maxOfKind {
		n.Text = fmt.Sprintf("%d more like this: %s", k.n-maxOfKind, k.first)
		if k.n > maxOfKind+1 {
			f.found[k.more].Text = n.Text
			return
		}
		k.more = len(f.found)
	}
	f.found = append(f.found, n)
}
