package vmcore

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// A File is a core on disk.
type File struct {
	*Core
	f    *os.File
	path string      // with symbolic links resolved
	info fs.FileInfo // as it was when opened
}

// OpenFile opens a core for reading. The lock it takes lets others read, but
// keeps another vmcsnote from changing the core meanwhile.
func OpenFile(path string) (*File, error) {
	return openFile(path, os.O_RDONLY, syscall.LOCK_SH)
}

// OpenFileRW opens a core for changing it in place: only a regular file that
// its owner may write, and that nobody else is at work on ([ErrBusy]).
func OpenFileRW(path string) (*File, error) {
	return openFile(path, os.O_RDWR, syscall.LOCK_EX)
}

func openFile(path string, flag, lock int) (*File, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case info.IsDir():
		err = syscall.EISDIR
	case flag == os.O_RDWR && !info.Mode().IsRegular():
		err = errors.New("only a regular file can be changed in place")
	case flag == os.O_RDWR && info.Mode()&0o222 == 0:
		// root may write anything; whoever made a dump read-only meant it.
		err = errors.Wrapf(fs.ErrPermission, "mode %v", info.Mode())
	}
	var perr *fs.PathError
	if err != nil && !errors.As(err, &perr) {
		err = &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	o := &File{f: f}
	if o.path, err = filepath.EvalSymlinks(path); err != nil {
		f.Close()
		return nil, err
	}
	if err := o.open(lock); err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

func (o *File) open(lock int) error {
	switch err := syscall.Flock(int(o.f.Fd()), lock|syscall.LOCK_NB); err {
	case nil:
	case syscall.EWOULDBLOCK:
		return ErrBusy
	case syscall.ENOLCK, syscall.ENOTSUP, syscall.ENOSYS, syscall.EBADF, syscall.EINVAL:
		// A file system without locks, as in some initramfs.
	default:
		return errors.Wrap(err, "lock")
	}
	var err error
	if o.info, err = o.f.Stat(); err != nil {
		return err
	}
	// Who renamed a new core over the old one held the lock on the old one.
	if now, err := os.Stat(o.path); err != nil || !os.SameFile(now, o.info) {
		return errors.Wrap(ErrChanged, "replaced by another file while opening it")
	}
	size := o.info.Size()
	if !o.info.Mode().IsRegular() { // a block device: the raw target of a dump
		if size, err = o.f.Seek(0, io.SeekEnd); err != nil {
			return errors.Wrapf(err, "%v has no size", o.info.Mode())
		}
	}
	o.Core, err = Open(o.f, size)
	return err
}

// Close closes the file and gives the lock back.
func (o *File) Close() error { return o.f.Close() }

// unchanged makes sure that the file is as it was when its headers were read:
// makedumpfile may still be writing it.
func (o *File) unchanged() error {
	now, err := o.f.Stat()
	if err != nil {
		return err
	}
	if now.Size() != o.info.Size() {
		return errors.Wrapf(ErrChanged, "%#x bytes now, %#x when it was opened", now.Size(), o.info.Size())
	}
	if !now.ModTime().Equal(o.info.ModTime()) {
		return errors.Wrap(ErrChanged, "written to since it was opened")
	}
	return nil
}

// Options are what a caller may ask for of a change.
type Options struct {
	// Placement restricts where the notes of a core changed in place may go;
	// empty for the cheapest that is safe.
	Placement Placement
	// Overwrite lets a copy replace an existing output file.
	Overwrite bool
	// Progress, where not nil, is called with the bytes copied so far, and with
	// those to copy in all.
	Progress func(done, total int64)
}

// counter returns a function that adds up what is copied of total bytes.
func (o Options) counter(total int64) func(int64) {
	if o.Progress == nil {
		return func(int64) {}
	}
	var done int64
	return func(n int64) {
		done += n
		o.Progress(done, total)
	}
}

// A Plan is a planned change of a core in place: see [File.Plan].
type Plan struct {
	Placement Placement
	InPlace   *InPlace // for Slack and Evict
	Layout    *Layout  // for Clone and Copy

	file *File
}

// String tells the plan in full, a line for each thing that it does.
func (p *Plan) String() string {
	if p.InPlace != nil {
		return p.InPlace.String()
	}
	return p.Layout.String() + "sync, then rename over " + p.file.path + "\n"
}

// Plan plans to change the notes of the core in place, the cheapest way that
// is safe: see [Placement]. alt is the splice to use where only the end of the
// notes can be changed; equal to sp where that is all the same. Nothing is
// written. The error wraps [ErrNoPlace] if none of the placements that the
// options leave will do.
//
// Where a note goes that made a copy shift, the core shifts back: only a clone
// or a copy can do that, so these come first then.
func (o *File) Plan(sp, alt elfnote.Splice, opt Options) (*Plan, error) {
	layout, err := o.PlanCopy(sp)
	if err != nil {
		return nil, err
	}
	order := []Placement{Slack, Clone, Evict, Copy}
	if layout.Shift < 0 {
		order = []Placement{Clone, Copy, Slack}
	}
	var refused error
	for _, pl := range order {
		if opt.Placement != "" && opt.Placement != pl {
			continue
		}
		p := &Plan{Placement: pl, file: o}
		switch pl {
		case Slack:
			if p.InPlace, err = o.PlanSlack(sp); err != nil {
				p.InPlace, err = o.PlanSlack(alt)
			}
		case Evict:
			p.InPlace, err = o.PlanEvict(sp)
		default:
			p.Layout, err = layout, o.replaceable(pl)
		}
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, ErrNoPlace) {
			return nil, err
		}
		refused = joinRefusals(refused, pl, err)
	}
	if refused == nil {
		refused = errors.Wrapf(ErrNoPlace, "%s", opt.Placement)
	}
	return nil, refused
}

// joinRefusals lists why each placement would not do.
func joinRefusals(all error, pl Placement, err error) error {
	if all == nil {
		return errors.Wrap(err, string(pl))
	}
	return errors.Wrapf(all, "%s: %v; ", pl, err)
}

// Do carries the plan out. Until the core has changed it can be stopped by ctx;
// it is then as it was.
func (p *Plan) Do(ctx context.Context, opt Options) error {
	if err := p.file.unchanged(); err != nil {
		return err
	}
	if p.Layout != nil {
		return p.file.replace(ctx, p.Layout, p.Placement == Clone, opt)
	}
	total := int64(0)
	for _, s := range p.InPlace.Steps {
		if s.Op == OpCopy {
			total += s.Len
		}
	}
	return p.InPlace.run(ctx, fileMedium{p.file.f}, opt.counter(total))
}

// replace writes the layout to a new file beside the core, gives it the core's
// owner, mode, times, ACLs and labels, and renames it over the core.
func (o *File) replace(ctx context.Context, l *Layout, clone bool, opt Options) error {
	n, err := newFile(o.path, 0o600)
	if err != nil {
		return err
	}
	defer n.discard()
	c := copier{ctx: ctx, dst: n.f, src: o.f, mustClone: clone, progress: opt.counter(o.Size)}
	if err := c.layout(l); err != nil {
		return err
	}
	if err := o.unchanged(); err != nil {
		return err
	}
	if err := copyMeta(n.f, o.f, o.info); err != nil {
		return err
	}
	if err := n.f.Sync(); err != nil {
		return err
	}
	return n.commit(true)
}

// CopyTo writes the core with the splice applied to its notes to the file out.
// A failure leaves no file behind. An existing file that is not empty is
// replaced only if the options say so, and then only when the new one is
// complete and on disk; a new one is as durable as what cp writes. Where out is
// a device or a pipe it is written to as it is.
func (o *File) CopyTo(ctx context.Context, out string, sp elfnote.Splice, opt Options) (*Layout, error) {
	l, err := o.PlanCopy(sp)
	if err != nil {
		return nil, err
	}
	w, err := openOutput(out, o.info.Mode().Perm(), o.info, opt)
	if err != nil {
		return nil, err
	}
	defer w.discard()
	if w.device {
		err = o.WriteLayout(ctx, w.f, l, opt)
	} else {
		c := copier{ctx: ctx, dst: w.f, src: o.f, progress: opt.counter(o.Size)}
		err = c.layout(l)
	}
	if err == nil {
		err = o.unchanged()
	}
	if err != nil {
		return nil, err
	}
	return l, w.finish()
}

// WriteLayout writes a copy of the core to w, which may be a pipe.
func (o *File) WriteLayout(ctx context.Context, w io.Writer, l *Layout, opt Options) error {
	r := &countReader{io.NewSectionReader(o.f, 0, o.Size), opt.counter(o.Size)}
	s := &streamer{ctx: ctx, w: w, r: r, buf: make([]byte, bufSize)}
	if err := s.run(l); err != nil {
		return err
	}
	if s.in < o.Size {
		return errors.Wrapf(ErrChanged, "the file ends at %#x, %#x when it was opened", s.in, o.Size)
	}
	return o.unchanged()
}

type countReader struct {
	r    io.Reader
	read func(int64)
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.read(int64(n))
	return n, err
}
