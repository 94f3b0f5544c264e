package inside

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"vmcsnote/guest"
)

// Windows maps a page, KUSER_SHARED_DATA, at addresses that have not changed
// since NT: for the 64-bit kernel, for every process, and for the 32-bit
// kernel.
var sharedDataAt = []uint64{0xfffff780_00000000, 0x7ffe0000, 0xffdf0000}

// Members of KUSER_SHARED_DATA (Windows SDK, ntddk.h), the same for 32 and 64
// bits. The times are KSYSTEM_TIMEs.
const (
	sharedInterruptTime = 0x08 // since boot, sleep included, in units of 100 ns
	sharedSystemTime    = 0x14 // since 1601, UTC, in units of 100 ns
	sharedRoot          = 0x30 // UTF-16: C:\Windows
	sharedRootChars     = 260
	sharedBuild         = 0x260 // since Windows 10; bits 31:28 are no number
	sharedProductType   = 0x264
	sharedProductValid  = 0x268 // whether the product type is known yet
	sharedMajor         = 0x26c
	sharedMinor         = 0x270
	sharedSize          = 0x274
)

// products are the values of NT_PRODUCT_TYPE.
var products = [...]string{1: "workstation", 2: "domain controller", 3: "server"}

// lookWindows reads what Windows shows to all processes. It is false if none of
// the vCPUs has that page.
func (s *System) lookWindows(m *guest.Machine) bool {
	for _, v := range m.VCPUs {
		mem, err := m.Virtual(v)
		if err != nil {
			continue
		}
		for _, at := range sharedDataAt {
			b := make([]byte, sharedSize)
			if _, err := mem.ReadPhys(b, at); err == nil && s.takeShared(b) {
				return true
			}
		}
	}
	return false
}

// takeShared reads KUSER_SHARED_DATA. It returns false if b is something else.
func (s *System) takeShared(b []byte) bool {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	major, minor, product := u32(sharedMajor), u32(sharedMinor), u32(sharedProductType)
	if major < 5 || major > 20 || minor > 9 || product >= uint32(len(products)) || !isRoot(b[sharedRoot:][:2*sharedRootChars]) {
		return false
	}
	s.OS = "Windows"
	s.Release = fmt.Sprintf("%d.%d", major, minor)
	if build := u32(sharedBuild) & 0x0fffffff; major >= 10 && build != 0 {
		s.Release += fmt.Sprintf(" build %d", build)
	}
	if b[sharedProductValid] == 1 && product != 0 {
		s.Release += ", " + products[product]
	}
	const (
		second     = 1e7 // of the unit, 100 ns
		century    = 100 * 365 * 24 * 3600 * second
		before1970 = 11644473600 * second
	)
	if up, ok := ticks(b[sharedInterruptTime:]); ok && up < century {
		s.Uptime = 100 * time.Duration(up)
	}
	if now, ok := ticks(b[sharedSystemTime:]); ok && now >= before1970 && now < before1970+2*century {
		s.Time = time.Unix(0, 100*int64(now-before1970)).UTC()
	}
	return true
}

// ticks reads a KSYSTEM_TIME, in units of 100 ns. It has a lower half, and the
// upper half twice. Windows writes the second copy first and the first one
// last, so they differ if the vCPU was stopped in between: then the time is
// unknown.
func ticks(b []byte) (t uint64, ok bool) {
	high := binary.LittleEndian.Uint32(b[4:])
	return uint64(high)<<32 | uint64(binary.LittleEndian.Uint32(b)), high == binary.LittleEndian.Uint32(b[8:])
}

// isRoot reports whether text is the path of Windows' directory: a drive, and
// characters up to a NUL.
func isRoot(text []byte) bool {
	chars := make([]uint16, len(text)/2)
	for i := range chars {
		chars[i] = binary.LittleEndian.Uint16(text[2*i:])
	}
	path, _, ended := strings.Cut(string(utf16.Decode(chars)), "\x00")
	return ended && len(path) > 3 && path[1:3] == `:\` && (path[0]|0x20 >= 'a' && path[0]|0x20 <= 'z')
}
