// Package hook_test runs the shell scripts of kdump's integration, in every
// shell that an initramfs may have, below a directory that looks like a capture
// environment.
package hook_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli"
	"vmcsnote/internal/testcores"
	"vmcsnote/record"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// TestMain makes the test's own program vmcsnote, where it is called by that
// name. fastExit keeps go test -race from making every vmcsnote wait for a
// second before it exits.
const fastExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "vmcsnote" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	testcores.InMemory()
	os.Exit(m.Run())
}

const (
	release = "6.1.0-56-amd64" // of the core deb-t1
	dir     = "sysroot/var/crash/127.0.0.1-2026-11-23-08:15:00"
)

// A capture is a capture environment below root.
type capture struct {
	t     *testing.T
	root  string
	shell []string // runs a script
	mode  os.FileMode
}

// eachShell runs test with every shell there is.
func eachShell(t *testing.T, test func(t *testing.T, shell []string)) {
	for _, shell := range [][]string{{"bash"}, {"dash"}, {"busybox", "sh"}} {
		t.Run(shell[0], func(t *testing.T) {
			shell[0] = testcores.Tool(t, shell[0])
			t.Parallel()
			test(t, shell)
		})
	}
}

// newCapture has a small crash of deb-t1's kernel in /proc/vmcore, saved as
// dir/vmcore, and a record with deb-t1's note.
func newCapture(t *testing.T, shell []string) *capture {
	c := &capture{t: t, root: t.TempDir(), shell: shell, mode: 0o600}
	c.crash("kernel-slack")
	c.write("proc/mounts", []byte("rootfs / rootfs rw 0 0\n/dev/vda /sysroot ext4 rw 0 0\n/dev/vdb /kdumproot/a\\040b xfs rw 0 0\n"))
	c.write("etc/kdump.conf", []byte("# of a test\ncore_collector makedumpfile -l -d 31\n"))
	c.record("etc/vmcsnote/record", release, "2026-11-23T07:00:00Z", testcores.Blob(t, "deb-t1"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	testcores.Tools(t, c.path("bin"), "sh", "cat", "chmod", "cp", "head", "ls", "sed", "stat", "sync", "timeout", "touch", "tr")
	if err := os.Symlink(self, filepath.Join(c.root, "bin/vmcsnote")); err != nil {
		t.Fatal(err)
	}
	return c
}

// crash makes that core /proc/vmcore, and saves it.
func (c *capture) crash(core string) {
	b := testcores.Bytes(c.t, core)
	c.write("proc/vmcore", b)
	c.write(dir+"/vmcore", b)
}

func (c *capture) path(name string) string { return filepath.Join(c.root, name) }

func (c *capture) write(name string, b []byte) {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Dir(c.path(name)), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.path(name), b, c.mode); err != nil {
		c.t.Fatal(err)
	}
}

// program puts a shell script into the PATH.
func (c *capture) program(name, text string) {
	c.t.Helper()
	os.Remove(c.path("bin/" + name))
	c.mode = 0o755
	c.write("bin/"+name, []byte("#!/bin/sh\n"+text+"\n"))
	c.mode = 0o600
}

func (c *capture) read(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(c.path(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *capture) remove(name string) {
	c.t.Helper()
	if err := os.RemoveAll(c.path(name)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *capture) chmod(name string, mode os.FileMode) {
	c.t.Helper()
	if err := os.Chmod(c.path(name), mode); err != nil {
		c.t.Fatal(err)
	}
}

func (c *capture) move(from, to string) {
	c.t.Helper()
	b := c.read(from)
	c.remove(from)
	c.write(to, b)
}

// record writes a record of a kernel and time, of which only the note holds in
// the capture environment.
func (c *capture) record(name, release, when string, note []byte) {
	c.t.Helper()
	at, err := time.Parse(time.RFC3339, when)
	if err != nil {
		c.t.Fatal(err)
	}
	r := record.Record{Pair: sysfs.Pair{Addr: 0x1000, Size: 0x2000}, Release: release, BootID: "a-boot", Time: at, Note: note}
	c.write(name, r.Encode())
}

// other is a note of other contents.
var other = elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=4\nFIELD(GUEST_CS_SELECTOR)=0500\n")}.Encode(binary.LittleEndian)

// run runs a script and returns what it says, and its exit status.
func (c *capture) run(stdout io.Writer, script string, args ...string) (string, int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.shell[0], append(append(c.shell[1:], script), args...)...)
	cmd.Env = []string{fastExit, "VMCSNOTE_ROOT=" + c.root, "PATH=" + c.path("bin")}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		c.t.Fatal(err, ctx.Err())
	}
	return stderr.String(), cmd.ProcessState.ExitCode()
}

// noteOf returns a dump's note, nil if it has none.
func (c *capture) noteOf(name string) []byte {
	c.t.Helper()
	f, err := vmcore.OpenFile(c.path(name))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	i, ok := f.Notes().Find(elfnote.VMCSInfo, 0)
	if !ok {
		return nil
	}
	n, err := f.Notes().Note(i, elfnote.MaxBlob)
	if err != nil {
		c.t.Fatal(err)
	}
	return n.Encode(binary.LittleEndian)
}

func TestHook(t *testing.T) {
	older := func(c *capture, name string) {
		at := time.Now().Add(-time.Hour)
		if err := os.Chtimes(c.path(name), at, at); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		set    func(c *capture)
		status string
		dump   string // which is to have the note, or is to stay as it is
		note   []byte // nil for the record's in the image
		says   string // the one line; where the dump is to have no note: its beginning up to the note
		stays  bool
	}{
		{name: "vmcore", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) { c.crash("deb-t1.elf31") }},
		{name: "vmcore.flat", dump: dir + "/vmcore.flat", says: "VMCSINFO added", set: func(c *capture) {
			c.crash("deb-t1.elf31")
			c.remove(dir)
			c.write(dir+"/vmcore.flat", testcores.Bytes(c.t, "flat/deb-t1.flat-elf31"))
		}},
		{name: "the note is there already", dump: dir + "/vmcore", says: "is already there", set: func(c *capture) { c.run(nil, "./kdump-post", "0") }},
		{name: "path with a comment, mount point with a blank", dump: "kdumproot/a b/my/127.0.0.1-x/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.write("etc/kdump.conf", []byte("xfs /dev/vdb\npath /my # as ever\n"))
			c.move(dir+"/vmcore", "kdumproot/a b/my/127.0.0.1-x/vmcore")
		}},
		{name: "kdump-utils' test of itself", dump: "sysroot/var/crash/kdump-test-1/vmcore", says: "VMCSINFO added", set: func(c *capture) { c.move(dir+"/vmcore", "sysroot/var/crash/kdump-test-1/vmcore") }},
		{name: "SUSE", dump: "kdump/mnt/var/dumps/2026-11-23-08-15/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.write("etc/kdump.conf", []byte("KDUMP_PROTO=file\nKDUMP_SAVEDIR=\"/var/dumps\"\n"))
			c.move(dir+"/vmcore", "kdump/mnt/var/dumps/2026-11-23-08-15/vmcore")
		}, status: "-"},
		{name: "a newer record that others can write", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/record", release, "2026-11-23T08:00:00Z", other)
			c.chmod("sysroot/etc/vmcsnote/record", 0o646)
		}},
		{name: "a newer record in a directory that others can write", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/record", release, "2026-11-23T08:00:00Z", other)
			c.chmod("sysroot/etc/vmcsnote", 0o777)
		}},
		{name: "a newer record that is a symbolic link", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/real", release, "2026-11-23T08:00:00Z", other)
			if err := os.Symlink("real", c.path("sysroot/etc/vmcsnote/record")); err != nil {
				c.t.Fatal(err)
			}
		}},
		{name: "a newer record of another owner", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/record", release, "2026-11-23T08:00:00Z", other)
			if err := os.Chown(c.path("sysroot/etc/vmcsnote/record"), 12345, 12345); err != nil {
				c.t.Skip(err)
			}
		}},
		{name: "newer dump of another machine", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			older(c, dir+"/vmcore")
			c.write("sysroot/var/crash/10.0.0.1-2026-11-23-08:16:00/vmcore", testcores.Bytes(c.t, "cloud-c1.elf31"))
		}},
		{name: "many old dumps, and a clock that was wrong", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			older(c, dir+"/vmcore")
			head := testcores.Bytes(c.t, "cloud-c1.head")
			for i := range 40 {
				c.write(fmt.Sprintf("sysroot/var/crash/127.0.0.1-2026-11-22-08:16:%02d/vmcore", i), head)
			}
		}},
		{name: "only another machine's", dump: dir + "/vmcore", says: "no dump of this crash", stays: true, set: func(c *capture) {
			c.write(dir+"/vmcore", testcores.Bytes(c.t, "cloud-c1.elf31"))
		}},
		{name: "mode 0400", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) { os.Chmod(c.path(dir+"/vmcore"), 0o400) }},
		{name: "newer record on the root file system", dump: dir + "/vmcore", note: other, says: "sysroot/etc/vmcsnote/record", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/record", release, "2026-11-23T08:00:00Z", other)
		}},
		{name: "older record on the root file system", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/record", release, "2026-11-23T06:00:00Z", other)
		}},
		{name: "newer record of another kernel", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.record("sysroot/etc/vmcsnote/record", "6.9", "2026-11-23T08:00:00Z", other)
		}},
		{name: "only a record of another kernel", dump: dir + "/vmcore", note: other, says: "of another kernel (6.9", set: func(c *capture) {
			c.record("etc/vmcsnote/record", "6.9", "2026-11-23T08:00:00Z", other)
		}},
		{name: "newer record on a file system of other machines", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.write("proc/mounts", []byte("/dev/vda /sysroot ext4 rw 0 0\nhost:/export /kdumproot nfs4 rw 0 0\n"))
			c.record("kdumproot/etc/vmcsnote/record", release, "2026-11-23T08:00:00Z", other)
		}},
		{name: "a timeout that knows no -k", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.program("timeout", `[ "$1" != -k ] || { echo "timeout: invalid option -- 'k'" >&2; exit 1; }; shift; exec "$@"`)
		}},
		{name: "no timeout", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) { c.remove("bin/timeout") }},
		{name: "a sync that knows no -f", dump: dir + "/vmcore", says: "VMCSINFO added", set: func(c *capture) {
			c.program("sync", `[ $# = 0 ]`)
		}},
		{name: "corrupt record, and one that is not", dump: dir + "/vmcore", note: other, says: "VMCSINFO added", set: func(c *capture) {
			c.write("etc/vmcsnote/record", c.read("etc/vmcsnote/record")[1:])
			c.record("sysroot/etc/vmcsnote/record", release, "2026-11-23T06:00:00Z", other)
		}},

		{name: "no record", dump: dir + "/vmcore", says: "stays as it is: no VMCSINFO available", stays: true, set: func(c *capture) { c.remove("etc/vmcsnote") }},
		{name: "saving failed", dump: dir + "/vmcore", says: "no dump was saved (status 1)", stays: true, status: "1"},
		{name: "vmcore-incomplete", dump: dir + "/vmcore-incomplete", says: "no dump of this crash", stays: true, set: func(c *capture) { c.move(dir+"/vmcore", dir+"/vmcore-incomplete") }},
		{name: "another note is there", dump: dir + "/vmcore", note: other, says: "already has another one", set: func(c *capture) {
			good := c.read("etc/vmcsnote/record")
			c.record("etc/vmcsnote/record", release, "2026-11-23T08:00:00Z", other)
			c.run(nil, "./kdump-post", "0")
			c.write("etc/vmcsnote/record", good)
		}},
		{name: "vmcsnote fails", dump: dir + "/vmcore", says: "stays as it is (status 1): error: read-only file system", stays: true, set: func(c *capture) {
			os.Mkdir(c.path("real"), 0o755)
			os.Rename(c.path("bin/vmcsnote"), c.path("real/vmcsnote"))
			c.program("vmcsnote", `[ "$1" != inject ] || { echo "vmcsnote: error: read-only file system" >&2; exit 1; }
exec `+c.path("real/vmcsnote")+` "$@"`)
		}},
		{name: "vmcsnote takes too long", dump: dir + "/vmcore", says: "stays as it is (status 124)", stays: true, set: func(c *capture) {
			os.Mkdir(c.path("real"), 0o755)
			os.Rename(c.path("bin/vmcsnote"), c.path("real/vmcsnote"))
			c.program("vmcsnote", `[ "$1" != inject ] || exit 124; exec `+c.path("real/vmcsnote")+` "$@"`)
		}},
		{name: "no program", dump: dir + "/vmcore", says: "the program is not in this image", stays: true, set: func(c *capture) { c.remove("bin/vmcsnote") }},
		{name: "no VMCOREINFO", dump: dir + "/vmcore", says: "/proc/vmcore has no VMCOREINFO", stays: true, set: func(c *capture) { c.write("proc/vmcore", testcores.Bytes(c.t, "no-vmcoreinfo")) }},
		{name: "ssh without the collector", dump: dir + "/vmcore", says: "to ssh without the note", stays: true, set: func(c *capture) {
			c.write("etc/kdump.conf", []byte("ssh root@host\ncore_collector makedumpfile -F -l\n"))
		}},
		{name: "raw with the collector", dump: dir + "/vmcore", says: "to raw, and vmcsnote-collector saw to it", stays: true, set: func(c *capture) {
			c.write("etc/kdump.conf", []byte("raw /dev/vdb\ncore_collector vmcsnote-collector makedumpfile -l\n"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				c := newCapture(t, shell)
				if tt.set != nil {
					tt.set(c)
				}
				want := tt.note
				switch {
				case tt.stays:
					want = nil
				case want == nil:
					blob, err := elfnote.FromBlob(testcores.Blob(t, "deb-t1"), elfnote.VMCSInfo, 0, binary.LittleEndian)
					if err != nil {
						t.Fatal(err)
					}
					want = blob.Encode(binary.LittleEndian)
				}
				was := c.read(tt.dump)
				info, _ := os.Stat(c.path(tt.dump))
				var args []string
				switch tt.status {
				case "":
					args = []string{"0"}
				case "-":
				default:
					args = []string{tt.status}
				}
				var stdout bytes.Buffer
				said, status := c.run(&stdout, "./kdump-post", args...)
				if status != 0 || stdout.Len() > 0 || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "vmcsnote: ") || !strings.Contains(said, tt.says) {
					t.Errorf("status %d, %q on stdout, said %q, want one line with %q", status, stdout.String(), said, tt.says)
				}
				if got := c.noteOf(tt.dump); !bytes.Equal(got, want) {
					t.Errorf("the note is %.100q, want %.100q", got, want)
				}
				if tt.stays && !bytes.Equal(c.read(tt.dump), was) {
					t.Error("the dump has changed")
				}
				if now, err := os.Stat(c.path(tt.dump)); err != nil || now.Mode() != info.Mode() {
					t.Errorf("mode %v, %v, was %v", now.Mode(), err, info.Mode())
				}
			})
		})
	}
}
