package fakekvm

import (
	"encoding/binary"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
)

// ErrNoRAM is the error for memory that has no page.
var ErrNoRAM = errors.New("no memory there")

// A RAM is a physical memory whose pages are made as they are written to.
type RAM struct {
	Pages map[uint64][]byte // by address / x86.PageSize
}

// NewRAM returns memory without any pages.
func NewRAM() *RAM { return &RAM{Pages: make(map[uint64][]byte)} }

// ReadPhys implements physmem.Reader.
func (r *RAM) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		page, ok := r.Pages[at/x86.PageSize]
		if !ok {
			return n, errors.Wrapf(ErrNoRAM, "%#x", at)
		}
		n += copy(p[n:], page[at%x86.PageSize:])
	}
	return n, nil
}

// Page returns the page that has addr.
func (r *RAM) Page(addr uint64) []byte {
	p, ok := r.Pages[addr/x86.PageSize]
	if !ok {
		p = make([]byte, x86.PageSize)
		r.Pages[addr/x86.PageSize] = p
	}
	return p
}

// Word returns the word at addr.
func (r *RAM) Word(addr uint64) uint64 {
	return binary.LittleEndian.Uint64(r.Page(addr)[addr%x86.PageSize:])
}

// Put writes the word at addr, which lies in one page.
func (r *RAM) Put(addr, word uint64) {
	binary.LittleEndian.PutUint64(r.Page(addr)[addr%x86.PageSize:], word)
}
