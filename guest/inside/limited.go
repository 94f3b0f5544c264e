package inside

import (
	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// errSpent means that a guest had more to read than a look takes.
var errSpent = errors.New("reading the guest's kernel takes too long: its structures are corrupt or forged")

const (
	// maxRead bounds what is read of a guest's memory, in bytes. A look at a
	// Linux 6.12 reads some 30 MiB: .rodata until kallsyms is found, then
	// kallsyms and BTF.
	maxRead = 256 << 20
	// readCost is what each read costs besides, for small ones take time, too.
	readCost = 1 << 10
)

// limited is memory of which only so much can be read.
type limited struct {
	mem  physmem.Reader
	left int64
}

// ReadPhys implements [physmem.Reader].
func (l *limited) ReadPhys(p []byte, addr uint64) (int, error) {
	if l.left -= int64(len(p)) + readCost; l.left < 0 {
		return 0, errSpent
	}
	return l.mem.ReadPhys(p, addr)
}
