package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/pkg/errors"

	"vmcsnote/vmcore"
)

const pageSize = 4096

// Where a PC has its screen's memory: none of the guest's.
const vgaStart, vgaEnd = 0xa0000, 0xc0000

// memory compares all pages of a guest's core with its memory as QEMU saved it.
// Pages that the core does not have must be zero: nobody has ever touched them.
func memory(corePath, memPath string) error {
	core, err := vmcore.OpenFile(corePath)
	if err != nil {
		return err
	}
	defer core.Close()
	mem, err := os.Open(memPath)
	if err != nil {
		return err
	}
	defer mem.Close()
	var want, got [pageSize]byte
	same, absent, wrong := 0, 0, 0
	for addr := uint64(0); ; addr += pageSize {
		if _, err := io.ReadFull(mem, want[:]); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if addr >= vgaStart && addr < vgaEnd {
			continue
		}
		if n, err := core.ReadPhys(got[:], addr); n < pageSize {
			if want != [pageSize]byte{} {
				fmt.Printf("%#x is not in the core: %v\n", addr, err)
				wrong++
			}
			absent++
			continue
		}
		if !bytes.Equal(got[:], want[:]) {
			fmt.Printf("%#x differs\n", addr)
			wrong++
			continue
		}
		same++
	}
	fmt.Printf("%d pages are the same, %d are not in the core\n", same, absent)
	switch {
	case wrong > 0:
		return errors.Errorf("%d pages differ", wrong)
	case same < absent:
		return errors.New("the core has less than half of the memory")
	}
	return nil
}
