package vmcore

import (
	"vmcsnote/internal/inputfile"
	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// What the containers and the planner share is internal. These are the parts of
// it that callers meet.
type (
	// A Placement is where the grown notes of a core go.
	Placement = plan.Placement
	// A Layout lists what a changed copy of a core consists of: its Size, in
	// bytes, and Shift, by how many bytes memory moved. String prints it.
	Layout = plan.Layout
	// An InPlace is a planned change of a core where it lies. String prints its
	// steps; [Plan] carries it out.
	InPlace = plan.InPlace
	// A Finding is something in a core that a reader cannot handle: Text tells
	// what, Readers which and how. It is a Remark if every core of the same
	// writer is so, and otherwise a fault of this core.
	Finding = plan.Finding
	// An Extent is a part of a file: Size bytes at Off.
	Extent = plan.Extent
	// PFNs are page frame numbers from Start up to End, which is not among
	// them.
	PFNs = kdump.PFNs
	// A FileError is an error about a file: its Path, and Err. Methods of
	// [File] return one, or an [fs.PathError].
	FileError = inputfile.Error
	// A FormatError says what is wrong with a dump, and where: Off is the
	// offset in the file, What the field, Found and Want what is there and what
	// was expected.
	FormatError = plan.FormatError
)

// The placements, cheapest first.
const (
	Slack = plan.Slack // into the zero bytes after the notes
	End   = plan.End   // to the end of a kdump-compressed dump; in an ELF core, where they are at the end
	Clone = plan.Clone // a new file that shares the old one's blocks, renamed over it
	Split = plan.Split // into the room of the first pages of the first PT_LOAD, which move to the end of the file as one more
	Evict = plan.Evict // into the room of the first PT_LOADs, which move to the end of the file
	Copy  = plan.Copy  // a new file, renamed over the old one
)

var (
	// ErrNotCore: the file is no dump of a known kind.
	ErrNotCore = plan.ErrNotCore
	// ErrExcluded: the dump knows this memory, but whoever wrote the dump left
	// it out (makedumpfile -d).
	ErrExcluded = plan.ErrExcluded
	// ErrOtherPiece: the memory is in another piece of the split dump, if
	// anywhere.
	ErrOtherPiece = plan.ErrOtherPiece
	// ErrTruncated: the file ends before what its headers claim.
	ErrTruncated = plan.ErrTruncated
	// ErrNoMemory: no PT_LOAD covers this physical address.
	ErrNoMemory = plan.ErrNoMemory
	// ErrNoPlace: the change cannot be made in place under the restrictions
	// given.
	ErrNoPlace = plan.ErrNoPlace
	// ErrOnePass: the dump can be changed in a file, but not in a stream.
	ErrOnePass = plan.ErrOnePass
	// ErrChanged: the core changed while it was read or planned for.
	ErrChanged = plan.ErrChanged
)
