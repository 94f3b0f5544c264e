package inside

import (
	"encoding/binary"
	"testing"
	"time"
	"unicode/utf16"
)

// shared is KUSER_SHARED_DATA of a Windows Server 2022, as ntddk.h lays it out.
func shared() []byte {
	b := make([]byte, sharedSize)
	u32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	for i, c := range utf16.Encode([]rune(`C:\Windows`)) {
		binary.LittleEndian.PutUint16(b[0x30+2*i:], c)
	}
	u32(0x260, 0xf0000000|20348)
	u32(0x264, 3)
	u32(0x26c, 10)
	// 90 s, and 2026-11-26 12:00:00 as a FILETIME.
	binary.LittleEndian.PutUint64(b[0x08:], 90*1e7)
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	binary.LittleEndian.PutUint64(b[0x14:], uint64(at.Unix()+11644473600)*1e7)
	return b
}

func TestWindows(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(b []byte)
		release string // "" if it is not Windows
		uptime  time.Duration
	}{
		{"a server", func(b []byte) {}, "10.0.20348", 90 * time.Second},
		{"Windows 7, whose build is elsewhere", func(b []byte) { b[0x26c], b[0x270] = 6, 1 }, "6.1", 90 * time.Second},
		{"an uptime that is no time", func(b []byte) { b[0x0f] = 0xff }, "10.0.20348", 0},
		{"no product", func(b []byte) { b[0x264] = 0 }, "", 0},
		{"a version of the future", func(b []byte) { b[0x26f] = 1 }, "", 0},
		{"no directory", func(b []byte) { b[0x32] = 0 }, "", 0},
		{"a directory without an end", func(b []byte) {
			for i := 0x36; i < 0x260; i++ {
				b[i] = 'x'
			}
		}, "", 0},
		{"zeros", func(b []byte) { clear(b) }, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := shared()
			test.change(b)
			var s System
			if ok := s.takeShared(b); ok != (test.release != "") || s.Release != test.release || s.Uptime != test.uptime {
				t.Fatalf("%v: %+v", ok, s)
			}
			if test.release != "" && s.Time.Format(time.DateTime) != "2026-11-26 12:00:00" {
				t.Errorf("time is %v", s.Time)
			}
		})
	}
}
