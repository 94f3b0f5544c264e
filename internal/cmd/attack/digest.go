//go:build linux && amd64

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/sparse"
	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A digest stands for all that a change of the notes must keep, and says
// whether there is VMCSINFO, which it may change.
type digest struct {
	notes  [sha256.Size]byte // all but VMCSINFO
	memory [sha256.Size]byte // its ranges, its bytes, and where it cannot be read
	faults int
	note   bool // VMCSINFO is there
}

// same reports whether two dumps differ in VMCSINFO at most. A change may mend
// a fault, but not make one.
func (d digest) same(old digest) bool {
	return d.notes == old.notes && d.memory == old.memory && d.faults <= old.faults
}

// maxMemory bounds the memory that a digest reads, in bytes: a mutated header
// can claim the same bytes of a file many times.
const maxMemory = 64 << 20

// digestOf reads all of the dump in r.
func digestOf(r io.ReaderAt, size int64) (digest, error) {
	var d digest
	c, err := vmcore.Open(r, size)
	if err != nil {
		return d, err
	}
	h := sha256.New()
	for i, n := range c.Notes().Notes {
		if n.Name == elfnote.VMCSInfo {
			d.note = true
			continue
		}
		fmt.Fprintf(h, "%q %x %d\n", n.Name, n.Type, n.DescSize)
		if _, err := io.Copy(h, c.Notes().Desc(i)); err != nil {
			return d, err
		}
	}
	h.Sum(d.notes[:0])
	memoryDigest(c, &d)
	for _, f := range c.Verify() {
		if !f.Remark {
			d.faults++
		}
	}
	return d, nil
}

// memoryDigest sets d.memory.
func memoryDigest(m physmem.Memory, d *digest) {
	h := sha256.New()
	buf := make([]byte, 64<<10)
	left := uint64(maxMemory)
	for r := range m.Ranges() {
		fmt.Fprintf(h, "%x %x\n", r.Addr, r.Size)
		for off := uint64(0); off < r.Size && left > 0; {
			p := buf[:min(uint64(len(buf)), r.Size-off, left)]
			n, err := m.ReadPhys(p, r.Addr+off)
			h.Write(p[:n])
			if err != nil {
				fmt.Fprintf(h, "lost at %x\n", off+uint64(n))
				n = len(p) // what follows is another read's
			}
			off += uint64(n)
			left -= uint64(n)
		}
	}
	h.Sum(d.memory[:0])
}

// digestFile is digestOf for the file at path.
func digestFile(path string) (digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return digest{}, errors.WithStack(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return digest{}, errors.WithStack(err)
	}
	d, err := digestOf(f, info.Size())
	return d, errors.Wrap(err, path)
}

// load returns the golden core of that name.
func load(name string) (*sparse.Image, error) {
	dir, err := testcores.Dir()
	if err != nil {
		return nil, err
	}
	return testcores.Load(dir, name)
}

// bytesOf returns all bytes of the golden core of that name.
func bytesOf(name string) ([]byte, error) {
	im, err := load(name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, io.NewSectionReader(im, 0, im.Size()))
	return b.Bytes(), errors.WithStack(err)
}
