package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"

	"github.com/pkg/errors"
)

const (
	// flatRecord is how many bytes makedumpfile writes at a time.
	flatRecord = 64 << 10
	flatHeader = 4096
)

// flatten writes a dump as makedumpfile -F does: a header, then records of a
// file offset, a size and that many bytes, then an end marker.
func flatten(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return errors.WithStack(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return errors.WithStack(err)
	}
	defer out.Close()
	w := bufio.NewWriterSize(out, 1<<20) // keeps its first error
	big := binary.BigEndian
	head := make([]byte, flatHeader)
	copy(head, "makedumpfile")
	big.PutUint64(head[16:], 1) // type
	big.PutUint64(head[24:], 1) // version
	w.Write(head)
	b := make([]byte, flatRecord)
	for off := uint64(0); ; {
		n, err := io.ReadFull(in, b)
		if n > 0 {
			w.Write(big.AppendUint64(big.AppendUint64(nil, off), uint64(n)))
			w.Write(b[:n])
			off += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return errors.WithStack(err)
		}
	}
	const end = 1<<64 - 1 // -1
	w.Write(big.AppendUint64(big.AppendUint64(nil, end), end))
	if err := w.Flush(); err != nil {
		return errors.WithStack(err)
	}
	return errors.WithStack(out.Sync())
}
