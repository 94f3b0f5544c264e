package main

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"
)

// The layout of a kdump-compressed dump of header_version 6, 64-bit and
// little-endian, as package vmcore tells of it.
const (
	blockSize = 4096
	descSize  = 24

	subHdrBlocks = 432 // offsets of the fields in the header
	bitmapBlocks = 436
	maxMapnr32   = 440
	maxMapnr64   = blockSize + 96 // in the sub header

	flagZlib   = 0x1
	flagLZO    = 0x2
	flagSnappy = 0x4
	flagZstd   = 0x20

	// runPages is how many pages follow one another before a hole in memory.
	runPages = 256
	// distinct pages are compressed, and written over and over: enough that no
	// processor can predict the next one.
	distinct = 2048
)

var little = binary.LittleEndian

// A spec describes a dump.
type spec struct {
	method string // raw: the pages are a hole
	pages  int64
	hole   int64  // pages that memory lacks after each run
	head   []byte // a real dump: header, sub header and notes are taken over
	note   []byte // lies in the last pages
}

// A page is what the file holds of one.
type page struct {
	data  []byte
	flags uint32
}

// pfn returns the PFN of page i in the dump.
func (s *spec) pfn(i int64) int64 { return i + i/runPages*s.hole }

// make writes the dump.
func (s *spec) make(path string) error {
	if len(s.head) < maxMapnr64 {
		return errors.Errorf("%d bytes have no header", len(s.head))
	}
	bitmapOff := blockSize * (1 + int64(little.Uint32(s.head[subHdrBlocks:])))
	if int64(len(s.head)) < bitmapOff {
		return errors.Errorf("%d bytes have no sub header up to %#x", len(s.head), bitmapOff)
	}
	f, err := os.Create(path)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	mapnr := s.pfn(s.pages-1) + 1
	half := (mapnr + 8*blockSize - 1) / (8 * blockSize) * blockSize
	head := bytes.Clone(s.head[:bitmapOff])
	little.PutUint32(head[bitmapBlocks:], uint32(2*half/blockSize))
	little.PutUint32(head[maxMapnr32:], uint32(mapnr))
	little.PutUint64(head[maxMapnr64:], uint64(mapnr))
	if _, err := f.Write(head); err != nil {
		return errors.WithStack(err)
	}
	run := bytes.Repeat([]byte{0xff}, runPages/8)
	for i := int64(0); i < s.pages; i += runPages {
		for _, bitmap := range []int64{bitmapOff, bitmapOff + half} {
			if _, err := f.WriteAt(run[:min(runPages, s.pages-i)/8], bitmap+s.pfn(i)/8); err != nil {
				return errors.WithStack(err)
			}
		}
	}
	pages, err := s.compressed()
	if err != nil {
		return err
	}
	descOff := bitmapOff + 2*half
	off := descOff + s.pages*descSize
	descs := bufio.NewWriterSize(io.NewOffsetWriter(f, descOff), 1<<20)
	data := bufio.NewWriterSize(io.NewOffsetWriter(f, off), 1<<20)
	for i := range s.pages {
		p := s.page(i, pages)
		d := little.AppendUint64(nil, uint64(off))
		d = little.AppendUint32(d, uint32(len(p.data)))
		d = little.AppendUint32(d, p.flags)
		descs.Write(little.AppendUint64(d, 0)) // bufio keeps the first error for Flush
		if s.method != "raw" {
			data.Write(p.data)
		}
		off += int64(len(p.data))
	}
	if err := errors.WithStack(descs.Flush()); err != nil {
		return err
	}
	if err := errors.WithStack(data.Flush()); err != nil {
		return err
	}
	if err := f.Truncate(off); err != nil {
		return errors.WithStack(err)
	}
	return errors.WithStack(f.Sync())
}

// page returns page i of the dump: the note at the end, the pages over and over
// before it.
func (s *spec) page(i int64, pages []page) page {
	noted := (int64(len(s.note)) + blockSize - 1) / blockSize
	if at := i - (s.pages - noted); at >= 0 && s.method != "raw" {
		p := make([]byte, blockSize)
		copy(p, s.note[at*blockSize:])
		return page{p, 0}
	}
	return pages[i%int64(len(pages))]
}

// compressed compresses the distinct pages as makedumpfile does: with level 1,
// and pages that get no smaller stay as they are.
func (s *spec) compressed() ([]page, error) {
	if s.method == "raw" {
		return []page{{make([]byte, blockSize), 0}}, nil
	}
	squeeze, flags, err := compressor(s.method)
	if err != nil {
		return nil, err
	}
	pages := make([]page, distinct)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range pages {
		plain := memory(rnd)
		pages[i] = page{plain, 0}
		if small := squeeze(plain); len(small) < blockSize {
			pages[i] = page{small, flags}
		}
	}
	return pages, nil
}

func compressor(method string) (squeeze func([]byte) []byte, flags uint32, err error) {
	switch method {
	case "zlib":
		return func(p []byte) []byte {
			var b bytes.Buffer
			w, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed)
			w.Write(p) // into memory
			w.Close()
			return b.Bytes()
		}, flagZlib, nil
	case "zstd":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, 0, errors.WithStack(err)
		}
		return func(p []byte) []byte { return w.EncodeAll(p, nil) }, flagZstd, nil
	}
	return nil, 0, errors.Errorf("%q is no compression", method)
}

// memory makes a page as a kernel's memory has them: mostly objects of one type
// with pointers, counters, a name and much zero; text of messages;
// instructions; and few that do not compress.
func memory(rnd *rand.Rand) []byte {
	var b []byte
	switch kind := rnd.IntN(16); {
	case kind < 9:
		return slab(rnd)
	case kind < 11:
		for len(b) < blockSize {
			b = append(b, "<6>[    "...)
			b = digits(b, rnd, 9)
			for range 3 + rnd.IntN(6) {
				b = append(append(b, words[rnd.IntN(len(words))]...), ' ')
			}
			b = append(b, '\n')
		}
	case kind < 15:
		for len(b) < blockSize {
			b = append(b, opcodes[rnd.IntN(len(opcodes))]...)
			switch rnd.IntN(3) {
			case 0:
				b = append(b, byte(rnd.Uint32())&0x78)
			case 1:
				b = little.AppendUint32(b, rnd.Uint32()>>uint(12+rnd.IntN(12)))
			}
		}
	default:
		for len(b) < blockSize {
			b = little.AppendUint64(b, rnd.Uint64())
		}
	}
	return b[:blockSize]
}

// slab makes a page of objects of one type, in which a field has values of the
// same kind.
func slab(rnd *rand.Rand) []byte {
	fields := make([]int, 8<<rnd.IntN(4))
	for i := range fields {
		fields[i] = rnd.IntN(10)
	}
	b := make([]byte, 0, blockSize)
	for i := 0; len(b) < blockSize; i++ {
		v := uint64(0)
		switch fields[i%len(fields)] {
		case 0:
			v = 0xffff_8880_0400_0000 | uint64(rnd.Uint32()>>8)&^63 // into the direct map
		case 1:
			v = 0xffff_ffff_8100_0000 | uint64(i%len(fields))<<8 // a function
		case 2:
			v = uint64(rnd.IntN(64))
		case 3:
			v = 0xffff_8880_0400_0000 | uint64(i&^1)*8 // an empty list: points to itself
		}
		b = little.AppendUint64(b, v)
	}
	return b
}

func digits(b []byte, rnd *rand.Rand, n int) []byte {
	for range n {
		b = append(b, '0'+byte(rnd.IntN(10)))
	}
	return append(b, "] "...)
}

var (
	words = []string{"ACPI:", "pci", "0000:00:1f.2:", "reg", "[mem", "reserved]", "usb", "device", "irq", "enabled", "virtio_net",
		"clocksource:", "registered", "cpu", "microcode", "failed", "with", "error", "node", "zone", "memory", "eth0:", "link", "up"}
	opcodes = []string{"\x48\x89\xe5", "\x48\x8b\x45", "\x48\x83\xec", "\x0f\x1f\x44\x00\x00", "\xe8", "\x48\x8d\x3d", "\x85\xc0", "\x74",
		"\x75", "\x55", "\x5d\xc3", "\x41\x54", "\x41\x55", "\x31\xc0", "\x0f\xb6", "\x48\xc7\xc0", "\x65\x48\x8b\x04\x25", "\xcc\xcc\xcc"}
)
