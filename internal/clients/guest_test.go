package clients

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmcsnote/internal/cli"
	"vmcsnote/internal/testcores"
)

// linuxGuests are dumps of hosts with a Linux guest, in
// testdata/cores/linux-guest.
var linuxGuests = []string{"amd64-nokaslr-idle-parked", "amd64-kaslr-spin-inguest-shuffled"}

func guestFile(t *testing.T, name, file string) []byte {
	t.Helper()
	dir, err := testcores.Dir()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "linux-guest", name, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// extractGuest takes the guest out of a host's dump, as a person does.
func extractGuest(t *testing.T, host string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.core")
	if status := cli.Main(append([]string{"extract", "-o", out, host}, flags...)); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	return out
}

func linuxGuest(t *testing.T, name string) string {
	t.Helper()
	return extractGuest(t, testcores.Open(t, "linux-guest/"+name+"/host-thin"))
}

// A guest's core is one that readers of QEMU's cores take, with its registers
// and its kernel's release.
func TestGuestClients(t *testing.T) {
	for _, name := range linuxGuests {
		t.Run(name, func(t *testing.T) {
			core := linuxGuest(t, name)
			readGuest(t, core, []string{"CORE", "QEMU", "VMCOREINFO"}, "6.1.0-56-amd64")
			t.Run("gdb", func(t *testing.T) {
				testcores.Tool(t, "gdb")
				out, err := run(t, "gdb", "-nx", "-batch", "-ex", "info registers", "-c", core)
				if err != nil {
					t.Fatal(err, out)
				}
				compareRegisters(t, out, string(guestFile(t, name, "truth.txt")))
			})
		})
	}
}

// readGuest lets readers open a guest's core, which has notes of these owners.
func readGuest(t *testing.T, core string, owners []string, release string) {
	t.Run("readelf -n", func(t *testing.T) {
		testcores.Tool(t, "readelf")
		out, err := run(t, "readelf", "-nW", core)
		var got []string
		for _, o := range regexp.MustCompile(`(?m)^  (\S+) +0x[0-9a-f]+\t`).FindAllStringSubmatch(out, -1) {
			got = append(got, o[1])
		}
		if err != nil || !slices.Equal(got, owners) || strings.Contains(out, "Warning") {
			t.Errorf("%v, notes of %q, expected %q\n%.2000s", err, got, owners, out)
		}
	})
	t.Run("crash --osrelease", func(t *testing.T) {
		testcores.Tool(t, "crash")
		if out, err := run(t, "crash", "--osrelease", core); err != nil || strings.TrimSpace(out) != release {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("drgn", func(t *testing.T) {
		testcores.Tool(t, "drgn")
		out, err := drgnRelease(t, core)
		if err != nil || !strings.Contains(out, "IS_LINUX_KERNEL") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// Readers pass over the note that says which machine a core is of.
func TestGuestNote(t *testing.T) {
	core := extractGuest(t, testcores.Open(t, "linux-host/amd-6.1"), "--guest", "web01")
	readGuest(t, core, []string{"CORE", "CORE", "QEMU", "QEMU", "VMCSNOTE", "VMCOREINFO"}, "6.1.0-56-cloud-amd64")
	t.Run("eu-readelf -n", func(t *testing.T) {
		testcores.Tool(t, "eu-readelf")
		if out, err := run(t, "eu-readelf", "-n", core); err != nil || !regexp.MustCompile(`(?m)^  VMCSNOTE +65 `).MatchString(out) {
			t.Errorf("%v: %.2000s", err, out)
		}
	})
	t.Run("gdb", func(t *testing.T) {
		testcores.Tool(t, "gdb")
		out, err := run(t, "gdb", "-nx", "-batch", "-ex", "info registers rip", "-ex", "info threads", "-c", core)
		if err != nil || !strings.Contains(out, "0xffffffffb8a17a0b") || !strings.Contains(out, "LWP 2") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// compareRegisters compares gdb's registers with what KVM said before the
// crash.
func compareRegisters(t *testing.T, out, truth string) {
	t.Helper()
	known := regexp.MustCompile(`(?m)^(\w+)=([0-9a-f]+)$`).FindAllStringSubmatch(truth, -1)
	compared := 0
	for _, k := range known {
		name := k[1]
		if name == "rflags" {
			name = "eflags"
		}
		got := regexp.MustCompile(`(?m)^` + name + ` +0x([0-9a-f]+) `).FindStringSubmatch(out)
		if got == nil {
			continue // no register of gdb's
		}
		if compared++; got[1] != k[2] {
			t.Errorf("%s is %s, expected %s", name, got[1], k[2])
		}
	}
	if compared != 18 {
		t.Errorf("%d registers compared, expected 18:\n%s", compared, out)
	}
}

// What takes files that are too large to be here, and runs where they are
// named: VMCSNOTE_VMLINUX is the vmlinux of 6.1.0-56-amd64 with debug
// information, with which crash prints of the guests what crash-8.0.2.txt
// holds; VMCSNOTE_HOST the whole dump of a host with one Linux guest, whose
// core makedumpfile filters.
func TestGuestDeep(t *testing.T) {
	if vmlinux := os.Getenv("VMCSNOTE_VMLINUX"); vmlinux != "" {
		for _, name := range linuxGuests {
			t.Run("crash/"+name, func(t *testing.T) { crashGuest(t, vmlinux, name) })
		}
	}
	if host := os.Getenv("VMCSNOTE_HOST"); host != "" {
		t.Run("makedumpfile -l -d 31", func(t *testing.T) {
			testcores.Tool(t, "makedumpfile")
			core := extractGuest(t, host)
			want, _, err := dmesg(t, core)
			if err != nil || !strings.Contains(want, "Linux version") {
				t.Fatalf("it does not read the core: %v\n%s", err, want)
			}
			dump := filepath.Join(t.TempDir(), "dump")
			if out, err := run(t, "makedumpfile", "--message-level", "4", "-l", "-d", "31", core, dump); err != nil {
				t.Fatal(err, out)
			}
			if got, _, err := dmesg(t, dump); err != nil || got != want {
				t.Errorf("%v: the filtered core's messages are\n%.2000s\nand the core's\n%.2000s", err, got, want)
			}
			if out, err := release(t, dump); err != nil || strings.TrimSpace(out) == "unknown" {
				t.Errorf("crash --osrelease: %v: %s", err, out)
			}
		})
	}
}

func crashGuest(t *testing.T, vmlinux, name string) {
	testcores.Tool(t, "crash")
	core := linuxGuest(t, name)
	cmds := filepath.Join(t.TempDir(), "cmds")
	if err := os.WriteFile(cmds, []byte("sys\nps\nbt -a\nlog\nquit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "crash", "-s", "-i", cmds, vmlinux, core)
	if err != nil {
		t.Fatal(err, out)
	}
	got, want := crashLines(out), crashLines(string(guestFile(t, name, "crash-8.0.2.txt")))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d of %d, expected %d lines: %q\nexpected: %q", i, len(got), len(want), got[i:min(i+3, len(got))], want[i:min(i+3, len(want))])
		}
	}
}

// crashLines are crash's lines but for those that name files or depend on this
// machine's time zone; in crash-8.0.2.txt the kernel's banner is shorter.
func crashLines(out string) []string {
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.Replace(strings.TrimRight(line, " \n"), "@lists.debian.org", "@lists", 1)
		if !regexp.MustCompile(`^ *(KERNEL|DUMPFILE|DATE|WARNING|bt): |^$`).MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}
