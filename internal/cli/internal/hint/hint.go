// Package hint tells a person the cure for an error, in a few words. A cure
// that depends on the command has a line for each; package cli prints the first
// that names no flag the command lacks.
package hint

import (
	"context"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/source"
	"vmcsnote/internal/unpack"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A hinted error knows its cure.
type hinted interface{ Hint() string }

// With is err with its cure.
func With(err error, cure string) error { return hintedError{err, cure} }

type hintedError struct {
	error
	cure string
}

func (e hintedError) Hint() string  { return e.cure }
func (e hintedError) Unwrap() error { return e.error }

// publishIt is the cure for a running kernel that publishes nothing.
const publishIt = "install a file of this processor with vmcsnote layouts --install, or modprobe vmcsinfo, of the package vmcsinfo-dkms"

// Of returns the cure for an error, or "".
func Of(err error) string {
	var own hinted
	var dev *physmem.Error
	var kind vmcore.NotCoreError
	var missing unpack.NoProgram
	var left *guest.LeftOutError
	switch {
	case errors.As(err, &own) && own.Hint() != "":
		return own.Hint()
	case sourceHint(err) != "":
		return sourceHint(err)
	case errors.As(err, &dev) && deviceHint(dev) != "":
		return deviceHint(dev)
	case errors.Is(err, vmcore.ErrOnePass):
		return "save the stream to a file, and give that"
	case errors.Is(err, source.ErrNone):
		return "no released kernel publishes VMCSINFO; give --blob, --pair or --record\n" +
			"give --layout with a file of a host with the same processor and microcode\n" + publishIt
	case errors.Is(err, elfnote.ErrBlob):
		return "a blob, and the memory that a pair leads to, is one complete VMCSINFO note, or the text that begins with REVISION_ID="
	case errors.As(err, &kind) && Dumps[kind.Kind] != "":
		return Dumps[kind.Kind]
	case errors.Is(err, vmcore.ErrTooManyRecords):
		return "put the dump together with makedumpfile -R first"
	case errors.Is(err, vmcore.ErrNoPTNote):
		return fewNotes
	case errors.As(err, &missing):
		return "install the package " + missing.Package()
	case errors.Is(err, vmcore.ErrNotCore):
		return "vmcsnote takes what the kernel (/proc/vmcore), makedumpfile and QEMU's dump-guest-memory write, and raw memory with --raw\n" +
			"vmcsnote takes what the kernel (/proc/vmcore), makedumpfile and QEMU's dump-guest-memory write"
	case errors.Is(err, vmcore.ErrBusy):
		return "wait until it has ended"
	case errors.Is(err, vmcore.ErrExists):
		return "--force replaces it\nname a file that does not exist yet"
	case errors.Is(err, vmcore.ErrBlockDevice):
		return "--force writes to it"
	case errors.Is(err, inputfile.ErrFIFO):
		return "write what comes out of it to a file first"
	case errors.Is(err, vmcore.ErrSameFile):
		return "leave -o out to change the core in place"
	case errors.Is(err, vmcore.ErrReadOnly):
		return "run as root, or as its owner after chmod u+w, or write a copy with -o"
	case errors.Is(err, vmcore.ErrNoPlace):
		return "write a copy with -o, on a file system that has the room"
	case errors.As(err, &left):
		return leftOutHints[left.Mark]
	case errors.Is(err, vmcore.ErrTruncated):
		return "the dump is not complete: find out why its writer ended"
	case errors.Is(err, vmcore.ErrChanged):
		return "wait until whoever writes the dump has ended (makedumpfile, cp), then try again"
	case errors.Is(err, context.Canceled):
		return "stopped by a signal: the core is as it was; a copy written to a pipe is not whole"
	}
	return fileHint(err)
}

// leftOutHints are the cures for a dump that lacks KVM's structures.
var leftOutHints = map[guest.SlabMark]string{
	guest.SlabFlag: "dump with a makedumpfile that knows this kernel, or without 8 in the dump level (-d 23)",
	guest.SlabType: "dump with makedumpfile 1.7.6 or later, or without 8 in the dump level (-d 23): older ones take kernel memory of Linux 6.10 and later for user memory",
	guest.SlabInfo: "dump with a makedumpfile later than 1.7.8, or without 8 in the dump level (-d 23): older ones take kernel memory of Linux 7.1 and later for user memory",
}

// sourceHint returns the cure for an error of package source, or "".
func sourceHint(err error) string {
	var pair *source.PairError
	var refuted source.RefutedError
	var several source.SeveralError
	var missing source.NotInMemoryError
	var layout *source.NoLayoutError
	switch {
	case errors.As(err, &pair):
		return pairHint(pair)
	case errors.As(err, &refuted):
		return "to take one all the same, give --pair"
	case errors.As(err, &several):
		return "take one of them with --pair"
	case errors.As(err, &layout) && layout.Microcode():
		return "find out the layout anew with this microcode, or take that file with --any-microcode\nfind out the layout anew with this microcode\n"
	case errors.As(err, &missing) && missing.Name != elfnote.VMCSInfo:
		return "give --blob or --pair"
	}
	return ""
}

// pairHint is the one place's cure if only one was asked for.
func pairHint(err *source.PairError) string {
	if len(err.Failed) == 1 {
		if cure := Of(err.Failed[0]); cure != "" {
			return cure
		}
	}
	for _, f := range err.Failed {
		if f.Place == source.InDump && !errors.Is(f, source.ErrStream) {
			return "--search looks for the note in all of the core's memory, --blob takes it from a file"
		}
	}
	return "--blob takes the note from a file\n"
}
