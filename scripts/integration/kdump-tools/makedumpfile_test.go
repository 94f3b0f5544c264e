package kdumptools

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"vmcsnote/internal/testcores"
)

// save is the line of kdump-config that saves a dump, with the PATH that it has
// given itself: our makedumpfile lies over the machine's.
const save = `"$VMCSNOTE_ROOT/usr/libexec/vmcsnote/makedumpfile" -F -c -d 31 /proc/vmcore`

// TestSaved saves a dump in every state that our part can be in. With the note
// or without, it is the dump that kdump-tools would have saved by itself.
func TestSaved(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*machine)
		note   bool
	}{
		{"all is well", func(*machine) {}, true},
		{"an ELF core", func(m *machine) {
			m.env = append(m.env, "CORE="+testcores.Open(t, "flat/cloud-c1.flat-elf31"))
			m.core = strings.TrimPrefix(m.env[len(m.env)-1], "CORE=")
		}, true},
		{"a record of another kernel of this machine", func(m *machine) { m.record("6.1.0-1-amd64") }, true},
		{"no record", func(m *machine) { m.remove("etc/vmcsnote") }, false},
		{"an empty record", func(m *machine) { m.replace("etc/vmcsnote/record", "") }, false},
		{"a record cut off", func(m *machine) { m.replace("etc/vmcsnote/record", "vmcsnote-record 1\npair: 1000 1000\n") }, false},
		{"a record that others can write", func(m *machine) { m.chmod("etc/vmcsnote/record", 0o606) }, false},
		{"a record in a directory that others can write", func(m *machine) { m.chmod("etc/vmcsnote", 0o777) }, false},
		{"the record is a directory", func(m *machine) {
			m.remove("etc/vmcsnote/record")
			m.write("etc/vmcsnote/record/file", "")
		}, false},
		{"no vmcsnote", func(m *machine) { m.remove("usr/bin/vmcsnote") }, false},
		{"vmcsnote is no program", func(m *machine) { m.replace("usr/bin/vmcsnote", "\x7fELF, but cut off") }, false},
		{"vmcsnote fails", func(m *machine) { m.replace("usr/bin/vmcsnote", "#!/bin/sh\nexit 1\n") }, false},
		{"vmcsnote is killed", func(m *machine) { m.replace("usr/bin/vmcsnote", "#!/bin/sh\nkill -9 $$\n") }, false},
		{"no collector", func(m *machine) { m.remove("usr/libexec/vmcsnote/vmcsnote-collector") }, false},
		{"the note is there already", func(m *machine) {
			out, _, _ := m.sh(save)
			if err := os.WriteFile(m.core, out, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"what makedumpfile writes is no dump", func(m *machine) {
			if err := os.WriteFile(m.core, []byte("hello\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"makedumpfile writes nothing", func(m *machine) {
			if err := os.WriteFile(m.core, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			row.change(m)
			out, msg, status := m.sh(save)
			if status != 0 {
				t.Fatalf("exit status %d: %s", status, msg)
			}
			if !m.mentions("-F -c -d 31 /proc/vmcore") {
				t.Error("makedumpfile did not get its arguments")
			}
			switch same := bytes.Equal(out, m.saved()); {
			case !row.note && !same:
				t.Errorf("the dump has changed, %d bytes where makedumpfile wrote %d: %s", len(out), len(m.saved()), msg)
			case row.note && !m.hasNote(out):
				t.Errorf("the dump has no note: %s", msg)
			}
		})
	}
}

// TestCompressed sends the dump through a compressor, as with
// KDUMP_COMPRESSION, whose exit status is the only one that kdump-config sees.
func TestCompressed(t *testing.T) {
	m := newMachine(t)
	testcores.Tools(t, m.path("tools"), "gzip")
	out, msg, status := m.sh(save + ` | gzip -c | gzip -dc`)
	if status != 0 || !m.hasNote(out) {
		t.Errorf("exit status %d: %s", status, msg)
	}
}

// TestFailing has makedumpfile fail: its exit status is passed on, and so is
// what it has written by then.
func TestFailing(t *testing.T) {
	for _, cut := range []string{"0", "100", "5000", "300000"} {
		t.Run("after "+cut+" bytes", func(t *testing.T) {
			m := newMachine(t)
			m.remove("etc/vmcsnote/record")
			m.env = append(m.env, "STATUS=7", "CUT="+cut)
			out, msg, status := m.sh(save)
			if status != 7 {
				t.Errorf("exit status %d, expected 7: %s", status, msg)
			}
			if !bytes.HasPrefix(m.saved(), out) || len(out) > 0 != (cut != "0") {
				t.Errorf("%d bytes were passed on", len(out))
			}
			m.record("6.1.0-56-cloud-amd64")
			if out, _, status = m.sh(save); status != 7 || len(out) > 0 != (cut != "0") {
				t.Errorf("with a note: exit status %d, %d bytes", status, len(out))
			}
		})
	}
}

// TestReceiverGone has the disk fill up after the dump: nothing waits for ever,
// and there is an exit status for those who look.
func TestReceiverGone(t *testing.T) {
	m := newMachine(t)
	_, _, status := m.sh(`{ ` + save + ` 2>/dev/null; echo $? >status; } | head -c 10 >/dev/null; read -r s <status; exit "$s"`)
	if status == 0 {
		t.Error("exit status 0")
	}
}

// TestOther has makedumpfile do something else than save a dump, and what an
// older kdump-tools has it do.
func TestOther(t *testing.T) {
	for _, row := range []struct {
		name, args string
		note       bool
	}{
		{"the kernel's log", "--dump-dmesg /proc/vmcore FILE", false},
		{"a dump into a file", "-c -d 31 /proc/vmcore FILE", true},
		{"of another core", "-c -d 31 vmcore FILE", false},
		{"into several files", "--split -d 31 /proc/vmcore OTHER FILE", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			for _, with := range []bool{true, false} {
				if !with {
					m.remove("etc/vmcsnote/record")
				}
				m.remove("FILE")
				out, msg, status := m.sh(strings.Split(save, " ")[0] + " " + row.args)
				file, err := os.ReadFile(m.path("FILE"))
				if err != nil || status != 0 || len(out) > 0 {
					t.Fatalf("exit status %d, %v: %s", status, err, msg)
				}
				if !m.mentions(row.args) {
					t.Error("makedumpfile did not get its arguments")
				}
				if row.note && with {
					if !m.hasNote(file) {
						t.Errorf("no note: %s", msg)
					}
				} else if !bytes.Equal(file, m.saved()) {
					t.Error("the file has changed")
				}
			}
		})
	}
}

// TestTimeLimit has vmcsnote hang while the dump is saved: the machine boots
// all the same. Where no timeout is to be had the dump has its note
// nevertheless.
func TestTimeLimit(t *testing.T) {
	script := strings.Split(save, " ")[0] + " -c -d 31 /proc/vmcore FILE"
	for _, row := range []struct {
		name   string
		change func(*machine)
		note   bool
	}{
		{"vmcsnote hangs", func(m *machine) {
			m.replace("usr/bin/vmcsnote", "#!/bin/sh\nexec sleep 600\n")
			m.replace("tools/timeout", "#!/bin/sh\n[ \"$3\" = 600 ] && [ \"$4\" = vmcsnote ] || exec "+testcores.Tool(t, "timeout")+" \"$@\"\nexec "+
				testcores.Tool(t, "timeout")+" -k 1 0.2 vmcsnote inject\n")
		}, false},
		{"no timeout", func(m *machine) { m.remove("tools/timeout") }, true},
		{"a timeout that knows no -k", func(m *machine) { m.replace("tools/timeout", "#!/bin/sh\nexit 1\n") }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			testcores.Tools(t, m.path("tools"), "sleep")
			row.change(m)
			begun := time.Now()
			_, msg, status := m.sh(script)
			file, err := os.ReadFile(m.path("FILE"))
			if err != nil || status != 0 || time.Since(begun) > time.Minute {
				t.Fatalf("after %v: exit status %d, %v: %s", time.Since(begun), status, err, msg)
			}
			switch {
			case row.note && !m.hasNote(file):
				t.Errorf("no note: %s", msg)
			case !row.note && (!bytes.Equal(file, m.saved()) || !strings.Contains(msg, "FILE stays as it is")):
				t.Errorf("the file has changed, or nothing says that it has no note: %s", msg)
			}
		})
	}
}

// TestCycles has the real makedumpfile save a dump in cycles, as it does where
// the capture kernel's memory is small for the machine's: bitmaps and pages
// come in turns then.
func TestCycles(t *testing.T) {
	m := newMachine(t)
	real := testcores.Tool(t, "makedumpfile")
	core := testcores.Open(t, "cloud-c1.mdf")
	args := "-F -c -d 31 --cyclic-buffer 1 --non-mmap --message-level 4 "
	alone, msg, status := m.sh(real + " " + args + core)
	if status != 0 {
		t.Fatalf("makedumpfile: exit status %d: %s", status, msg)
	}
	if err := os.WriteFile(m.core, alone, 0o600); err != nil {
		t.Fatal(err)
	}
	m.replace("run/vmcsnote/makedumpfile", "#!/bin/sh\nexec "+real+" "+args+core+"\n")
	out, msg, status := m.sh(save)
	if status != 0 || !m.hasNote(out) {
		t.Errorf("exit status %d: %s", status, msg)
	}
}
