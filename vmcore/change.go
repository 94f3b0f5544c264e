package vmcore

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/vmcore/internal/plan"
)

// A Progress is called with the bytes copied so far, and those to copy in all.
type Progress func(done, total int64)

// counter returns a function that adds up what is copied of total bytes.
func (p Progress) counter(total int64) func(int64) {
	if p == nil {
		return func(int64) {}
	}
	var done int64
	return func(n int64) {
		done += n
		p(done, total)
	}
}

// CopyOptions say how a changed copy of a core is written.
type CopyOptions struct {
	Plain     bool     // write the copy of a flattened dump in plain form
	Overwrite bool     // replace an existing output file
	Progress  Progress // may be nil
}

// output returns the options to create an output file with. A dump may go to a
// device or a FIFO, too.
func (o CopyOptions) output(mode fs.FileMode, in fs.FileInfo) atomicfile.Options {
	return atomicfile.Options{Mode: mode, Input: in, Overwrite: o.Overwrite, Devices: true}
}

// A Plan is a planned change of a core in place: see [File.Plan].
type Plan struct {
	Placement Placement
	InPlace   *InPlace // for Slack, End, Split and Evict
	Layout    *Layout  // for Clone and Copy

	file *File
}

// String returns the plan in full, a line for each step, and the new size of
// the file if that changes.
func (p *Plan) String() string {
	var s string
	if p.InPlace != nil {
		s = p.InPlace.String()
	} else {
		s = p.Layout.String() + "sync, then rename over " + p.file.path + "\n"
	}
	switch n := p.Growth(); {
	case n > 0 && (p.Layout != nil || p.Placement == Split): // removing the note undoes it
		s += fmt.Sprintf("the file becomes %#x bytes larger: %#x\n", n, p.file.info.Size()+n)
	case n > 0:
		s += fmt.Sprintf("the file stays %#x bytes larger: %#x\n", n, p.file.info.Size()+n)
	case n < 0:
		s += fmt.Sprintf("the file becomes %#x bytes smaller: %#x\n", -n, p.file.info.Size()+n)
	}
	return s
}

// Growth returns by how many bytes the file is larger once the plan has been
// carried out; less than 0 if it is smaller.
func (p *Plan) Growth() int64 {
	size := p.file.info.Size()
	if p.InPlace != nil {
		return sizeAfter(size, p.InPlace.Steps) - size
	}
	return p.Layout.Size - size
}

// sizeAfter returns the size that a file of size bytes has after the steps.
func sizeAfter(size int64, steps []plan.Step) int64 {
	for _, s := range steps {
		switch s.Op {
		case plan.OpSize:
			size = s.Off
		case plan.OpWrite, plan.OpCopy:
			size = max(size, s.Off+s.Len)
		}
	}
	return size
}

// Plan plans to change the notes of the core in place, the cheapest way that
// is safe: see [Placement]. A file that its owner has no permission to write is
// cloned or copied, never given another mode meanwhile. alt is the splice to
// use if only the end of the notes can be changed; it may equal sp. only
// restricts where the notes may go, unless it is "". Nothing is written. The
// error wraps [ErrNoPlace] if no placement will do.
//
// If the note to take out had made memory shift, the core shifts back. Only a
// clone or a copy can do that, so these are tried first. If it had split the
// first segment, that is joined again.
func (o *File) Plan(sp, alt elfnote.Splice, only Placement) (_ *Plan, err error) {
	defer o.about(&err)
	layout, err := o.PlanCopy(sp)
	if err != nil {
		return nil, err
	}
	order := []Placement{Slack, End, Clone, Split, Evict, Copy}
	if layout.Shift < 0 {
		order = []Placement{Clone, Copy, Slack, End}
		if _, ok := o.Core.(elfCore); ok { // what comes out is the same
			order = []Placement{End, Clone, Copy, Slack}
		}
	}
	if layout.Joined {
		order = []Placement{Split, Clone, Copy, Slack}
	}
	readOnly := o.writable()
	var refused refusals
	if readOnly != nil {
		refused.readOnly = []error{readOnly}
	}
	unread := sync.OnceValue(o.unread)
	for _, pl := range order {
		if only != "" && only != pl {
			continue
		}
		p := &Plan{Placement: pl, file: o}
		switch inPlace := pl != Clone && pl != Copy; {
		case inPlace && readOnly != nil:
			err = errors.Wrap(ErrNoPlace, readOnly.Error())
		case pl == Slack:
			if p.InPlace, err = o.PlanInPlace(pl, sp); err != nil {
				p.InPlace, err = o.PlanInPlace(pl, alt)
			}
		case inPlace:
			p.InPlace, err = o.PlanInPlace(pl, sp)
		default:
			p.Layout, err = layout, o.replaceable(pl)
		}
		if err == nil && p.InPlace != nil {
			err = unread()
		}
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, ErrNoPlace) {
			return nil, err
		}
		refused.why = append(refused.why, fmt.Sprintf("%s: %s", pl, strings.TrimSuffix(err.Error(), ": "+ErrNoPlace.Error())))
	}
	if refused.why == nil {
		refused.why = []string{fmt.Sprintf("%s: no segment has to move for a note to be taken out", only)}
	}
	return nil, refused
}

// refusals is the error that lists why no placement is possible.
type refusals struct {
	why      []string
	readOnly []error // wraps ErrReadOnly, if the file may not be written to
}

func (r refusals) Error() string   { return ErrNoPlace.Error() + ": " + strings.Join(r.why, "; ") }
func (r refusals) Unwrap() []error { return append([]error{ErrNoPlace}, r.readOnly...) }

// Do carries the plan out. progress may be nil. Until the core has changed, ctx
// can stop it, and the file is then as it was.
func (p *Plan) Do(ctx context.Context, progress Progress) (err error) {
	defer p.file.about(&err)
	if err := p.file.unchanged(); err != nil {
		return err
	}
	if p.Layout != nil {
		return p.file.replace(ctx, p.Layout, p.Placement == Clone, progress)
	}
	total := int64(0)
	for _, s := range p.InPlace.Steps {
		if s.Op == plan.OpCopy {
			total += s.Len
		}
	}
	size := sizeAfter(p.file.info.Size(), p.InPlace.Steps[:p.InPlace.Commit])
	p.InPlace.Ready = func() error { return p.file.sizeIs(size) }
	l, err := takeLease(p.file.f) // somebody may have opened it since
	if err != nil {
		return err
	}
	defer l.release()
	return p.InPlace.Run(ctx, fileMedium{p.file.f, l}, progress.counter(total))
}

// replace writes the layout to a new file beside the core, gives it the core's
// owner, mode, times, ACLs and labels, and renames it over the core.
func (o *File) replace(ctx context.Context, l *Layout, clone bool, progress Progress) error {
	n, err := atomicfile.New(o.path, 0o600)
	if err != nil {
		return err
	}
	defer n.Discard()
	if o.flat() {
		err = o.WriteLayout(ctx, n, l, CopyOptions{Progress: progress})
	} else {
		c := &atomicfile.Copier{Ctx: ctx, Dst: n.File, Src: o.f, MustClone: clone, Durable: true, Progress: progress.counter(o.PlainSize())}
		err = copyLayout(c, l)
	}
	if err != nil {
		return err
	}
	if err := copyMeta(n, o.f, o.info); err != nil {
		return err
	}
	if err := n.Sync(); err != nil {
		return err
	}
	// A sync may take minutes: look at the file again; Commit looks at its
	// name.
	if err := o.unchanged(); err != nil {
		return err
	}
	err = n.Commit(o.info)
	if errors.Is(err, atomicfile.ErrTaken) {
		return errors.Wrapf(ErrChanged, "another file has taken the name %s", o.path)
	}
	return err
}

// CopyTo writes the core with the splice applied to its notes to the file out.
// A failure leaves no file. An existing file that is not empty is replaced only
// if the options allow it, and only when the new one is complete and on disk; a
// new file is as durable as one that cp writes. If out is a device or a pipe,
// the core is written to it directly.
func (o *File) CopyTo(ctx context.Context, out string, sp elfnote.Splice, opt CopyOptions) (_ *Layout, err error) {
	defer o.about(&err)
	l, err := o.PlanCopy(sp)
	if err != nil {
		return nil, err
	}
	w, err := atomicfile.Create(out, opt.output(o.input().Mode(), o.input()))
	if err != nil {
		return nil, err
	}
	defer w.Discard()
	if w.Device() || o.flat() {
		err = o.WriteLayout(ctx, w, l, opt)
	} else {
		c := &atomicfile.Copier{Ctx: ctx, Dst: w.File, Src: o.f, Progress: opt.Progress.counter(o.PlainSize())}
		err = copyLayout(c, l)
	}
	if err == nil {
		err = o.unchanged()
	}
	if err != nil {
		return nil, err
	}
	return l, w.Finish()
}

// copyLayout writes all of l to c.Dst, a new file.
func copyLayout(c *atomicfile.Copier, l *Layout) error {
	buf := make([]byte, plan.BufSize)
	if err := c.Dst.Truncate(l.Size); err != nil {
		return err
	}
	at := int64(0)
	for p := range l.All() {
		var err error
		switch {
		case p.Err != nil:
			err = p.Err
		case len(p.Lit) > 0:
			_, err = c.Dst.WriteAt(p.Lit, at)
		case p.Mend != nil:
			w := io.NewOffsetWriter(c.Dst, at)
			s := plan.Streamer{Ctx: c.Ctx, W: w, R: io.NewSectionReader(c.Src, p.Src, p.N), In: p.Src, Buf: buf}
			err = plan.NoEOF(s.Piece(p))
		case p.N > 0:
			err = plan.NoEOF(c.CopyRange(at, p.Src, p.N))
		}
		if err != nil {
			return err
		}
		at += p.Size()
	}
	return nil
}

// WriteLayout writes a copy of the core to w, which may be a pipe. The copy of
// a flattened dump is flattened, unless the options ask for the plain form.
func (o *File) WriteLayout(ctx context.Context, w io.Writer, l *Layout, opt CopyOptions) (err error) {
	defer o.about(&err)
	if o.flat() && !opt.Plain {
		if err := o.writeFlat(ctx, w, l, opt); err != nil {
			return err
		}
		return o.unchanged()
	}
	r := &countReader{io.NewSectionReader(o.plain(), 0, o.PlainSize()), opt.Progress.counter(o.PlainSize())}
	s := &plan.Streamer{Ctx: ctx, W: w, R: r, Buf: make([]byte, plan.BufSize)}
	err = s.Run(l)
	if err == nil && s.In < o.PlainSize() {
		err = s.Skip(o.PlainSize()) // what the copy leaves out at the end
	}
	if errors.Is(err, io.EOF) {
		err = errors.Wrapf(ErrChanged, "the file ends at %#x, %#x when it was opened", s.In, o.PlainSize())
	}
	if err != nil {
		return err
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
