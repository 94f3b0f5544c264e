package plan

import (
	"context"
	"io"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

const (
	// BufSize is the size of the buffer that copies go through. A pipe holds 64
	// KiB by default, and 1 MiB at most.
	BufSize = 256 << 10
	// MaxHead bounds what a stream's headers and notes may take, all of which
	// is kept until the notes are known. The largest seen are 3.7 MB (65,801
	// program headers) and 48 MB (device dumps, NT_VMCOREDD).
	MaxHead = 64 << 20
)

// A Streamer writes a layout's pieces while it reads the original once, from
// its start.
type Streamer struct {
	Ctx context.Context
	W   io.Writer
	R   io.Reader
	In  int64 // bytes taken from R
	Buf []byte

	Pipe *splicer // moves what comes after the first Kept bytes; nil if it cannot
	Kept int64
}

// Run writes all pieces. It ends without an error where the original does.
func (s *Streamer) Run(l *Layout) error {
	for p := range l.All() {
		err := s.Piece(p)
		if errors.Is(err, io.EOF) {
			return nil // the caller knows whether it came too early
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Piece writes one piece.
func (s *Streamer) Piece(p Piece) error {
	switch {
	case p.Err != nil:
		return p.Err
	case len(p.Lit) > 0:
		_, err := s.W.Write(p.Lit)
		return err
	case p.Zero > 0:
		_, err := io.CopyBuffer(s.W, io.LimitReader(ZeroReader{}, p.Zero), s.Buf)
		return err
	case p.From != nil:
		n, err := io.CopyBuffer(OnlyWriter{s.W}, io.NewSectionReader(p.From, p.Src, p.N), s.Buf)
		if err == nil && n < p.N {
			err = errors.Wrapf(ErrChanged, "the file ends at %#x", p.Src+n)
		}
		return err
	}
	if err := s.Skip(p.Src); err != nil {
		return err
	}
	if p.Mend == nil {
		return s.Copy(p.N)
	}
	// A table, a bufferful of whole entries at a time.
	for n := p.N; n > 0; {
		b := s.Buf[:min(n, int64(len(s.Buf))/p.Entry*p.Entry)]
		k, err := io.ReadFull(s.R, b)
		s.In += int64(k)
		for e := b[:k]; int64(len(e)) >= p.Entry; e = e[p.Entry:] {
			p.Mend(e)
		}
		if _, err := s.W.Write(b[:k]); err != nil {
			return err
		}
		if err != nil {
			return EndOf(err)
		}
		n -= int64(k)
	}
	return nil
}

// Copy passes n bytes on.
func (s *Streamer) Copy(n int64) error {
	for n > 0 {
		if s.Ctx.Err() != nil {
			return context.Cause(s.Ctx)
		}
		k, err := s.pass(n)
		s.In += k
		n -= k
		if err != nil {
			return err
		}
	}
	return nil
}

// pass passes on up to n bytes, and returns how many.
func (s *Streamer) pass(n int64) (int64, error) {
	if s.Pipe != nil && s.In >= s.Kept {
		k, err := s.Pipe.move(n)
		if !errors.Is(err, unix.EINVAL) {
			return k, err
		}
		s.Pipe = nil // neither end is a pipe
	}
	k, err := s.R.Read(s.Buf[:min(n, int64(len(s.Buf)))])
	if _, err := s.W.Write(s.Buf[:k]); err != nil {
		return int64(k), err
	}
	return int64(k), err
}

// Skip drops what lies before offset off of the original: old notes, or zeros
// that the new notes replace.
func (s *Streamer) Skip(off int64) error {
	n, err := io.CopyBuffer(OnlyWriter{io.Discard}, io.LimitReader(s.R, off-s.In), s.Buf)
	s.In += n
	if err == nil && s.In < off {
		err = io.EOF
	}
	return err
}

// EndOf turns [io.ErrUnexpectedEOF] into [io.EOF].
func EndOf(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

// OnlyWriter hides ReadFrom, which would not use our buffer.
type OnlyWriter struct{ io.Writer }

// A ZeroReader reads as zeros without end.
type ZeroReader struct{}

func (ZeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
