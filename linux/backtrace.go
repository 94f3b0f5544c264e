package linux

import (
	"slices"

	"github.com/pkg/errors"
)

// A Frame is a function on a stack.
type Frame struct {
	// Addr is RIP of the innermost frame, and of one that was interrupted;
	// of any other, where the function that it called returns to.
	Addr uint64
	// Symbol is what Addr belongs to. It has no name if that is unknown.
	Symbol Symbol
	// Found is how the frame was found.
	Found Unwinder
}

// An Unwinder is a way to find the frames of a stack.
type Unwinder uint8

const (
	// ByORC means that the kernel's own unwind tables lead to the frame.
	ByORC Unwinder = iota
	// ByFramePointer means that a chain of frame pointers leads to it.
	ByFramePointer
	// ByScan means that the stack holds the address: the function may have
	// returned long ago.
	ByScan
)

var unwinderNames = [...]string{"orc", "frame-pointer", "scan"}

// String names the unwinder.
func (u Unwinder) String() string { return unwinderNames[u] }

// Registers are the registers of a processor that unwinding needs.
type Registers struct {
	RIP, RSP, RBP      uint64
	RDX, RDI, R10, R13 uint64
}

const (
	// maxFrames bounds a backtrace. Linux' stacks have 16 KiB.
	maxFrames = 256
	// maxScan is how much of a stack is scanned, in bytes.
	maxScan = 16 << 10
	// maxScanned bounds the frames that a scan returns.
	maxScanned = 32
)

// Backtrace returns the functions on a processor's stack in the kernel, the
// innermost first. It ends where the kernel was entered from user mode, and is
// empty for a processor in user mode.
//
// It uses the kernel's ORC tables; frame pointers where the tables have no
// entry; and if these lead nowhere, whatever on the stack looks like a return
// address.
func (k *Kernel) Backtrace(r Registers) []Frame {
	if !isKernel(r.RIP) {
		return nil
	}
	u := &unwinder{k: k, regs: r, whole: true, exact: true}
	u.add(r.RIP, ByORC)
	for len(u.frames) < maxFrames {
		switch ended, err := u.orcStep(); {
		case ended:
			return u.frames
		case err == nil:
		case u.framePointerStep():
		default:
			u.scan()
			return u.frames
		}
	}
	return u.frames
}

// isKernel reports whether an address is in the kernel's half.
func isKernel(addr uint64) bool { return addr>>63 != 0 }

// An unwinder is at one frame of a stack.
type unwinder struct {
	k      *Kernel
	regs   Registers
	whole  bool // all of regs is known, not RIP, RSP and RBP alone
	exact  bool // RIP was interrupted there; it is not where a call returns to
	frames []Frame
}

// add appends a frame.
func (u *unwinder) add(addr uint64, by Unwinder) {
	f := Frame{Addr: addr, Found: by}
	at := addr
	if !u.exact { // a call may be the last instruction of its function
		at--
	}
	if s, err := u.k.SymbolAt(at); err == nil {
		s.Offset += addr - at
		f.Symbol = s
	}
	u.frames = append(u.frames, f)
}

// text reports whether an address is in a function: in the image's code, that
// of its start included, or in a module's.
func (k *Kernel) text(addr uint64) bool {
	if !isKernel(addr) {
		return false
	}
	if !k.inImage(addr) {
		_, ok := k.codeOf(addr)
		return ok
	}
	code, _ := k.code.get(k.findCode)
	return slices.ContainsFunc(code, func(s span) bool { return addr-s.addr < s.size })
}

// mayRun reports whether an address is in a function, or where code that was
// made at run time lies: BPF's programs, trampolines.
func (k *Kernel) mayRun(addr uint64) bool {
	const modulesEnd = 0xffffffff_ff000000 // MODULES_END
	return k.text(addr) || !k.inImage(addr) && addr >= imageStart && addr < modulesEnd
}

// findCode returns where the image has code.
func (k *Kernel) findCode() (all []span, err error) {
	for _, names := range [][2]string{{"_stext", "_etext"}, {"_sinittext", "_einittext"}} {
		start, err1 := k.Symbol(names[0])
		end, err2 := k.Symbol(names[1])
		if err1 == nil && err2 == nil && start <= end {
			all = append(all, span{start, end - start})
		}
	}
	return all, nil
}

// framePointerStep goes to the caller by RBP, as functions that begin with push
// %rbp; mov %rsp,%rbp leave it. It is false if RBP does not lead to a return
// address further up the stack.
func (u *unwinder) framePointerStep() bool {
	bp := u.regs.RBP
	if !isKernel(bp) || bp%8 != 0 || bp < u.regs.RSP || bp-u.regs.RSP > maxScan {
		return false
	}
	next, err1 := u.k.Pointer(bp)
	ret, err2 := u.k.Pointer(bp + 8)
	if err1 != nil || err2 != nil || !u.k.text(ret) {
		return false
	}
	u.regs = Registers{RIP: ret, RSP: bp + 16, RBP: next}
	u.whole, u.exact = false, false
	u.add(ret, ByFramePointer)
	return true
}

// scan adds what is on the rest of the stack that a function may return to.
func (u *unwinder) scan() {
	u.exact = false
	at := u.regs.RSP &^ 7
	if !isKernel(at) {
		return
	}
	last := len(u.frames) + maxScanned
	for end := at + maxScan; at < end && len(u.frames) < min(last, maxFrames); at += 8 {
		ret, err := u.k.Pointer(at)
		if err != nil {
			return
		}
		if u.k.returnsTo(ret) {
			u.add(ret, ByScan)
		}
	}
}

// returnsTo reports whether the instruction before an address is a call.
func (k *Kernel) returnsTo(addr uint64) bool {
	const longest = 7
	if !k.text(addr) {
		return false
	}
	var b [longest]byte
	if _, err := k.Read(b[:], addr-longest); err != nil {
		return false
	}
	if b[longest-5] == 0xe8 { // call rel32
		return true
	}
	// call *r/m64: 0xff /2, with at most a SIB byte and 4 of displacement.
	for n := 2; n <= longest; n++ {
		if b[longest-n] == 0xff && b[longest-n+1]>>3&7 == 2 {
			return true
		}
	}
	return false
}

// errNoORC means that no ORC table has an entry for an address.
var errNoORC = errors.New("no ORC entry")
