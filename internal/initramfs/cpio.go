package initramfs

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// The format newc is the only kind of cpio archive that the kernel takes. Each
// file has a header of ASCII digits, its name with a zero byte, zeros up to a
// multiple of 4 bytes, its contents, zeros again. The last name is TRAILER!!!.
const (
	magicSize  = 6
	headerSize = magicSize + 13*8
	trailer    = "TRAILER!!!"
)

// isNewc reports whether b begins with the magic of newc, with or without
// checksums.
func isNewc(b []byte) bool {
	return len(b) >= magicSize && (string(b[:magicSize]) == "070701" || string(b[:magicSize]) == "070702")
}

// A walker visits the files of archives.
type walker struct {
	visit func(File) error
	left  int64 // of maxUnpacked
}

// archives reads the bare archives that r is at, and the zeros between and
// after them, and stops before anything else.
func (w *walker) archives(r *bufio.Reader) error {
	a := archive{walker: w, r: r}
	for {
		switch b, err := r.Peek(magicSize); {
		case len(b) == 0 && errors.Is(err, io.EOF):
			return nil
		case len(b) > 0 && b[0] == 0:
			if err := a.zeros(); err != nil {
				return err
			}
		case isNewc(b) && a.at%4 == 0:
			if err := a.files(); err != nil {
				return errors.Wrapf(err, "at %#x", a.at)
			}
		case err != nil && !errors.Is(err, io.EOF):
			return err
		default:
			return nil
		}
	}
}

// An archive is one that is being read.
type archive struct {
	*walker
	r  *bufio.Reader
	at int64 // bytes read, which is what contents are aligned to
}

// files visits the files of one archive, to its trailer.
func (a *archive) files() error {
	for {
		f, err := a.next()
		if err != nil || f.Name == trailer {
			return err
		}
		body := io.LimitedReader{R: a.r, N: f.Size}
		f.Contents = &body
		f.Name = strings.TrimLeft(strings.TrimPrefix(f.Name, "./"), "/")
		if err := a.visit(f); err != nil {
			return err
		}
		a.count(f.Size - body.N)
		if err := a.skip(body.N); err != nil {
			return err
		}
		if err := a.align(); err != nil {
			return err
		}
	}
}

// next reads a file's header and name.
func (a *archive) next() (File, error) {
	var b [headerSize]byte
	if err := a.read(b[:]); err != nil {
		return File{}, err
	}
	if !isNewc(b[:]) {
		return File{}, errors.Wrapf(errFormat, "found %q, expected the header of a file in a cpio archive (newc)", b[:magicSize])
	}
	mode, err := number(b[:], 1)
	size, err2 := number(b[:], 6)
	nameSize, err3 := number(b[:], 11)
	for _, err := range []error{err, err2, err3} {
		if err != nil {
			return File{}, err
		}
	}
	if nameSize < 2 || nameSize > maxName {
		return File{}, errors.Wrapf(errFormat, "a name of %d bytes, expected 2 to %d", nameSize, maxName)
	}
	name := make([]byte, nameSize)
	if err := a.read(name); err != nil {
		return File{}, err
	}
	n, _, _ := strings.Cut(string(name), "\x00")
	if err := a.align(); err != nil {
		return File{}, err
	}
	if size > a.left {
		return File{}, errors.Wrapf(errTooLarge, "more than %d bytes unpacked", int64(maxUnpacked))
	}
	return File{Name: n, Mode: uint32(mode), Size: size}, nil
}

// number returns field i of a header, 8 hexadecimal digits.
func number(header []byte, i int) (int64, error) {
	digits := header[magicSize+8*i:][:8]
	n, err := strconv.ParseUint(string(digits), 16, 32)
	if err != nil {
		return 0, errors.Wrapf(errFormat, "found %q, expected 8 hexadecimal digits", digits)
	}
	return int64(n), nil
}

func (a *archive) read(b []byte) error {
	n, err := io.ReadFull(a.r, b)
	return a.took(int64(n), err)
}

func (a *archive) skip(n int64) error { return a.took(io.CopyN(io.Discard, a.r, n)) }

// took counts bytes that were read, unless there were too few.
func (a *archive) took(n int64, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	}
	return a.count(n)
}

// zeros skips the zero bytes at hand.
func (a *archive) zeros() error {
	b, _ := a.r.Peek(a.r.Buffered()) // which cannot fail
	return a.skip(int64(len(b) - len(bytes.TrimLeft(b, "\x00"))))
}

// align skips to the next multiple of 4 bytes.
func (a *archive) align() error { return a.skip(-a.at & 3) }

// count counts bytes that were read.
func (a *archive) count(n int64) error {
	a.at += n
	if a.left -= n; a.left < 0 {
		return errors.Wrapf(errTooLarge, "more than %d bytes unpacked", int64(maxUnpacked))
	}
	return nil
}
