package hook_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// TestCollector: what goes out is the dump with the note or, byte for byte,
// without; and the status is the collector's.
func TestCollector(t *testing.T) {
	copying := []string{"cat"}
	for _, tt := range []struct {
		name      string
		set       func(c *capture)
		collector []string // followed by /proc/vmcore
		note      bool     // the dump has the note
		status    int
	}{
		{name: "ELF", collector: copying, note: true, set: func(c *capture) { c.crash("deb-t1.elf31") }},
		{name: "flattened", collector: copying, note: true, set: func(c *capture) { c.write("proc/vmcore", testcores.Bytes(c.t, "flat/cloud-c1.flat-zlib")) }},
		{name: "no record", collector: copying, set: func(c *capture) { c.remove("etc/vmcsnote") }},
		{name: "corrupt record", collector: copying, set: func(c *capture) { c.write("etc/vmcsnote/record", []byte("vmcsnote-record 1\n")) }},
		{name: "record of another kernel", collector: copying, note: true, set: func(c *capture) {
			c.record("etc/vmcsnote/record", "6.9", "2026-11-23T08:00:00Z", testcores.Blob(c.t, "deb-t1"))
		}},
		{name: "a record that others can write", collector: copying, set: func(c *capture) { c.chmod("etc/vmcsnote/record", 0o606) }},
		{name: "a record in a directory that others can write", collector: copying, set: func(c *capture) { c.chmod("etc/vmcsnote", 0o777) }},
		{name: "a record of another owner", collector: copying, set: func(c *capture) {
			if err := os.Chown(c.path("etc/vmcsnote/record"), 12345, 12345); err != nil {
				c.t.Skip(err)
			}
		}},
		{name: "a record that is a symbolic link", collector: copying, set: func(c *capture) {
			c.move("etc/vmcsnote/record", "etc/vmcsnote/real")
			if err := os.Symlink("real", c.path("etc/vmcsnote/record")); err != nil {
				c.t.Fatal(err)
			}
		}},
		{name: "no dump", collector: copying, set: func(c *capture) { c.write("proc/vmcore", []byte("no dump")) }},
		{name: "a dump that ends early", collector: copying, set: func(c *capture) { c.write("proc/vmcore", testcores.Bytes(c.t, "bad-truncated-notes")) }},
		{name: "no program", collector: copying, set: func(c *capture) { c.remove("bin/vmcsnote") }},
		{name: "a program of before --pass-through", collector: copying, set: func(c *capture) { c.program("vmcsnote", "cat; exit 2") }},
		{name: "a program that hangs", collector: copying, set: func(c *capture) {
			if strings.Contains(strings.Join(c.shell, " "), "busybox") {
				c.program("vmcsnote", "exit 124") // busybox's own timeout comes before PATH's
				return
			}
			c.program("timeout", `case $* in *inject*) exit 124 ;; esac`)
		}},
		{name: "a timeout that knows no -k", collector: copying, note: true, set: func(c *capture) {
			c.program("timeout", `echo "timeout: invalid option -- 'k'" >&2; exit 1`)
		}},
		{name: "no timeout", collector: copying, note: true, set: func(c *capture) { c.remove("bin/timeout") }},
		{name: "a program that is killed at once", collector: copying, set: func(c *capture) { c.program("vmcsnote", "kill -9 $$") }},
		{name: "the collector fails at its end", collector: []string{"sh", "-c", `cat "$0"; exit 7`}, note: true, status: 7},
		{name: "the collector fails at once", collector: []string{"sh", "-c", "exit 9"}, status: 9},
		{name: "no such collector", collector: []string{"no-such-collector"}, status: 127},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				c := newCapture(t, shell)
				if tt.set != nil {
					tt.set(c)
				}
				want := c.read("proc/vmcore")
				if tt.note {
					inject := exec.Command(c.path("bin/vmcsnote"), "inject", "--record", c.path("etc/vmcsnote/record"), "-o", "-", "-")
					inject.Env = append(os.Environ(), fastExit)
					inject.Stdin = bytes.NewReader(want)
					b, err := inject.Output()
					if err != nil || bytes.Equal(b, want) {
						t.Fatal(err, "nothing to compare with")
					}
					want = b
				}
				var stdout bytes.Buffer
				said, status := c.run(&stdout, "./vmcsnote-collector", append(tt.collector, c.path("proc/vmcore"))...)
				if status != tt.status {
					t.Errorf("status %d, want %d: %s", status, tt.status, said)
				}
				if got := stdout.Bytes(); !bytes.Equal(got, want) && !(tt.status != 0 && len(got) == 0) {
					t.Errorf("%d bytes came out, want %d: %s", len(got), len(want), said)
				}
				if !tt.note && tt.status == 0 && said == "" {
					t.Error("the note is not there, and nothing says so")
				}
			})
		})
	}
}

// TestCollectorWriting: what cannot be written is a failure; a file is the
// collector's own.
func TestCollectorWriting(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		c := newCapture(t, shell)
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		defer full.Close()
		if said, status := c.run(full, "./vmcsnote-collector", "cat", c.path("proc/vmcore")); status == 0 {
			t.Errorf("no room: status 0: %s", said)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if said, status := c.run(w, "./vmcsnote-collector", "cat", c.path("proc/vmcore")); status == 0 {
			t.Errorf("nobody reads: status 0: %s", said)
		}
		w.Close()
		if said, status := c.run(nil, "./vmcsnote-collector", "cp", c.path("proc/vmcore"), c.path("vmcore-incomplete")); status != 0 ||
			!bytes.Equal(c.read("vmcore-incomplete"), c.read("proc/vmcore")) {
			t.Errorf("a file: status %d, or another one: %s", status, said)
		}
		if _, status := c.run(nil, "./vmcsnote-collector", "cp", c.path("none"), c.path("vmcore-incomplete")); status != 1 {
			t.Errorf("a collector that fails: status %d, want 1", status)
		}
		if _, status := c.run(nil, "./vmcsnote-collector"); status != 2 {
			t.Errorf("no collector: status %d, want 2", status)
		}
	})
}

// TestModuleCheck: the dracut module goes into the capture image, and no other.
func TestModuleCheck(t *testing.T) {
	for _, tt := range []struct {
		name, env, want string
	}{
		{"an ordinary image", "", "255"},
		{"kdump-utils' mkdumprd", "IN_KDUMP=1", "0"},
		{"SUSE's mkdumprd", "add_dracutmodules=' kdump '", "0"},
		{"a module with a name like it", "add_dracutmodules=' earlykdump kdumpx '", "255"},
		{"no program", "missing=1 IN_KDUMP=1", "1"},
	} {
		script := tt.env + `
require_binaries() { [[ ! ${missing-} ]]; }; set -eu; . dracut/99vmcsnote/module-setup.sh; s=0; check || s=$?; echo $s`
		cmd := exec.Command(testcores.Tool(t, "bash"), "-c", script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		b, err := cmd.CombinedOutput()
		if got := string(bytes.TrimSpace(b)); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}
