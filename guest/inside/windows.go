package inside

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"vmcsnote/guest"
)

// Windows maps a page, KUSER_SHARED_DATA, at an address that has not changed
// since NT: for the 64-bit kernel, and for every process.
var sharedDataAt = []uint64{0xfffff780_00000000, 0x7ffe0000}

// Members of KUSER_SHARED_DATA (ntddk.h).
const (
	sharedInterruptTime = 0x08 // since boot, in units of 100 ns
	sharedSystemTime    = 0x14 // since 1601
	sharedRoot          = 0x30 // UTF-16: C:\Windows
	sharedRootChars     = 260
	sharedBuild         = 0x260 // since Windows 10; bits 31:28 are no number
	sharedProductType   = 0x264 // 1 workstation, 2 domain controller, 3 server
	sharedMajor         = 0x26c
	sharedMinor         = 0x270
	sharedSize          = 0x274
)

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

// takeShared takes what KUSER_SHARED_DATA says. It is false if b is none.
func (s *System) takeShared(b []byte) bool {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	major, minor, product := u32(sharedMajor), u32(sharedMinor), u32(sharedProductType)
	if major < 5 || major > 20 || minor > 9 || product < 1 || product > 3 || !isRoot(b[sharedRoot:][:2*sharedRootChars]) {
		return false
	}
	s.OS = "Windows"
	s.Release = fmt.Sprintf("%d.%d", major, minor)
	if build := u32(sharedBuild) & 0x0fffffff; major >= 10 {
		s.Release += fmt.Sprintf(".%d", build)
	}
	if up := ticks(b[sharedInterruptTime:]); up < 1<<62 {
		s.Uptime = (time.Duration(up) / 1e7) * time.Second
	}
	// 1601 is so long before 1970, in seconds.
	const before1970 = 11644473600
	if now := ticks(b[sharedSystemTime:]) / 1e7; now > before1970 && now < 2*before1970 {
		s.Time = time.Unix(int64(now)-before1970, 0).UTC()
	}
	return true
}

// ticks reads a KSYSTEM_TIME, in units of 100 ns. Its upper half is there twice;
// they differ only while it is written.
func ticks(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

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
