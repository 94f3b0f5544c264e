package plan

import "fmt"

// A Finding is something in a core that a reader cannot handle.
type Finding struct {
	// Remark is set if every core by the same writer is so. Otherwise the
	// finding is a fault of this core.
	Remark bool
	// Text says what was found where, and what was expected.
	Text string
	// Readers are the programs that choke on it, and how.
	Readers string
}

// MaxOfKind is how many findings of one kind are listed. A core may have as
// many faulty program headers, sections or notes as its tables have entries.
const MaxOfKind = 10

// Findings collects what Verify finds.
type Findings struct {
	Found []Finding
	kinds map[string]*kind // by format
}

// A kind is the findings of one format.
type kind struct {
	n     int    // how many there are
	first string // text of the first
	more  int    // index in found of the finding that counts those not listed
}

// Fault adds what is wrong with this core.
func (f *Findings) Fault(readers, format string, args ...any) {
	f.add(Finding{Text: fmt.Sprintf(format, args...), Readers: readers}, format)
}

// Remark adds what every core of this writer is like.
func (f *Findings) Remark(readers, format string, args ...any) {
	f.add(Finding{Remark: true, Text: fmt.Sprintf(format, args...), Readers: readers}, format)
}

// add lists a finding, or counts it if there are too many of its kind.
func (f *Findings) add(n Finding, format string) {
	if f.kinds == nil {
		f.kinds = make(map[string]*kind)
	}
	k := f.kinds[format]
	if k == nil {
		k = &kind{first: n.Text}
		f.kinds[format] = k
	}
	k.n++
	if k.n > MaxOfKind {
		n.Text = fmt.Sprintf("%d more like this: %s", k.n-MaxOfKind, k.first)
		if k.n > MaxOfKind+1 {
			f.Found[k.more].Text = n.Text
			return
		}
		k.more = len(f.Found)
	}
	f.Found = append(f.Found, n)
}
