package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestQuiet: what the kernel says of the emulator is no fault, all else is.
func TestQuiet(t *testing.T) {
	const emulator = "[    0.000000] x\n" +
		"[    0.000000] WARNING: CPU: 0 PID: 0 at arch/x86/kernel/cpu/topology_common.c:57 parse_legacy+0x11e/0x140\n" +
		"[    0.000000] Modules linked in:\n" +
		"[    0.000000] Call Trace:\n" +
		"[    0.000000] ---[ end trace 0000000000000000 ]---\n"
	for _, tt := range []struct {
		name, log string
		failed    int
	}{
		{"nothing", "[    0.000000] Linux version 6.12\n", 0},
		{"of the emulator", emulator, 0},
		{"another warning at the start", emulator + "[    0.000000] WARNING: CPU: 0 PID: 0 at mm/x.c:1 f+0x1/0x2\n[    0.000000] ---[ end trace 0000000000000000 ]---\n", 1},
		{"a warning later", emulator + "[    3.000000] WARNING: CPU: 0 PID: 0 at mm/x.c:1 f+0x1/0x2\n[    3.000000] Call Trace:\n", 2},
		{"later within it", "[    0.000000] WARNING: at parse_legacy+0x1\n[    3.000000] BUG: x\n[    0.000000] ---[ end trace 0 ]---\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &run{dir: t.TempDir()}
			if err := os.MkdirAll(filepath.Join(r.dir, "out"), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, b := range map[string]string{"out/first.dmesg": tt.log, "serial.out": ""} {
				if err := os.WriteFile(filepath.Join(r.dir, name), []byte(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if r.quiet(); r.failed != tt.failed {
				t.Errorf("%d complaints, want %d", r.failed, tt.failed)
			}
		})
	}
}
