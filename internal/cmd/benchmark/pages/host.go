package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/internal/x86"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// hostMemory is where the memory begins that a host is given besides its own.
const hostMemory = 4 << 30

// A hostSpec describes the dump of a KVM host.
type hostSpec struct {
	from  string // a real one, small or mostly holes, compressed by zstd or not
	pages int64  // memory besides, of noise
	crowd bool   // these pages begin with the revision identifier of the VMCSs
}

// make writes the dump. The machine of the highest VPID has most of that
// memory, at 1 GiB of its own, by EPT tables that lead there in runs of 16
// pages, all over the place: the last pages hold these.
func (s hostSpec) make(path string) error {
	c, raw, err := openPacked(s.from)
	if err != nil {
		return err
	}
	found, err := vmcs.Find(context.Background(), c, vmcs.Search{})
	if err != nil {
		return err
	}
	if len(found.VMCSs) == 0 {
		return errors.Errorf("%s: no VMCS", s.from)
	}
	tables := make(map[uint64][]byte)
	if !s.crowd {
		if tables, err = s.tables(c, last(c, found.VMCSs)); err != nil {
			return err
		}
	}
	return s.write(path, raw, tables, found.Layout.RevisionID)
}

// openPacked opens an ELF core that is compressed by zstd, or plain.
func openPacked(path string) (vmcore.Core, []byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, errors.WithStack(err)
	}
	raw := packed
	if !bytes.HasPrefix(packed, []byte(elf.ELFMAG)) {
		z, err := zstd.NewReader(nil)
		if err != nil {
			return nil, nil, errors.WithStack(err)
		}
		defer z.Close()
		if raw, err = z.DecodeAll(packed, nil); err != nil {
			return nil, nil, errors.Wrap(err, path)
		}
	}
	c, err := vmcore.Open(bytes.NewReader(raw), int64(len(raw)))
	return c, raw, errors.Wrap(err, path)
}

// last returns the machine that was created last.
func last(c vmcore.Core, found []*vmcs.Candidate) *guest.Machine {
	ms := guest.Machines(c, found)
	return ms[len(ms)-1]
}

// tables returns the EPT tables to be written, by address: one of the machine's
// own, changed, and those that come last in the new memory.
func (s hostSpec) tables(c vmcore.Core, m *guest.Machine) (map[uint64][]byte, error) {
	const present, run = 0x7, 16
	all := make(map[uint64][]byte)
	b := make([]byte, blockSize)
	if _, err := c.ReadPhys(b, x86.EPTP(m.EPTP).Root()); err != nil {
		return nil, err
	}
	top := little.Uint64(b) &^ 0xfff
	if _, err := c.ReadPhys(b, top); err != nil {
		return nil, err
	}
	all[top] = b
	usable := (s.pages - s.pages/512 - 2) / 512 * 512
	at := uint64(hostMemory + usable*blockSize)
	middle := make([]byte, blockSize)
	little.PutUint64(b[8:], at|present)
	all[at] = middle
	order := rand.New(rand.NewPCG(3, 4)).Perm(int(usable / run))
	for i := range usable / 512 {
		at += blockSize
		little.PutUint64(middle[8*i:], at|present)
		leaf := make([]byte, blockSize)
		for j := range int64(512) {
			n := i*512 + j
			page := int64(order[n/run])*run + n%run
			little.PutUint64(leaf[8*j:], uint64(hostMemory+page*blockSize)|present|6<<3)
		}
		all[at] = leaf
	}
	return all, nil
}

// write writes the real dump with the new memory after it, and room for a note.
func (s hostSpec) write(path string, raw []byte, tables map[uint64][]byte, id uint32) error {
	f, err := os.Create(path)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	var head elf.Header64
	var progs []elf.Prog64
	if err := binary.Read(bytes.NewReader(raw), little, &head); err != nil {
		return errors.WithStack(err)
	}
	progs = make([]elf.Prog64, head.Phnum, head.Phnum+1)
	if err := binary.Read(bytes.NewReader(raw[head.Phoff:]), little, progs); err != nil {
		return errors.WithStack(err)
	}
	for addr, b := range tables {
		for _, p := range progs {
			if p.Type == uint32(elf.PT_LOAD) && p.Paddr <= addr && addr < p.Paddr+p.Filesz {
				copy(raw[p.Off+addr-p.Paddr:], b)
			}
		}
	}
	memory := uint64(s.pages) * blockSize
	progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 7, Paddr: hostMemory, Vaddr: 0xffff888000000000 + hostMemory, Filesz: memory, Memsz: memory})
	head.Phoff, head.Phnum, head.Shoff, head.Shnum = 64, uint16(len(progs)), 0, 0
	const room = 16 << 10
	off := (uint64(64+56*len(progs)) + blockSize - 1) &^ (blockSize - 1)
	w := bufio.NewWriterSize(f, 1<<20) // keeps its first error
	var data []io.Reader
	for i := range progs {
		p := &progs[i]
		if i < len(progs)-1 {
			data = append(data, bytes.NewReader(raw[p.Off:p.Off+p.Filesz]))
		}
		p.Off = off
		next := (off + p.Filesz + blockSize - 1) &^ (blockSize - 1)
		if p.Type == uint32(elf.PT_NOTE) {
			next += room
		}
		if i < len(progs)-1 {
			data = append(data, bytes.NewReader(make([]byte, next-off-p.Filesz)))
		}
		off = next
	}
	binary.Write(w, little, head)
	binary.Write(w, little, progs)
	w.Write(make([]byte, progs[0].Off-uint64(64+56*len(progs))))
	if _, err := io.Copy(w, io.MultiReader(data...)); err != nil {
		return errors.WithStack(err)
	}
	noise := rand.NewChaCha8([32]byte{2})
	page := make([]byte, blockSize)
	for i := range s.pages {
		noise.Read(page)
		if s.crowd {
			little.PutUint64(page, uint64(id)) // no VMX abort
		}
		if b, ok := tables[uint64(hostMemory+i*blockSize)]; ok {
			copy(page, b)
		}
		w.Write(page)
	}
	if err := w.Flush(); err != nil {
		return errors.WithStack(err)
	}
	return errors.WithStack(f.Sync())
}
