package fakelinux

import (
	"encoding/binary"
	"fmt"
)

// A Message is what the kernel logged.
type Message struct {
	Nanoseconds     uint64
	Level, Facility int
	Text            string
	State           uint64 // of its descriptor; 2 (finalized) if it is 0
	Reserved        int    // bytes that the block has for text; len(Text) if it is 0
}

// Ring states the log of Linux 5.10 and newer: its sizes, and the descriptor
// and the place of text at which it begins.
type Ring struct {
	CountBits, SizeBits uint32
	FirstID, FirstText  uint64
}

// LogRing adds a log as Linux 5.10 and newer have it. Text wraps as in the
// kernel: a message that does not fit at the ring's end begins at its start.
// It returns the addresses of the descriptors, of their infos and of the texts.
func (f *Kernel) LogRing(ring Ring, messages ...Message) (descs, infos, data uint64) {
	count, size := uint64(1)<<ring.CountBits, uint64(1)<<ring.SizeBits
	descs, infos, data = f.Alloc(int(24*count)), f.Alloc(int(88*count)), f.Alloc(int(size))
	pos := ring.FirstText
	for i, m := range messages {
		id := ring.FirstID + uint64(i)
		state := m.State
		if state == 0 {
			state = 2
		}
		desc, info := descs+id%count*24, infos+id%count*88
		begin, next := uint64(3), uint64(3) // EMPTY_LINE_LPOS
		if n := max(m.Reserved, len(m.Text)); n > 0 {
			begin, next = pos, pos+uint64(8+n+7)&^7
			at := begin % size
			if begin/size != next/size {
				at, next = 0, next/size*size+uint64(8+n+7)&^7
			}
			f.Put(data+at, append(LE64(id), m.Text...))
			pos = next
		}
		f.Put(desc, append(append(LE64(state<<62|id), LE64(begin)...), LE64(next)...))
		head := append(LE64(1000+uint64(i)), LE64(m.Nanoseconds)...)
		head = binary.LittleEndian.AppendUint16(head, uint16(len(m.Text)))
		head = append(head, byte(m.Facility), byte(m.Level<<5))
		f.Put(info, append(head, LE32(1<<31|uint32(i))...))
	}
	prb := f.Alloc(88, 8, descs, 16, infos, 24, ring.FirstID+uint64(len(messages))-1, 32, ring.FirstID, 56, data)
	f.Put(prb, LE32(ring.CountBits))
	f.Put(prb+48, LE32(ring.SizeBits))
	f.variable("prb", LE64(prb))
	f.Lines = append(f.Lines,
		"OFFSET(printk_ringbuffer.desc_ring)=0", "OFFSET(printk_ringbuffer.text_data_ring)=48",
		"OFFSET(prb_desc_ring.count_bits)=0", "OFFSET(prb_desc_ring.descs)=8", "OFFSET(prb_desc_ring.infos)=16",
		"OFFSET(prb_desc_ring.head_id)=24", "OFFSET(prb_desc_ring.tail_id)=32", "SIZE(prb_desc)=24",
		"OFFSET(prb_desc.state_var)=0", "OFFSET(prb_desc.text_blk_lpos)=8", "OFFSET(prb_data_blk_lpos.begin)=0",
		"OFFSET(prb_data_blk_lpos.next)=8", "SIZE(printk_info)=88", "OFFSET(printk_info.seq)=0",
		"OFFSET(printk_info.ts_nsec)=8", "OFFSET(printk_info.text_len)=16", "OFFSET(printk_info.caller_id)=20",
		"OFFSET(prb_data_ring.size_bits)=0", "OFFSET(prb_data_ring.data)=8")
	return descs, infos, data
}

// Log adds the structs of the log of Linux 5.10 and newer, as LogRing fills
// them.
func (b *BTF) Log() {
	u64, u32, u16 := b.Int("unsigned long", 8, false), b.Int("unsigned int", 4, false), b.Int("short unsigned int", 2, false)
	lpos := b.Struct("prb_data_blk_lpos", 16, M("begin", u64, 0), M("next", u64, 8))
	b.Struct("prb_desc", 24, M("state_var", u64, 0), M("text_blk_lpos", lpos, 8))
	b.Struct("printk_info", 88, M("seq", u64, 0), M("ts_nsec", u64, 8), M("text_len", u16, 16), M("caller_id", u32, 20))
	descs := b.Struct("prb_desc_ring", 48, M("count_bits", u32, 0), M("descs", u64, 8), M("infos", u64, 16),
		M("head_id", u64, 24), M("tail_id", u64, 32))
	data := b.Struct("prb_data_ring", 32, M("size_bits", u32, 0), M("data", u64, 8))
	b.Struct("printk_ringbuffer", 88, M("desc_ring", descs, 0), M("text_data_ring", data, 48))
}

// LogBuffer adds a log as Linux 3.5 to 5.9 have it, in a buffer of so many
// bytes. The first record begins at first. It returns the buffer's address.
func (f *Kernel) LogBuffer(size, first int, messages ...Message) uint64 {
	buf := f.Alloc(size)
	at := first
	for _, m := range messages {
		n := (16 + len(m.Text) + 3) &^ 3
		if at+n+16 > size { // 16 bytes mark that the next record is at the start
			f.Put(buf+uint64(at), make([]byte, 16))
			at = 0
		}
		head := LE64(m.Nanoseconds)
		for _, v := range []int{n, len(m.Text), 0} {
			head = binary.LittleEndian.AppendUint16(head, uint16(v))
		}
		head = append(head, byte(m.Facility), byte(m.Level<<5))
		f.Put(buf+uint64(at), append(head, m.Text...))
		at += n
	}
	f.variable("log_buf", LE64(buf))
	f.variable("log_buf_len", LE32(uint32(size)))
	f.variable("log_first_idx", LE32(uint32(first)))
	f.variable("log_next_idx", LE32(uint32(at)))
	f.Lines = append(f.Lines, "SIZE(printk_log)=16", "OFFSET(printk_log.ts_nsec)=0", "OFFSET(printk_log.len)=8",
		"OFFSET(printk_log.text_len)=10", "OFFSET(printk_log.dict_len)=12")
	return buf
}

// variable adds a variable to the image, which VMCOREINFO names.
func (f *Kernel) variable(name string, b []byte) {
	f.Lines = append(f.Lines, fmt.Sprintf("SYMBOL(%s)=%x", name, f.Image(name, b)))
}
