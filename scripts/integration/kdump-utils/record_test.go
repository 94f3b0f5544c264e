package hook_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

const recordArmed = "../systemd/record-armed"

// running turns the environment into a running kernel's, whose memory has the
// note.
func (c *capture) running(note []byte) {
	c.remove("proc/vmcore")
	c.remove("etc/vmcsnote")
	c.write("proc/cmdline", []byte("quiet\n"))
	c.write("proc/sys/kernel/osrelease", []byte(release+"\n"))
	c.write("proc/sys/kernel/random/boot_id", []byte("5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1\n"))
	c.write("sys/kernel/vmcsinfo", []byte("1000 2000\n"))
	c.memory(note)
	c.program("kdumpctl", "echo kdumpctl $* >>"+c.path("calls"))
	c.write("etc/kdump/post.d/50-vmcsnote", nil)
}

func (c *capture) memory(note []byte) {
	b := make([]byte, 0x3000)
	copy(b[0x1000:], note)
	c.write("dev/mem", b)
}

// calls returns what has been called since it was asked last.
func (c *capture) calls() string {
	b, _ := os.ReadFile(c.path("calls"))
	os.Remove(c.path("calls"))
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", ", ")
}

// TestRecordArmed: kdump's image is made anew once for every note that is new,
// and never else.
func TestRecordArmed(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		c := newCapture(t, shell)
		note := testcores.Blob(t, "deb-t1")
		c.running(note)
		step := func(name string, status int, calls string) {
			t.Helper()
			said, got := c.run(nil, recordArmed)
			if did := c.calls(); got != status || did != calls {
				t.Errorf("%s: status %d and calls %q, want %d and %q: %s", name, got, did, status, calls, said)
			}
		}
		const fresh = "kdumpctl rebuild, kdumpctl reload"
		step("the first record", 0, fresh)
		step("the same boot", 0, "")
		c.write("proc/sys/kernel/random/boot_id", []byte("6f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1\n"))
		step("the next boot", 0, "")
		if !bytes.Contains(c.read("etc/vmcsnote/record"), []byte("6f0d4f0c")) {
			t.Error("the record is not of the next boot")
		}
		c.memory(other)
		step("another microcode", 0, fresh)
		step("another microcode, next boot", 0, "")

		before := c.read("etc/vmcsnote/record")
		c.memory(nil)
		step("no note there", 1, "")
		c.remove("sys/kernel/vmcsinfo")
		step("no VMCSINFO", 3, "")
		if !bytes.Equal(c.read("etc/vmcsnote/record"), before) {
			t.Error("the record did not stay")
		}

		c.running(note)
		c.program("kdumpctl", "echo kdumpctl $* >>"+c.path("calls")+"; exit 1")
		step("kdumpctl fails", 0, "kdumpctl rebuild")
		c.running(note)
		c.remove("bin/kdumpctl")
		c.program("mkdumprd", "echo mkdumprd $* >>"+c.path("calls"))
		c.program("systemctl", "echo systemctl $* >>"+c.path("calls"))
		step("SUSE", 0, "mkdumprd -f, systemctl --no-block restart kdump.service")
		c.running(note)
		c.remove("bin/kdumpctl")
		c.remove("bin/mkdumprd")
		step("Debian", 0, "")
	})
}
