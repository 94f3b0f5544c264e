package vmcs

// A Verdict classifies a candidate page.
type Verdict uint8

const (
	// Rejected: the page is no VMCS, or none by the layout.
	Rejected Verdict = iota
	// Shadow: a shadow VMCS, which a guest that is a hypervisor reads and writes
	// as its own VMCS without a VM exit. In that guest's memory (Search.Nested)
	// such a page is Live: it is the hypervisor's own.
	Shadow
	// Stale: the page was a virtual CPU's VMCS, but what it leads to is gone,
	// because the page has been freed.
	Stale
	// Live: it is a virtual CPU's.
	Live
)

var verdictNames = [...]string{"rejected", "shadow", "stale", "live"}

// String names the verdict.
func (v Verdict) String() string { return verdictNames[v] }

// A Candidate is a page that begins with a revision identifier that a layout
// has, and its classification.
type Candidate struct {
	VMCS
	Verdict Verdict
	// Score is the weight of all checks answered yes, minus that of those
	// answered no.
	Score int
	// Checks are all of them, with Search.Explain, for the best 1024 pages.
	Checks []Check

	rooted bool // HOST_CR3 leads to page tables
}

// A Trial is the result of trying one layout.
type Trial struct {
	Layout *Layout
	// From is the layout as the search was given it, or a built-in one.
	From *Layout
	// Matched pages began with its revision identifier; Live and Stale are
	// how many VMCSs it made of them, with Score points for the live ones.
	Matched, Live, Stale, Score int

	rooted int // points for those whose HOST_CR3 leads to page tables
	trust  trust
	short  bool // another explains far more
}

// A Result is what Find found.
type Result struct {
	// Layout is the one taken, a copy that says how access rights are
	// stored; nil where no VMCS was found.
	Layout *Layout
	// Trials are the layouts with pages to try them on, the one taken first,
	// the others by how well they fit. Where the second fits as well as the
	// first, which one is right cannot be told: see Ambiguous.
	Trials []Trial
	// VMCSs are the live ones, in order of address.
	VMCSs []*Candidate
	// Others are stale and shadow VMCSs and, with Search.Explain, the first
	// 256 of the rejected pages; in order of address.
	Others []*Candidate
	// Dropped is how many VMCSs beyond MaxVMCSs were left out.
	Dropped int
	// Pages is how many were looked at, Matched how many of them began with
	// a revision identifier that was looked for, Lost how many could not be
	// read: ReadError tells why the first could not.
	Pages, Matched, Lost uint64
	ReadError            error
	// Strangers are revision identifiers that no layout has, of pages that
	// look like VMCSs nevertheless, those of most pages first. Not with a note.
	Strangers []Stranger
}
