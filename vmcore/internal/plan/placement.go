// Package plan has what every container of dumps plans changes with: extents of
// a file, the steps of a change in place, the layout of a changed copy, where
// notes may go, and what is found wrong. It knows no container.
package plan

// Rules that every change in place keeps, and who forces them:
//
//   - one PT_NOTE, and no more program headers but PT_LOADs: crash takes every
//     header but the first for memory, makedumpfile takes the last PT_NOTE for
//     the notes;
//   - the notes below the lowest p_offset of a PT_LOAD: crash reads no further;
//   - the program header table where it was, or directly after the ELF header:
//     makedumpfile computes its place;
//   - at every moment the file is the old core or the new one, whichever write
//     is the last before the power fails. So bytes are written where nothing
//     refers to them, and synced; then one write within one sector switches to
//     them, and is synced. Only p_offsets may change many at a time, each of
//     which is good whether it is the old one or the new one.

// A Placement is where the grown notes of a core go.
type Placement string

// The placements, cheapest first.
const (
	Slack Placement = "slack" // into the zero bytes after the notes
	End   Placement = "end"   // to the end of a kdump-compressed dump, whose sub header says where notes are; in an ELF core, where they are at the end
	Clone Placement = "clone" // a new file that shares the old one's blocks, renamed over it
	Split Placement = "split" // into the room of the first pages of the first PT_LOAD, which move to the end of the file as one more PT_LOAD
	Evict Placement = "evict" // into the room of the first PT_LOADs, which move to the end of the file
	Copy  Placement = "copy"  // a new file, renamed over the old one
)
