package cli

import (
	"bufio"
	"context"
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/cli/internal/guestlist"
	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/jsonstream"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// A logReport is a record of a kernel's log. Its JSON names are fixed.
type logReport struct {
	Seq      uint64 `json:"seq"`
	TimeNS   int64  `json:"time_ns"` // since boot
	Level    int    `json:"level"`
	Facility int    `json:"facility"`
	Caller   string `json:"caller,omitempty"`
	Text     string `json:"text"`
}

// log prints the kernel log of the host or, with --guest, of that guest.
func (f *guestsFlags) log(ctx context.Context, e *env, paths []string, c vmcore.Core) error {
	k, err := f.kernel(ctx, e, c)
	if err != nil {
		return err
	}
	if f.asJSON {
		return f.reportLog(e, paths, k)
	}
	w := bufio.NewWriter(e.Stdout)
	lost := f.lostRecords()
	for r, err := range k.Log() {
		if !lost.keep(err) {
			fmt.Fprintln(w, r)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return lost.tell(e)
}

// kernel opens the kernel whose log is asked for.
func (f *guestsFlags) kernel(ctx context.Context, e *env, c vmcore.Core) (*linux.Kernel, error) {
	if len(f.guests) == 0 {
		info := guest.VMCoreInfo(c)
		if info == "" {
			return nil, errors.New("it has no VMCOREINFO, which leads to the kernel's log")
		}
		return linux.Open(c, info)
	}
	h, err := f.find(ctx, e, c)
	if err != nil {
		return nil, err
	}
	if err := findRegisters(ctx, e, h); err != nil {
		return nil, err
	}
	m := h.Machines[0]
	switch s := inside.Look(m, inside.Options{}); {
	case s.Kernel != nil:
		return s.Kernel, nil
	case s.OS != "":
		return nil, errors.Errorf("guest %s runs %s %s; only the log of Linux can be read", m.ID(), s.OS, s.Release)
	case errors.Is(s.Err, vmcore.ErrExcluded):
		return nil, hint.With(errors.Errorf("guest %s: %s", m.ID(), guestlist.WhyUnknown(s.Err)), lookElsewhere)
	default:
		return nil, errors.Errorf("guest %s: %s", m.ID(), guestlist.WhyUnknown(s.Err))
	}
}

// lookElsewhere is the cure for a dump without the guest's memory.
const lookElsewhere = "with a core of the process that ran the guest, vmcsnote extract --qemu-core writes the guest's own core; guests --log prints its log"

// reportLog prints the log as a JSON document, one record at a time.
func (f *guestsFlags) reportLog(e *env, paths []string, k *linux.Kernel) error {
	if !e.answer() {
		return nil
	}
	lost := f.lostRecords()
	s := jsonstream.New(e.Stdout)
	s.Object(func() {
		s.Field("file", paths[0])
		if len(paths) > 1 {
			s.Field("files", paths)
		}
		if len(f.guests) > 0 {
			s.Field("guest", f.guests[0])
		}
		s.Field("release", k.Release())
		s.List("log", func() {
			for r, err := range k.Log() {
				if !lost.keep(err) {
					s.Item(logReport{r.Seq, r.Time.Nanoseconds(), r.Level, r.Facility, r.Caller, r.Text})
				}
			}
		})
		if lost.first != nil {
			s.Field("lost", lost.n)
			s.Field("error", lost.first.Error())
		}
	})
	if err := s.End(); err != nil {
		return err
	}
	return lost.tell(e)
}

// beside is the cure for a dump without the host's log.
const beside = "kdump's scripts save the host's log beside the dump, as vmcore-dmesg.txt or dmesg.TIME"

// lostRecords counts the records of a log that could not be read.
type lostRecords struct {
	good, n int
	first   error
	cure    string // if nothing can be read
}

func (f *guestsFlags) lostRecords() lostRecords {
	if len(f.guests) > 0 {
		return lostRecords{}
	}
	return lostRecords{cure: beside}
}

// keep reports whether err is one.
func (l *lostRecords) keep(err error) bool {
	if err == nil {
		l.good++
		return false
	}
	l.n++
	if l.first == nil {
		l.first = err
	}
	return true
}

// tell returns an error if there is nothing else, and says otherwise what is
// missing.
func (l *lostRecords) tell(e *env) error {
	switch {
	case l.n == 0:
		return nil
	case l.good == 0 && errors.Is(l.first, linux.ErrNoLog):
		return l.first
	case l.good == 0:
		return hint.With(errors.WithMessage(l.first, "none of the log can be read"), l.cure)
	}
	e.Say("warning: %s could not be read, the first: %v", message.Plural(l.n, "record"), l.first)
	return nil
}
