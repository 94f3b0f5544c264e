package source

import (
	"vmcsnote/guest"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// A Notice is something that a person should know about the way to a note: one
// of the types below.
type Notice any

// NotUsed: a source exists and was passed over.
type NotUsed struct {
	Path string
	// Err is why it cannot be used, or why nothing tells whether this is a
	// capture kernel.
	Err error
	// Capture: it is, or may be, the capture kernel's.
	Capture bool
	// OfKernel is the release that it is of, Release that of the dump.
	OfKernel, Release string
}

// Failed: a source was tried in vain.
type Failed struct{ Err error }

// OfThisMachine: the note is not out of the dump, but of the machine at hand.
type OfThisMachine struct{}

// Shortfall is the memory that the dump lacks, before a search.
type Shortfall vmcore.Shortfall

// Unsearched: pages of the dump could not be read.
type Unsearched struct {
	Pages int
	First error
}

// More notes are in memory that were not looked at.
type More struct {
	N    int
	Name string
}

// Searched: the search that had progress is over.
type Searched struct{}

// Candidates are the notes found, if there is more than one to choose from.
// Found, if not nil, is what VMCSs they explain.
type Candidates struct {
	Name  string
	Notes []guest.FoundNote
	Found *vmcs.Result
}

// Disputed: another layout explains VMCSs, too.
type Disputed struct {
	Dispute vmcs.Dispute
	Notes   []guest.FoundNote
}
