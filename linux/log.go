package linux

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/internal/visible"
)

// ErrNoLog means that the kernel has no log of a form that is known, or that
// nothing leads to it.
var ErrNoLog = errors.New("no kernel log found")

// A LogRecord is a message in the kernel's log. A message can have several
// lines.
type LogRecord struct {
	Seq      uint64        // since boot; before Linux 5.10, from the oldest record on
	Time     time.Duration // since boot, by the clock of printk
	Level    int           // 0 (emergency) to 7 (debug)
	Facility int           // 0 for the kernel, others for what programs wrote
	Caller   string        // T123 for a task, C1 for a processor, "" before Linux 5.10
	Text     string        // anything: programs can write to the log
}

// String returns the record as dmesg prints it, without the last newline. Lines
// after the first are indented. What a terminal would obey is escaped.
func (r LogRecord) String() string {
	prefix := fmt.Sprintf("[%5d.%06d] ", r.Time/time.Second, r.Time%time.Second/time.Microsecond)
	text := strings.ReplaceAll(r.Text, "\n", "\n"+strings.Repeat(" ", len(prefix)))
	return prefix + visible.Text(text, "\n\t")
}

const (
	// maxRecords bounds the records of a log: 4 million fill one of
	// 128 MiB.
	maxRecords = 1 << 22
	// maxLost bounds the records that cannot be read, with an error for
	// each.
	maxLost = 4096
)

// kernelLog is where the records of a log are, from the oldest on.
type kernelLog struct {
	count int
	// read returns a record, or false if there is none at this place.
	read func(i int) (LogRecord, bool, error)
	err  error // why the newer ones were not found
}

func (k *Kernel) log() (kernelLog, error) {
	if _, ok := k.info.symbol("log_first_idx"); ok {
		return k.bufferLog()
	}
	l := layout{k: k}
	if prb := l.symbol("prb"); l.err == nil {
		return k.ringLog(prb)
	}
	return kernelLog{}, errors.WithMessage(ErrNoLog, l.err.Error())
}

// Log returns the records of the kernel's log, the oldest first. A record that
// cannot be read has an error, and others may follow.
func (k *Kernel) Log() iter.Seq2[LogRecord, error] {
	return func(yield func(LogRecord, error) bool) {
		log, err := k.log()
		if err != nil {
			yield(LogRecord{}, err)
			return
		}
		if log.each(yield, func(i int) int { return i }) && log.err != nil {
			yield(LogRecord{}, log.err)
		}
	}
}

// LastLog returns the last n records of the kernel's log, the oldest first, and
// reads no others. With an error it returns those that it could read.
func (k *Kernel) LastLog(n int) ([]LogRecord, error) {
	log, err := k.log()
	if err != nil {
		return nil, err
	}
	err = log.err
	var last []LogRecord
	log.each(func(r LogRecord, e error) bool {
		if e != nil {
			err = e
			return true
		}
		if len(last) < n {
			last = append(last, r)
		}
		return len(last) < n
	}, func(i int) int { return log.count - 1 - i })
	slices.Reverse(last)
	return last, err
}

// each yields the records in the order of place. It reports whether yield took
// them all.
func (l kernelLog) each(yield func(LogRecord, error) bool, place func(int) int) bool {
	lost := 0
	for i := range l.count {
		r, ok, err := l.read(place(i))
		if err != nil {
			lost++
		}
		if !ok && err == nil {
			continue
		}
		if !yield(r, err) || lost == maxLost {
			return false
		}
	}
	return true
}

// A Panic is what the kernel's log tells of the kernel's end.
type Panic struct {
	// Message is the kernel's reason to panic: "Kernel panic - not syncing:
	// MESSAGE". It is "" if the kernel did not panic, or crashed before it
	// printed this, as kdump has it after an oops.
	Message string
	// Cause is the first line of the last oops, BUG or lockup, or "".
	Cause string
}

const panicPrefix = "Kernel panic - not syncing: "

// causes begin the messages of faults, as crash has them for the panic message.
var causes = []string{
	"BUG: ", "Oops: ", "kernel BUG at ", "Unable to handle ", "general protection fault", "double fault: ", "divide error: ",
	"stack segment: ", "invalid opcode: ", "traps: PANIC: double fault", "sysrq: Trigger a crash", "watchdog: BUG: ",
}

// Panic looks in the log for the kernel's last words. The error is that of the
// log if none of it could be read.
func (k *Kernel) Panic() (Panic, error) {
	var p Panic
	var err error
	good, open := false, false
	for r, e := range k.Log() {
		if e != nil {
			err = e
			continue
		}
		good = true
		if r.Facility != 0 {
			continue // a program wrote it
		}
		line, _, _ := strings.Cut(r.Text, "\n")
		if message, ok := strings.CutPrefix(line, panicPrefix); ok {
			p.Message = message
		}
		if strings.HasPrefix(line, "---[ end trace") {
			open = false
		}
		if !open && isCause(line) {
			p.Cause, open = line, true
		}
	}
	if good {
		err = nil
	}
	return p, err
}

func isCause(line string) bool {
	return strings.Contains(line, "Watchdog detected hard LOCKUP") ||
		slices.ContainsFunc(causes, func(c string) bool { return strings.HasPrefix(line, c) })
}

// recordTime returns printk's nanoseconds, which a dump can make up, as a
// duration.
func recordTime(ns uint64) time.Duration { return time.Duration(min(ns, math.MaxInt64)) }
