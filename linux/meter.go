package linux

import (
	"github.com/pkg/errors"

	"vmcsnote/physmem"
)

// errSpent means that a kernel of [Find] took more time than it may.
var errSpent = errors.New("reading the kernel takes too long: its structures are corrupt or forged")

// A meter bounds the time and the memory that a kernel costs which may be
// hostile, as a guest's is: lists that lead back into themselves, tables that
// share their pages. It counts what is done instead of looking at a clock, so
// that the same dump always tells the same. A nil meter has no bound.
type meter struct {
	left int64 // of time; the unit is about a nanosecond
	room int64 // of memory that is kept, in bytes
}

const (
	// maxCost is what a guest's kernel may cost. To find Linux 7.3, and to read
	// what it was doing, costs a quarter.
	maxCost = 300_000_000
	// maxRoom is what may be kept of it, most of it symbols and types: Linux 7.3
	// needs 12 MB.
	maxRoom = 32 << 20
	// A read of memory costs byteCost for each byte, which may be compressed, and
	// readCost besides. virtualCost is that of a read by virtual address.
	byteCost    = 2
	readCost    = 1000
	virtualCost = 250
)

// spend takes n units. It fails if there are not as many left, from then on
// always.
func (m *meter) spend(n int) error {
	if m == nil {
		return nil
	}
	if m.left -= int64(n); m.left < 0 {
		m.left = -1
		return errSpent
	}
	return nil
}

// keep takes n bytes. It fails if there are not as many left.
func (m *meter) keep(n int) error {
	if m == nil {
		return nil
	}
	if int64(n) > m.room {
		return errSpent
	}
	m.room -= int64(n)
	return nil
}

// metered is memory that a meter counts the reads of.
type metered struct {
	mem physmem.Reader
	*meter
}

// ReadPhys implements [physmem.Reader].
func (m metered) ReadPhys(p []byte, addr uint64) (int, error) {
	if err := m.spend(byteCost*len(p) + readCost); err != nil {
		return 0, err
	}
	return m.mem.ReadPhys(p, addr)
}
