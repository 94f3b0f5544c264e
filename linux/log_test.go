package linux

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
	"vmcsnote/physmem"
)

type logRow struct {
	name string
	make func(*fakelinux.Kernel)
	want string // a line per record, as printLog has it
}

var ring = fakelinux.Ring{CountBits: 3, SizeBits: 8}

func ringOf(messages ...fakelinux.Message) func(*fakelinux.Kernel) {
	return func(f *fakelinux.Kernel) { f.LogRing(ring, messages...) }
}

func words(n int) (all []fakelinux.Message) {
	for i := range n {
		all = append(all, fakelinux.Message{Nanoseconds: uint64(i) * 1e9, Text: fmt.Sprintf("message %d", i)})
	}
	return all
}

var logRows = []logRow{
	{"one message", ringOf(fakelinux.Message{Nanoseconds: 12_345_678_901, Level: 4, Facility: 3, Text: "hello"}),
		"1000 4.3 C0 [   12.345678] hello\n"},
	{"lines after the first are indented", ringOf(fakelinux.Message{Text: "one\ntwo"}),
		"1000 0.0 C0 [    0.000000] one\n               two\n"},
	{"nothing reaches a terminal that it would obey", ringOf(fakelinux.Message{Text: "a\x1b[2J\tb\r\xff\u202eé"}),
		"1000 0.0 C0 [    0.000000] a\\x1b[2J\tb\\x0d\\xff\\u202eé\n"},
	{"an empty line has no block", ringOf(fakelinux.Message{Text: "a"}, fakelinux.Message{}, fakelinux.Message{Text: "b"}),
		"1000 0.0 C0 [    0.000000] a\n1001 0.0 C1 [    0.000000] \n1002 0.0 C2 [    0.000000] b\n"},
	{"only messages that are whole", ringOf(fakelinux.Message{Text: "freed", State: 3}, fakelinux.Message{Text: "more to come", State: 1},
		fakelinux.Message{Text: "x", State: 4}), // 4<<62 is 0: reserved
		"1001 0.0 C1 [    0.000000] more to come\n"},
	{"a text shorter than its block", ringOf(fakelinux.Message{Text: "short", Reserved: 40}, fakelinux.Message{Text: "next"}),
		"1000 0.0 C0 [    0.000000] short\n1001 0.0 C1 [    0.000000] next\n"},
	{"a time that does not fit", ringOf(fakelinux.Message{Nanoseconds: 1 << 63, Text: "late"}),
		"1000 0.0 C0 [9223372036.854775] late\n"},
	{"a text that wraps lies at the start of the ring", func(f *fakelinux.Kernel) {
		f.LogRing(fakelinux.Ring{CountBits: 3, SizeBits: 8, FirstID: 5, FirstText: 1024 - 64}, words(4)...)
	}, "1000 0.0 C0 [    0.000000] message 0\n1001 0.0 C1 [    1.000000] message 1\n" +
		"1002 0.0 C2 [    2.000000] message 2\n1003 0.0 C3 [    3.000000] message 3\n"},
	{"a block that ends where the ring ends did not wrap, since Linux 6.19", func(f *fakelinux.Kernel) {
		descs, _, data := f.LogRing(ring, fakelinux.Message{Text: "a"}, fakelinux.Message{Text: "b"})
		f.Put(descs+24+8, append(fakelinux.LE64(256-16), fakelinux.LE64(256)...))
		f.Put(data+256-8, []byte("z"))
	}, "1000 0.0 C0 [    0.000000] a\n1001 0.0 C1 [    0.000000] z\n"},
	{"IDs begin anew after 2^62", func(f *fakelinux.Kernel) {
		f.LogRing(fakelinux.Ring{CountBits: 3, SizeBits: 8, FirstID: 1<<62 - 1}, words(1)...)
	}, "1000 0.0 C0 [    0.000000] message 0\n"},

	{"a buffer", func(f *fakelinux.Kernel) { f.LogBuffer(256, 0, words(2)...) },
		"0 0.0 - [    0.000000] message 0\n1 0.0 - [    1.000000] message 1\n"},
	{"a buffer that wraps", func(f *fakelinux.Kernel) { f.LogBuffer(128, 72, words(3)...) },
		"0 0.0 - [    0.000000] message 0\n1 0.0 - [    1.000000] message 1\n2 0.0 - [    2.000000] message 2\n"},
	{"an empty buffer", func(f *fakelinux.Kernel) { f.LogBuffer(128, 0) }, ""},

	{"by kallsyms and BTF, as of a kernel that has no VMCOREINFO yet", func(f *fakelinux.Kernel) {
		f.LogRing(ring, words(1)...)
		f.Lines = slices.DeleteFunc(f.Lines, func(line string) bool {
			return strings.Contains(line, "prb") || strings.Contains(line, "printk_")
		})
		f.Types.Log()
	}, "1000 0.0 C0 [    0.000000] message 0\n"},

	{"no log", func(*fakelinux.Kernel) {}, "error: prb: no such symbol: no kernel log found\n"},
	{"a ring's ends are too far apart", func(f *fakelinux.Kernel) { f.LogRing(ring, words(9)...) },
		"error: kernel log: descriptors 0x0 to 0x8 in a ring of 8: corrupt\n"},
	{"a ring of too many records", func(f *fakelinux.Kernel) {
		f.LogRing(ring)
		f.Put(f.Heap-88, fakelinux.LE32(40))
	}, "error: kernel log: 2^40 records, 2^8 bytes of text: corrupt\n"},
	{"blocks that are none", func(f *fakelinux.Kernel) {
		descs, _, _ := f.LogRing(ring, words(6)...)
		for i, block := range [][2]uint64{{4, 40}, {0, 1 << 40}, {0, 0}, {8, 12}, {248, 264}} {
			f.Put(descs+uint64(i)*24+8, append(fakelinux.LE64(block[0]), fakelinux.LE64(block[1])...))
		}
	}, `error: kernel log: text of record 1000: a block from 0x4 to 0x28 in a ring of 0x100 bytes: corrupt
error: kernel log: text of record 1001: a block from 0x0 to 0x10000000000 in a ring of 0x100 bytes: corrupt
error: kernel log: text of record 1002: a block from 0x0 to 0x0 in a ring of 0x100 bytes: corrupt
error: kernel log: text of record 1003: a block from 0x8 to 0xc in a ring of 0x100 bytes: corrupt
1004 0.0 C4 [    4.000000] ` + `
1005 0.0 C5 [    5.000000] message 5
`},
	{"more text than the ring has", func(f *fakelinux.Kernel) {
		long := fakelinux.Message{Text: strings.Repeat("x", 200)}
		f.LogRing(ring, long, long)
	}, "1000 0.0 C0 [    0.000000] " + strings.Repeat("x", 200) + "\nerror: kernel log: text of record 1001: more text than the ring holds: corrupt\n"},
	{"text that the dump does not have", func(f *fakelinux.Kernel) {
		f.Heap += 0x1000 - f.Heap%0x1000
		_, _, data := f.LogRing(fakelinux.Ring{CountBits: 8, SizeBits: 12}, words(2)...)
		delete(f.Pages, (data-fakelinux.Direct)&^0xfff)
	}, "error: kernel log: text of record 1000: virtual address 0xffff888010008008: no such memory\n" +
		"error: kernel log: text of record 1001: virtual address 0xffff888010008020: no such memory\n"},
	{"a buffer's record of no length", func(f *fakelinux.Kernel) {
		buf := f.LogBuffer(256, 0, words(2)...)
		f.Put(buf+28+8, []byte{7})
	}, "0 0.0 - [    0.000000] message 0\nerror: kernel log: a record of 7 bytes at 0x1c in a buffer of 0x100 bytes: corrupt\n"},
	{"a buffer that leads back to its start", func(f *fakelinux.Kernel) {
		buf := f.LogBuffer(256, 0, words(2)...)
		f.Put(buf+28, make([]byte, 16))
	}, "0 0.0 - [    0.000000] message 0\nerror: kernel log: a record of 0 bytes at 0x1c in a buffer of 0x100 bytes: corrupt\n"},
}

func printLog(k *Kernel) string {
	var b strings.Builder
	for r, err := range k.Log() {
		if err != nil {
			fmt.Fprintln(&b, "error:", err)
			continue
		}
		caller := r.Caller
		if caller == "" {
			caller = "-"
		}
		fmt.Fprintf(&b, "%d %d.%d %s %s\n", r.Seq, r.Level, r.Facility, caller, r)
	}
	return b.String()
}

func TestLog(t *testing.T) {
	for _, row := range logRows {
		t.Run(row.name, func(t *testing.T) {
			f := fakelinux.New()
			row.make(f)
			k := openFake(t, f, f.Finish())
			if got := printLog(k); got != row.want {
				t.Errorf("got\n%swant\n%s", got, row.want)
			}
			checkLast(t, k)
		})
	}
}

// checkLast compares what LastLog returns of a sound log with the end of Log.
func checkLast(t *testing.T, k *Kernel) {
	var all []LogRecord
	for r, err := range k.Log() {
		if err != nil {
			return
		}
		all = append(all, r)
	}
	for _, n := range []int{0, 1, 2, 1000} {
		last, err := k.LastLog(n)
		if want := all[max(0, len(all)-n):]; !slices.Equal(last, want) || err != nil {
			t.Errorf("the last %d: %v, %v; want %v", n, last, err, want)
		}
	}
}

// LastLog reads a few pages of a long log.
func TestLastLogIsCheap(t *testing.T) {
	f := fakelinux.New()
	f.LogRing(fakelinux.Ring{CountBits: 13, SizeBits: 18}, words(5000)...)
	mem := &countingMemory{Reader: f}
	last, err := openFake(t, mem, f.Info()).LastLog(20)
	if err != nil || len(last) != 20 || last[19].Text != "message 4999" {
		t.Errorf("got %v, %v", last, err)
	}
	if mem.reads > 20 {
		t.Errorf("%d reads of memory for 20 records", mem.reads)
	}
}

type countingMemory struct {
	physmem.Reader
	reads int
}

func (m *countingMemory) ReadPhys(p []byte, addr uint64) (int, error) {
	m.reads++
	return m.Reader.ReadPhys(p, addr)
}

func TestPanic(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  Panic
	}{
		{"no panic", []string{"all is well", "a Kernel panic - not syncing: no"}, Panic{}},
		{"a panic", []string{"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
			"---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 ]---"},
			Panic{Message: "Attempted to kill init! exitcode=0x00000100"}},
		{"the first line of the oops that led to it", []string{"BUG: old", "---[ end trace 0000000000000000 ]---",
			"BUG: kernel NULL pointer dereference, address: 0000000000000000", "Oops: 0002 [#1] PREEMPT SMP", "---[ end trace 0000000000000000 ]---",
			"Kernel panic - not syncing: Fatal exception in interrupt"},
			Panic{"Fatal exception in interrupt", "BUG: kernel NULL pointer dereference, address: 0000000000000000"}},
		{"kdump after an oops", []string{"sysrq: Trigger a crash", "BUG: unable"}, Panic{Cause: "sysrq: Trigger a crash"}},
		{"a program's words do not count", []string{"user:Kernel panic - not syncing: fooled", "user:BUG: fooled"}, Panic{}},
		{"a hard lockup", []string{"watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3\nand more"},
			Panic{Cause: "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := fakelinux.New()
			var messages []fakelinux.Message
			for _, line := range row.lines {
				text, user := strings.CutPrefix(line, "user:")
				m := fakelinux.Message{Text: text}
				if user {
					m.Facility = 1
				}
				messages = append(messages, m)
			}
			f.LogRing(fakelinux.Ring{CountBits: 4, SizeBits: 12}, messages...)
			got, err := openFake(t, f, f.Info()).Panic()
			if got != row.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
		})
	}
	f := fakelinux.New()
	if _, err := openFake(t, f, f.Finish()).Panic(); !errors.Is(err, ErrNoLog) {
		t.Errorf("without a log: %v", err)
	}
}
