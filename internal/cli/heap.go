package cli

// ballastSize makes the garbage collector wait until the heap has grown by 4
// MiB, a quarter of it.
const ballastSize = 16 << 20

// ballast is never touched, so it takes no memory.
var ballast []byte

// growHeap is called before a host's kernel is read. The collector runs when
// the heap has grown by a quarter (main.go), which of a small heap is at once:
// guests ran it 13 to 64 times. With two CPUs or more that took much of its
// time, because idle CPUs look for work to do. Commands that save a dump do
// without: they have little memory.
func growHeap() {
	if ballast == nil {
		ballast = make([]byte, ballastSize)
	}
}
