package vmcore

import (
	"github.com/pkg/errors"

	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
)

var (
	// ErrNoPiece: the file is not one of several that make up a dump.
	ErrNoPiece = errors.New("not a piece of a split dump")
	// ErrNoPTNote: an ELF core has no PT_NOTE. [OpenMemory] opens it.
	ErrNoPTNote = elfcore.ErrNoPTNote
	// ErrTooManyRecords: the index of a flattened dump would take too much
	// memory.
	ErrTooManyRecords = flat.ErrTooManyRecords
	// ErrReadOnly: the file's permissions do not let it be written to, so only
	// a new file can take its place.
	ErrReadOnly = errors.New("the file may not be written to")
	// ErrBusy: another process holds the lock on the core.
	ErrBusy = errors.New("another vmcsnote is changing it")
	// ErrSameFile: input and output are one file.
	ErrSameFile = atomicfile.ErrSameFile
	// ErrExists: the output file is there already.
	ErrExists = atomicfile.ErrExists
	// ErrBlockDevice: the output is a block device, and may not be overwritten.
	ErrBlockDevice = atomicfile.ErrBlockDevice
)
