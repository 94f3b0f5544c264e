package linux

import (
	"fmt"

	"github.com/pkg/errors"
)

// A printkRing is the log since Linux 5.10 (struct printk_ringbuffer): a ring
// of descriptors, an array of what is known of their messages, and a ring of
// texts. Positions in both rings only grow; their low bits are the place.
type printkRing struct {
	k *Kernel

	descs, infos uint64 // addresses
	mask         uint64 // of a descriptor's ID
	tail         uint64 // the oldest one's

	data, size uint64 // the texts
	left       uint64 // bytes of texts that may yet be read

	// Sizes and offsets.
	desc, state, begin, next uint64
	info                     infoLayout
}

type infoLayout struct{ size, seq, time, textLen, caller uint64 }

const (
	// The top two bits of a descriptor's state_var are its state, the others
	// its ID.
	descStates    = 62
	descID        = 1<<descStates - 1
	descCommitted = 1
	descFinalized = 2

	maxTextRing = 2 << 30 // LOG_BUF_LEN_MAX
)

// ringLog takes the ring that the pointer at prb leads to.
func (k *Kernel) ringLog(prb uint64) (kernelLog, error) {
	r := printkRing{k: k}
	l := layout{k: k}
	ring := l.read(prb, 8)
	if ring == 0 && l.err == nil {
		l.err = errors.WithMessage(errNull, "prb")
	}
	descRing := ring + l.offset("printk_ringbuffer.desc_ring")
	bits := l.read(descRing+l.offset("prb_desc_ring.count_bits"), 4)
	r.descs = l.read(descRing+l.offset("prb_desc_ring.descs"), 8)
	r.infos = l.read(descRing+l.offset("prb_desc_ring.infos"), 8)
	head := l.read(descRing+l.offset("prb_desc_ring.head_id"), 8)
	r.tail = l.read(descRing+l.offset("prb_desc_ring.tail_id"), 8)
	dataRing := ring + l.offset("printk_ringbuffer.text_data_ring")
	sizeBits := l.read(dataRing+l.offset("prb_data_ring.size_bits"), 4)
	r.data = l.read(dataRing+l.offset("prb_data_ring.data"), 8)

	r.desc = l.size("prb_desc")
	r.state = l.offset("prb_desc.state_var")
	r.begin = l.offset("prb_desc.text_blk_lpos") + l.offset("prb_data_blk_lpos.begin")
	r.next = l.offset("prb_desc.text_blk_lpos") + l.offset("prb_data_blk_lpos.next")
	r.info = infoLayout{l.size("printk_info"), l.offset("printk_info.seq"), l.offset("printk_info.ts_nsec"),
		l.offset("printk_info.text_len"), l.offset("printk_info.caller_id")}
	if l.err != nil {
		return kernelLog{}, errors.WithMessage(l.err, "kernel log")
	}
	if bits > 63 || uint64(1)<<bits > maxRecords || sizeBits > 63 || uint64(1)<<sizeBits > maxTextRing {
		return kernelLog{}, corrupt("kernel log: 2^%d records, 2^%d bytes of text", bits, sizeBits)
	}
	r.mask = 1<<bits - 1
	r.size = 1 << sizeBits
	r.left = r.size
	last := (head - r.tail) & descID
	if last > r.mask {
		return kernelLog{}, corrupt("kernel log: descriptors %#x to %#x in a ring of %d", r.tail, head, r.mask+1)
	}
	return kernelLog{int(last) + 1, r.record, nil}, nil
}

// record returns the i-th record from the tail on. There is none where the
// kernel freed a descriptor, or was about to fill it when it crashed.
func (r *printkRing) record(i int) (rec LogRecord, ok bool, err error) {
	id := (r.tail + uint64(i)) & descID
	l := layout{k: r.k}
	desc := r.descs + (id&r.mask)*r.desc
	state := l.read(desc+r.state, 8)
	if l.err != nil {
		return rec, false, errors.WithMessage(l.err, "kernel log")
	}
	if s := state >> descStates; state&descID != id || s != descCommitted && s != descFinalized {
		return rec, false, nil
	}
	info := r.infos + (id&r.mask)*r.info.size
	rec.Seq = l.read(info+r.info.seq, 8)
	rec.Time = recordTime(l.read(info+r.info.time, 8))
	length := l.read(info+r.info.textLen, 2)
	rec.Facility = int(l.read(info+r.info.textLen+2, 1))
	rec.Level = int(l.read(info+r.info.textLen+3, 1) >> 5)
	rec.Caller = caller(uint32(l.read(info+r.info.caller, 4)))
	begin, next := l.read(desc+r.begin, 8), l.read(desc+r.next, 8)
	if l.err != nil {
		return rec, false, errors.WithMessage(l.err, "kernel log")
	}
	text, err := r.text(begin, next, length)
	rec.Text = string(text)
	return rec, err == nil, errors.WithMessagef(err, "kernel log: text of record %d", rec.Seq)
}

// text returns the text of a block from begin to next: the descriptor's ID and
// the text. A block that would wrap lies at the ring's start instead. Bit 0
// marks a record without a block: an empty line, or one for which there was no
// room.
func (r *printkRing) text(begin, next, length uint64) ([]byte, error) {
	if begin&1 != 0 && next&1 != 0 {
		return nil, nil
	}
	wrap := func(pos uint64) uint64 { return pos / r.size }
	start, size := begin%r.size, next-begin
	if wrap(begin) != wrap(next-1) {
		start, size = 0, next%r.size
	}
	if begin%8 != 0 || next-begin > 2*r.size || size > r.size-start || size < 8 {
		return nil, corrupt("a block from %#x to %#x in a ring of %#x bytes", begin, next, r.size)
	}
	length = min(length, size-8)
	if length > r.left {
		return nil, corrupt("more text than the ring holds")
	}
	r.left -= length
	text := make([]byte, length)
	n, err := r.k.Read(text, r.data+start+8)
	return text[:n], err
}

// caller returns who wrote a record as the kernel prints it.
func caller(id uint32) string {
	if id&(1<<31) != 0 {
		return fmt.Sprintf("C%d", id&^(1<<31))
	}
	return fmt.Sprintf("T%d", id)
}
