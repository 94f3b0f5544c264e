package guest

import (
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/vmcore"
)

// A LeftOutError means that pages of KVM's structures were left out of the
// dump. With -d 8, and so with -d 31, makedumpfile leaves out user memory; a
// makedumpfile that does not know the kernel mistakes pages of the kernel's
// slabs for user memory.
type LeftOutError struct {
	Err error
	// Mark is how the kernel tells its slabs from user memory, which
	// makedumpfile has to know.
	Mark SlabMark
}

// A SlabMark is how a kernel marks pages of its slabs.
type SlabMark uint8

const (
	// SlabFlag is PG_slab, until Linux 6.9.
	SlabFlag SlabMark = iota
	// SlabType is a page type, since Linux 6.10.
	SlabType
	// SlabInfo is SlabType, with page.compound_head called page.compound_info,
	// since Linux 7.1.
	SlabInfo
)

// Error returns Err's message.
func (e *LeftOutError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *LeftOutError) Unwrap() error { return e.Err }

// leftOut returns err, as a [*LeftOutError] if the page read is one that was
// left out.
func leftOut(err error, vmcoreinfo string) error {
	if !errors.Is(err, vmcore.ErrExcluded) {
		return err
	}
	e := &LeftOutError{Err: err}
	switch {
	case strings.Contains(vmcoreinfo, "OFFSET(page.compound_info)="):
		e.Mark = SlabInfo
	case strings.Contains(vmcoreinfo, "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)="):
		e.Mark = SlabType
	}
	return e
}
