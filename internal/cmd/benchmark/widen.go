package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"os"

	"github.com/pkg/errors"
)

// widen makes the kdump-compressed dump at path one of a machine with size
// bytes of memory, by longer bitmaps: makedumpfile left all of the added pages
// out. It is a little-endian dump of a 64-bit machine with pages of 4 KiB.
func widen(path string, size int64) error {
	const (
		subHdrBlocks = 432 // offsets of the fields in the header
		bitmapBlocks = 436
		maxMapnr32   = 440
		maxMapnr64   = blockSize + 96 // in the sub header
		descSize     = 24
	)
	f, err := os.Open(path)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	head := make([]byte, maxMapnr64+8)
	if _, err := f.ReadAt(head, 0); err != nil {
		return errors.Wrap(err, path)
	}
	little := binary.LittleEndian
	bitmaps := blockSize * (1 + int64(little.Uint32(head[subHdrBlocks:])))
	half := blockSize * int64(little.Uint32(head[bitmapBlocks:])) / 2
	wide := size / blockSize / 8
	descs := bitmaps + 2*half
	front := make([]byte, descs)
	if _, err := f.ReadAt(front, 0); err != nil {
		return errors.Wrap(err, path)
	}
	pages := 0
	for _, b := range front[bitmaps+half:] {
		pages += bits.OnesCount8(b)
	}
	table := make([]byte, pages*descSize)
	if _, err := f.ReadAt(table, descs); err != nil {
		return errors.Wrap(err, path)
	}
	for d := table; len(d) > 0; d = d[descSize:] {
		little.PutUint64(d, little.Uint64(d)+uint64(2*(wide-half)))
	}
	little.PutUint32(front[bitmapBlocks:], uint32(2*wide/blockSize))
	little.PutUint32(front[maxMapnr32:], uint32(size/blockSize))
	little.PutUint64(front[maxMapnr64:], uint64(size/blockSize))

	out, err := os.Create(path + ".wide")
	if err != nil {
		return errors.WithStack(err)
	}
	defer out.Close()
	data := descs + int64(len(table))
	for _, part := range []struct {
		r  io.Reader
		at int64
	}{
		{bytes.NewReader(front[:bitmaps+half]), 0},
		{bytes.NewReader(front[bitmaps+half:]), bitmaps + wide},
		{bytes.NewReader(table), bitmaps + 2*wide},
		{io.NewSectionReader(f, data, math.MaxInt64-data), data + 2*(wide-half)},
	} {
		if _, err := io.Copy(io.NewOffsetWriter(out, part.at), part.r); err != nil {
			return errors.WithStack(err)
		}
	}
	return errors.WithStack(os.Rename(out.Name(), path))
}
