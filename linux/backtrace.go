package linux

// A Frame is a function on a stack.
type Frame struct {
	Addr   uint64 // RIP, or where the function returns to
	Symbol Symbol // of it
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
	// ByScan means that the stack has an address of a function there: it
	// may have returned long ago.
	ByScan
)

var unwinderNames = [...]string{"orc", "frame-pointer", "scan"}

// String names the unwinder.
func (u Unwinder) String() string { return unwinderNames[u] }
