package linux

import "github.com/pkg/errors"

// A logBuffer is the log of Linux 3.5 to 5.9: records of different sizes
// (struct printk_log), one after the other, in a buffer. One with length 0
// stands where the next did not fit: that is at the buffer's start.
type logBuffer struct {
	k      *Kernel
	addr   uint64
	places []uint32 // of records

	header, time, textLen, dictLen uint64 // size and offsets
}

const maxLogBuffer = 128 << 20

// bufferLog finds the buffer, and its records by their lengths.
func (k *Kernel) bufferLog() (kernelLog, error) {
	b := logBuffer{k: k}
	l := layout{k: k}
	variable := func(name string, size int) uint64 { return l.read(l.symbol(name), size) }
	b.addr = variable("log_buf", 8)
	size := variable("log_buf_len", 4)
	at, end := variable("log_first_idx", 4), variable("log_next_idx", 4)
	b.header = l.size("printk_log")
	b.time = l.offset("printk_log.ts_nsec")
	length := l.offset("printk_log.len")
	b.textLen = l.offset("printk_log.text_len")
	b.dictLen = l.offset("printk_log.dict_len")
	if l.err == nil && (size > maxLogBuffer || at > size || end > size) {
		l.err = corrupt("records from %#x to %#x in a buffer of %#x bytes", at, end, size)
	}
	for at != end && l.err == nil {
		limit := size
		if at < end {
			limit = end
		}
		n := l.read(b.addr+at+length, 2)
		switch {
		case l.err != nil:
		case n == 0 && at > end:
			at = 0
		case n < max(b.header, 8) || at+n > limit || len(b.places) == maxRecords:
			l.err = corrupt("a record of %d bytes at %#x in a buffer of %#x bytes", n, at, size)
		default:
			b.places = append(b.places, uint32(at))
			at += n
		}
	}
	err := errors.WithMessage(l.err, "kernel log")
	if len(b.places) == 0 {
		return kernelLog{}, err
	}
	return kernelLog{len(b.places), b.record, err}, nil
}

func (b *logBuffer) record(i int) (rec LogRecord, ok bool, err error) {
	l := layout{k: b.k}
	at := b.addr + uint64(b.places[i])
	rec.Seq = uint64(i)
	rec.Time = recordTime(l.read(at+b.time, 8))
	text := make([]byte, l.read(at+b.textLen, 2))
	rec.Facility = int(l.read(at+b.dictLen+2, 1))
	rec.Level = int(l.read(at+b.dictLen+3, 1) >> 5)
	if l.err == nil {
		_, l.err = b.k.Read(text, at+b.header)
	}
	rec.Text = string(text)
	return rec, l.err == nil, errors.WithMessagef(l.err, "kernel log: record %d", rec.Seq)
}
