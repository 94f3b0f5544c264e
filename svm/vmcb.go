// Package svm knows the VMCB (virtual machine control block), the page in which
// an AMD processor keeps the state of one virtual CPU. AMD documents its layout
// (APM volume 2, appendix B), so no note is needed to read one, and nothing has
// to be searched for: the hypervisor's own structures lead to it.
//
// A VMCB has a control area and a state save area. Fields are named as Linux
// spells them in struct vmcb_control_area and vmcb_save_area, such as
// "control.exit_code" and "save.rip"; see [Fields].
//
// A VMCB comes from a dump and is hostile: any value is possible. [VMCB.Check]
// returns what the processor would refuse.
//
// The guest's state is in the save area unless its registers are encrypted
// (SEV-ES and SEV-SNP; see [VMCB.Encryption]): then the save area has nothing
// of the guest's.
package svm

import (
	"bytes"
	"encoding/binary"

	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

const (
	// PageSize is the size of a VMCB, and what its address is aligned to.
	PageSize = 4096
	// saveArea is where the state save area begins.
	saveArea = 0x400
)

// A VMCB is the page of one virtual CPU.
type VMCB struct {
	Addr uint64 // in physical memory
	page []byte // without the zeros at its end: there may be thousands of VMCBs
}

// Read reads the VMCB at a physical address.
func Read(r physmem.Reader, addr uint64) (*VMCB, error) {
	if addr%PageSize != 0 {
		return nil, errors.Errorf("VMCB at %#x: not aligned to a page", addr)
	}
	var page [PageSize]byte
	if _, err := r.ReadPhys(page[:], addr); err != nil {
		return nil, errors.WithMessagef(err, "VMCB at %#x", addr)
	}
	return New(addr, page[:])
}

// New returns the VMCB in page, which must have PageSize bytes.
func New(addr uint64, page []byte) (*VMCB, error) {
	if len(page) != PageSize {
		return nil, errors.Errorf("a VMCB has %d bytes, not %d", PageSize, len(page))
	}
	return &VMCB{addr, bytes.Clone(bytes.TrimRight(page, "\x00"))}, nil
}

// Page returns a copy of the bytes, PageSize of them.
func (v *VMCB) Page() []byte {
	page := make([]byte, PageSize)
	copy(page, v.page)
	return page
}

// Read returns a field's value.
//
//go:noinline
func (v *VMCB) Read(f Field) uint64 {
	var b [8]byte
	if f.Offset < 0 || f.Size < 0 || f.Size > len(b) || f.Offset+f.Size > PageSize {
		return 0
	}
	if f.Offset < len(v.page) {
		copy(b[:f.Size], v.page[f.Offset:])
	}
	return binary.LittleEndian.Uint64(b[:])
}
