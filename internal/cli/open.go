package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/unpack"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// A form is how a file is opened: [vmcore.Open] for the notes of a dump,
// [vmcore.OpenMemory] or [vmcore.OpenRaw] for its memory alone.
type form func(io.ReaderAt, int64) (vmcore.Core, error)

// rawForm opens raw memory. It refuses a compressed file, so that open unpacks
// it.
func rawForm(r io.ReaderAt, size int64) (vmcore.Core, error) {
	if kind := vmcore.Identify(r); compressions[kind] != "" {
		return nil, vmcore.NotCoreError{Kind: kind}
	}
	return vmcore.OpenRaw(r, size)
}

// open opens a file for reading. It unpacks a compressed one to a file without
// a name: commands read here and there in a dump. If whole is false, a file
// that is cut off or damaged is read as far as it goes, with a warning.
func (e *env) open(ctx context.Context, path string, as form, whole bool) (*vmcore.File, error) {
	f, err := vmcore.OpenFileAs(path, as)
	var not vmcore.NotCoreError
	if !errors.As(err, &not) || compressions[not.Kind] == "" || e.packed {
		return f, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := e.unpackFile(ctx, path, in, not.Kind, as, whole)
	if err != nil {
		return nil, named(path, err)
	}
	return vmcore.OpenUnpacked(out, path, as)
}

const (
	unpackChunk = 1 << 20
	// spaceEvery is how many bytes are written between looks at the room left.
	spaceEvery = 16 << 20
	// maxReserve bounds the room that unpacking leaves to others: a twentieth
	// of the file system, or this.
	maxReserve = 1 << 30
	// maxUnpacked bounds the file. A bomb of zeros takes no room, but time.
	maxUnpacked = 1 << 46
)

// unpackFile unpacks a dump to a new file without a name. Pages of zeros become
// holes. It fails before the file system is full, and at once if the file does
// not begin as a dump does.
func (e *env) unpackFile(ctx context.Context, path string, in *os.File, kind vmcore.Kind, as form, whole bool) (*os.File, error) {
	compression := compressions[kind]
	counted := &progressReader{in: in, show: e.Progress("unpacking " + path)}
	if info, err := in.Stat(); err == nil {
		counted.size = info.Size()
	}
	r, err := unpack.NewReader(compression, counted)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	buf := make([]byte, unpackChunk)
	n, err := fill(r, buf)
	if n == 0 && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if _, err := as(bytes.NewReader(buf[:n]), int64(n)); errors.Is(err, vmcore.ErrNotCore) {
		return nil, errors.Wrapf(err, "in %s", kind)
	}
	out, dir, err := unnamedFile(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	e.Say("%s is %s: unpacking it to an unnamed file in %s, which has %s free; TMPDIR names another directory",
		message.Name(path), kind, message.Name(dir), message.Size(roomOf(out).left))
	w := &sparseWriter{f: out, dir: dir}
	for {
		if werr := w.write(buf[:n]); werr != nil {
			out.Close()
			return nil, werr
		}
		if err != nil {
			break
		}
		if ctx.Err() != nil {
			out.Close()
			return nil, context.Cause(ctx)
		}
		n, err = fill(r, buf)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	} else if !whole {
		e.Say("warning: %s is cut off or damaged (%v): only the part before that is read", message.Name(path), err)
		err = nil
	} else {
		err = errors.Wrap(err, "cut off or damaged")
	}
	if err == nil {
		err = out.Truncate(w.size)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	e.ProgressOver()
	return out, nil
}

// A stream is standard input, unpacked if it is compressed. If that is cut off
// or damaged the stream ends there, so that a copy keeps what came before.
type stream struct {
	io.Reader
	io.Closer
	damage *error
}

// An unpackedStream turns an error after the first bytes into the end.
type unpackedStream struct {
	io.ReadCloser
	some   bool
	damage error
}

func (u *unpackedStream) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	u.some = u.some || n > 0
	if err != nil && !errors.Is(err, io.EOF) && u.some {
		u.damage, err = err, io.EOF
	}
	return n, err
}

// sound reads what follows the dump: checksums come last.
func (s stream) sound() error {
	if s.damage == nil {
		return nil
	}
	io.Copy(io.Discard, io.LimitReader(s.Reader, unpackChunk))
	return errors.Wrap(*s.damage, "the compressed stream is cut off or damaged: the part before that was written")
}

// unpackStream looks at standard input, and unpacks it if it is compressed.
// With --pass-through it must be passed on as it is.
func (f *changeFlags) unpackStream(e *env) (stream, error) {
	p := vmcore.Peek(e.stdin)
	kind := p.Kind()
	if compressions[kind] == "" || f.passOn {
		return stream{Reader: p, Closer: io.NopCloser(nil)}, nil
	}
	e.Say("standard input is %s: unpacking it", kind)
	r, err := unpack.NewReader(compressions[kind], p)
	if err != nil {
		return stream{}, err
	}
	u := &unpackedStream{ReadCloser: r}
	return stream{u, u, &u.damage}, nil
}

// fill reads until b is full, or there is an error, io.EOF among them.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

// unnamedFile creates a file without a name, in TMPDIR if that is set, or else
// beside the dump, or in /var/tmp if nothing can be written there.
func unnamedFile(beside string) (f *os.File, dir string, err error) {
	dirs := []string{beside, "/var/tmp"}
	if t := os.Getenv("TMPDIR"); t != "" {
		dirs = []string{t}
	}
	for _, dir = range dirs {
		var fd int
		fd, err = unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), dir), dir, nil
		}
		if f, err = os.CreateTemp(dir, ".vmcsnote-unpacked-*"); err == nil {
			return f, dir, os.Remove(f.Name())
		}
	}
	return nil, dir, err
}

// A room is how much of a file system is free, and its size, in bytes.
type room struct{ left, total int64 }

// roomOf returns the room on the file system of f. If that is unknown, there is
// enough.
func roomOf(f *os.File) room {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return room{1 << 62, 1 << 62}
	}
	return room{int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)}
}

// A sparseWriter writes a file, with holes for pages of zeros.
type sparseWriter struct {
	f       *os.File
	dir     string
	size    int64
	written int64 // since roomOf was asked last
}

func (w *sparseWriter) write(b []byte) error {
	const page = 4096
	if w.size > maxUnpacked {
		return errors.Errorf("it unpacks to more than %s", message.Size(maxUnpacked))
	}
	for len(b) > 0 {
		p := b[:min(len(b), page)]
		if !physmem.AllZero(p) {
			if _, err := w.f.WriteAt(p, w.size); err != nil {
				return noRoom{w.dir, w.size, err}
			}
			w.written += int64(len(p))
		}
		w.size += int64(len(p))
		b = b[len(p):]
	}
	if w.written < spaceEvery {
		return nil
	}
	w.written = 0
	if r := roomOf(w.f); r.left < min(r.total/20, maxReserve) {
		return noRoom{w.dir, w.size, unix.ENOSPC}
	}
	return nil
}

// noRoom means that the unpacked file does not fit.
type noRoom struct {
	dir  string
	size int64
	err  error
}

func (e noRoom) Error() string {
	return fmt.Sprintf("only %s could be unpacked to %s: %v", message.Size(e.size), message.Name(e.dir), e.err)
}

func (e noRoom) Unwrap() error { return e.err }

func (e noRoom) Hint() string {
	return "set TMPDIR to a directory with more room; the unpacked part is gone"
}

// A progressReader tells how far a file has been read.
type progressReader struct {
	in         io.Reader
	size, done int64
	show       func(done, total int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	if p.done += int64(n); p.show != nil {
		p.show(p.done, p.size)
	}
	return n, err
}

// compressions are the kinds of files that are unpacked unasked, by the names
// that internal/unpack has for them.
var compressions = map[vmcore.Kind]string{
	vmcore.KindGzip:  "gzip",
	vmcore.KindBzip2: "bzip2",
	vmcore.KindXZ:    "xz",
	vmcore.KindZstd:  "zstd",
	vmcore.KindLZ4:   "lz4",
	vmcore.KindLZOP:  "lzo",
	vmcore.KindLZMA:  "lzma",
}
