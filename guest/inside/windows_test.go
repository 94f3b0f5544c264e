package inside

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"vmcsnote/guest"
	"vmcsnote/internal/fakewindows"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// TestShared reads KUSER_SHARED_DATA as a crash, or an attacker, may leave it.
func TestShared(t *testing.T) {
	now := fakewindows.Now
	const up = 3*24*time.Hour + 90*time.Second
	set := func(at int, b ...byte) func([]byte) {
		return func(shared []byte) { copy(shared[at:], b) }
	}
	for _, test := range []struct {
		name    string
		change  func(b []byte)
		release string // "" if it is not Windows
		uptime  time.Duration
		time    time.Time
		booted  time.Time
	}{
		{"a server", set(0), "10.0 build 20348, server", up, now, now.Add(-up)},
		{"a domain controller", set(0x264, 2), "10.0 build 20348, domain controller", up, now, now.Add(-up)},
		{"a workstation", set(0x264, 1), "10.0 build 20348, workstation", up, now, now.Add(-up)},
		{"a product that is not known yet", set(0x268, 0), "10.0 build 20348", up, now, now.Add(-up)},
		{"no product", set(0x264, 0), "10.0 build 20348", up, now, now.Add(-up)},
		{"a product of the future", set(0x264, 4), "", 0, time.Time{}, time.Time{}},
		{"a checked build", set(0x263, 0xc0), "10.0 build 20348, server", up, now, now.Add(-up)},
		{"Windows 7, which has no build there", set(0x26c, 6, 0, 0, 0, 1), "6.1, server", up, now, now.Add(-up)},
		{"no build", set(0x260, 0, 0, 0, 0xf0), "10.0, server", up, now, now.Add(-up)},
		{"stopped while it counted the uptime", set(0x08+8, 0x5c), "10.0 build 20348, server", 0, now, time.Time{}},
		{"stopped while it set the clock", set(0x14+4, 0xff), "10.0 build 20348, server", up, time.Time{}, time.Time{}},
		{"an uptime of 58,000 years", set(0x08, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
			"10.0 build 20348, server", 0, now, time.Time{}},
		{"an uptime of 7,000 years", set(0x08, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0, 0, 0, 0x1f), "10.0 build 20348, server", 0, now, time.Time{}},
		{"the clock is before 1970", set(0x14, 0, 0, 0, 0, 0, 0, 0x9d, 0x01, 0, 0, 0x9d, 0x01), "10.0 build 20348, server", up, time.Time{}, time.Time{}},
		{"the clock is after 2170", set(0x14, 0, 0, 0, 0, 0, 0, 0, 0x70, 0, 0, 0, 0x70), "10.0 build 20348, server", up, time.Time{}, time.Time{}},
		{"up for 90 years", set(0x08, 0, 0, 0, 0, 0, 0, 0x65, 0, 0, 0, 0x65, 0), "10.0 build 20348, server", 0x650000 << 32 * 100, now, time.Time{}},
		{"version 16777226", set(0x26f, 1), "", 0, time.Time{}, time.Time{}},
		{"version 10.10", set(0x270, 10), "", 0, time.Time{}, time.Time{}},
		{"a directory without a drive", set(0x32, 0), "", 0, time.Time{}, time.Time{}},
		{"a directory that does not end", set(0x36, bytes.Repeat([]byte("x"), 0x260-0x36)...), "", 0, time.Time{}, time.Time{}},
		{"zeros", func(b []byte) { clear(b) }, "", 0, time.Time{}, time.Time{}},
		{"ones", set(0, bytes.Repeat([]byte{0xff}, 4096)...), "", 0, time.Time{}, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := fakewindows.Shared()
			test.change(b)
			var s System
			if ok := s.takeShared(b[:sharedSize]); ok != (test.release != "") || ok != (s.OS == "Windows") || s.Release != test.release {
				t.Errorf("%v: %q %q", ok, s.OS, s.Release)
			}
			if s.Uptime != test.uptime || !s.Time.Equal(test.time) || !s.Booted().Equal(test.booted) {
				t.Errorf("up %v at %v since %v", s.Uptime, s.Time, s.Booted())
			}
		})
	}
}

// overlaidCore is a dump with other pages in place of some.
type overlaidCore struct {
	vmcore.Core
	pages map[uint64][]byte
}

func (c overlaidCore) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := c.Core.ReadPhys(p, addr)
	for at, b := range c.pages {
		if lo, hi := max(at, addr), min(at+4096, addr+uint64(n)); lo < hi {
			copy(p[lo-addr:], b[lo-at:hi-at])
		}
	}
	return n, err
}

// TestWindows looks into a machine that has no more than KUSER_SHARED_DATA,
// by the page tables of its vCPUs.
func TestWindows(t *testing.T) {
	image := testcores.Image(t, "linux-host/amd-6.1")
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	c := overlaidCore{core, map[uint64][]byte{}}
	h := guest.OpenHost(c)
	if err := h.FindMachines(context.Background(), guest.MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	m := h.Machines[0]
	write := func(addr uint64, b []byte) error {
		c.pages[addr] = b
		return nil
	}
	b := fakewindows.Shared()
	if err := fakewindows.Install(m, b, write); err != nil {
		t.Fatal(err)
	}
	s := Look(m, Options{Backtrace: true})
	if s.OS != "Windows" || s.Release != "10.0 build 20348, server" || s.Uptime != fakewindows.Uptime || s.Err != nil || s.Kernel != nil {
		t.Errorf("%+v", s)
	}
	if len(s.VCPUs) != 2 || s.VCPUs[0].HasTask || s.VCPUs[0].Symbol != "" || s.VCPUs[0].Backtrace != nil {
		t.Errorf("%+v", s.VCPUs)
	}
	binary.LittleEndian.PutUint32(b[0x26c:], 1)
	if s := Look(m, Options{}); s.OS != "" || s.Err == nil {
		t.Errorf("without a version: %+v", s)
	}
}
