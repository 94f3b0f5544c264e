// Package fakewindows makes guests in a host's dump look like Windows, for
// tests.
package fakewindows

import (
	"encoding/binary"
	"time"
	"unicode/utf16"

	"github.com/pkg/errors"

	"vmcsnote/guest"
)

// Now is the time of day in [Shared], and Uptime the time since boot.
var (
	Now    = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	Uptime = 3*24*time.Hour + 90*time.Second
)

// Shared returns KUSER_SHARED_DATA of a Windows Server 2022, as ntddk.h of the
// Windows SDK lays it out.
func Shared() []byte {
	b := make([]byte, 4096)
	u32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	systemTime := func(at int, ticks uint64) {
		u32(at, uint32(ticks))
		u32(at+4, uint32(ticks>>32))
		u32(at+8, uint32(ticks>>32))
	}
	systemTime(0x008, uint64(Uptime/100))                        // InterruptTime
	systemTime(0x014, uint64(Now.Unix()+11644473600)*10_000_000) // SystemTime
	binary.LittleEndian.PutUint32(b[0x02c:], 0x8664<<16|0x8664)  // ImageNumberLow, ImageNumberHigh
	for i, c := range utf16.Encode([]rune(`C:\Windows`)) {
		binary.LittleEndian.PutUint16(b[0x030+2*i:], c) // NtSystemRoot
	}
	u32(0x260, 0xf0000000|20348) // NtBuildNumber of a free build
	u32(0x264, 3)                // NtProductType: NtProductServer
	b[0x268] = 1                 // ProductTypeIsValid
	u32(0x26c, 10)               // NtMajorVersion
	u32(0x270, 0)                // NtMinorVersion
	return b
}

// Install replaces a machine's virtual memory by the page shared, where Windows
// has it. write writes to the host's physical memory.
func Install(m *guest.Machine, shared []byte, write func(addr uint64, b []byte) error) error {
	mem, err := m.Memory()
	if err != nil {
		return err
	}
	put := func(gpa uint64, b []byte) error {
		at, err := mem.Translate(gpa)
		if err != nil {
			return err
		}
		return write(at.Phys+gpa-at.Addr, b)
	}
	roots := map[uint64]bool{}
	for _, v := range m.VCPUs {
		if v.Regs != nil && v.Regs.LongMode && v.Regs.CR3.Known() {
			roots[v.Regs.CR3.Value&^0xfff] = true
		}
	}
	// Three tables and the page go where the machine has memory already.
	var free []uint64
	for gpa := uint64(0x1000); len(free) < 4 && gpa < 1<<30; gpa += 4096 {
		if _, err := mem.Translate(gpa); err == nil && !roots[gpa] {
			free = append(free, gpa)
		}
	}
	if len(roots) == 0 || len(free) < 4 {
		return errors.Errorf("%d page tables, %d pages", len(roots), len(free))
	}
	at := uint64(0xfffff780_00000000)
	table := func(level int, next uint64) []byte {
		b := make([]byte, 4096)
		binary.LittleEndian.PutUint64(b[at>>(12+9*level)&0x1ff*8:], next|3)
		return b
	}
	for root := range roots {
		if err := put(root, table(3, free[0])); err != nil {
			return err
		}
	}
	for i, b := range [][]byte{table(2, free[1]), table(1, free[2]), table(0, free[3]), shared} {
		if err := put(free[i], b); err != nil {
			return err
		}
	}
	return nil
}
