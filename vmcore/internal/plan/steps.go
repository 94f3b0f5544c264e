package plan

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/pkg/errors"
)

// A Step is one thing done to the file. Steps are values so that a plan can be
// printed, and a test can stop after each of them.
type Step struct {
	Op   Op
	Off  int64  // file offset in bytes; for OpSize the new size
	Len  int64  // bytes
	From int64  // for OpCopy
	Thin bool   // for OpCopy: holes are skipped, because the target is zeros
	Data []byte // for OpWrite
	Why  string
}

// Op is what a step does.
type Op string

// The operations. OpCopy's ranges do not overlap; OpZero leaves zeros (a hole
// where the file system can); OpReserve makes sure that writing there cannot
// fail for want of room.
const (
	OpWrite   Op = "write"
	OpCopy    Op = "copy"
	OpZero    Op = "zero"
	OpSize    Op = "size"
	OpReserve Op = "reserve"
	OpSync    Op = "sync"
)

// String is the line that --dry-run prints.
func (s Step) String() string {
	switch s.Op {
	case OpSync:
		return "sync"
	case OpSize:
		return fmt.Sprintf("size %#x: %s", s.Off, s.Why)
	case OpCopy:
		return fmt.Sprintf("copy %#x bytes from %#x to %#x: %s", s.Len, s.From, s.Off, s.Why)
	}
	return fmt.Sprintf("%s %#x bytes at %#x: %s", s.Op, s.Len, s.Off, s.Why)
}

// An InPlace is a planned change of a core where it lies.
type InPlace struct {
	Placement Placement // Slack, End, Split or Evict
	Steps     []Step

	Commit int          // index of the first step that changes what something refers to
	Ready  func() error // if not nil, the last check before that step
	Undo   []Step       // undoes the steps before it
	Tidy   int          // index of the first step after the new core is on disk for good; 0 for none
}

// String lists the steps, a line each.
func (p *InPlace) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// Add adds steps.
//
//go:noinline
func (p *InPlace) Add(steps ...Step) { p.Steps = append(p.Steps, steps...) }

// Write adds a step that writes data at offset off.
func (p *InPlace) Write(off int64, data []byte, why string) {
	p.Add(Step{Op: OpWrite, Off: off, Len: int64(len(data)), Data: data, Why: why})
}

// Zero adds a step that zeroes n bytes at offset off, if there are any.
func (p *InPlace) Zero(off, n int64, why string) {
	if n > 0 {
		p.Add(Step{Op: OpZero, Off: off, Len: n, Why: why})
	}
}

// CommitHere marks the next step as the first that changes what something
// refers to.
func (p *InPlace) CommitHere() { p.Commit = len(p.Steps) }

// Sync adds a step that waits until all writes so far are on the disk.
func (p *InPlace) Sync() { p.Add(Step{Op: OpSync}) }

// A medium is what the steps need of a file. Tests use one that stops, or that
// loses writes.
type medium interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Zero(off, n int64) error
	Reserve(off, n int64) error
	CopyWithin(ctx context.Context, s Step, progress func(int64)) error
}

// Run carries the plan out. Before the step Commit ctx can stop it, and it then
// undoes what it did. From that step on it runs to the end.
func (p *InPlace) Run(ctx context.Context, m medium, progress func(int64)) error {
	if err := p.prepare(ctx, m, progress); err != nil {
		return p.takeBack(m, err)
	}
	ctx = context.WithoutCancel(ctx)
	for i, s := range p.Steps[p.Commit:] {
		err := s.doOrNot(ctx, m, progress)
		if err != nil && p.Tidy > 0 && p.Commit+i >= p.Tidy {
			return nil // bytes that nothing refers to do no harm
		}
		if err != nil {
			return errors.Wrapf(err, "the core is whole and holds its old or its new notes, but was not finished: %v", s)
		}
	}
	return nil
}

// prepare carries out the steps before Commit, whose bytes nothing refers to
// yet.
func (p *InPlace) prepare(ctx context.Context, m medium, progress func(int64)) error {
	for _, s := range p.Steps[:p.Commit] {
		err := context.Cause(ctx)
		if err == nil {
			err = s.do(ctx, m, progress)
		}
		if err != nil {
			return errors.Wrap(err, s.String())
		}
	}
	if p.Ready != nil {
		return p.Ready()
	}
	return context.Cause(ctx)
}

// takeBack undoes what prepare did, and returns err.
func (p *InPlace) takeBack(m medium, err error) error {
	for _, u := range append(p.Undo, Step{Op: OpSync}) {
		if err2 := u.do(context.Background(), m, func(int64) {}); err2 != nil {
			return errors.Wrapf(err, "the core is whole, but bytes that nothing refers to could not be removed (%v)", err2)
		}
	}
	return err
}

// doOrNot is do, but if a write fails it restores the bytes that were there:
// these are headers, which must not be half new.
func (s Step) doOrNot(ctx context.Context, m medium, progress func(int64)) error {
	if s.Op != OpWrite {
		return s.do(ctx, m, progress)
	}
	old := make([]byte, len(s.Data))
	n, err := m.ReadAt(old, s.Off)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	err = s.do(ctx, m, progress)
	if err == nil {
		return nil
	}
	if _, err2 := m.WriteAt(old[:n], s.Off); err2 != nil {
		return errors.Wrapf(err, "part of it may have been written, and could not be undone (%v)", err2)
	}
	return err
}

func (s Step) do(ctx context.Context, m medium, progress func(int64)) error {
	switch s.Op {
	case OpWrite:
		_, err := m.WriteAt(s.Data, s.Off)
		return err
	case OpCopy:
		return m.CopyWithin(ctx, s, progress)
	case OpZero:
		return m.Zero(s.Off, s.Len)
	case OpReserve:
		return m.Reserve(s.Off, s.Len)
	case OpSize:
		return m.Truncate(s.Off)
	default:
		return m.Sync()
	}
}
