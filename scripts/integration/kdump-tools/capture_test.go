package kdumptools

import (
	"os"
	"testing"

	"vmcsnote/internal/testcores"
)

// Mounts are played by copies. One that is to fail is named in the file
// "fails".
const (
	mountStub = `#!/bin/sh
[ "$1" = --bind ] || exit 0
[ ! -e "$VMCSNOTE_ROOT/fails" ] || ! grep -qx "$2" "$VMCSNOTE_ROOT/fails" || exit 32
[ -e "$2" ] && [ -e "$3" ] || exit 32
[ "$3" = "$VMCSNOTE_ROOT/run/vmcsnote/makedumpfile" ] || cp -p "$3" "$3.below"
cp -p "$2" "$3"
`
	umountStub = `#!/bin/sh
mv "$2.below" "$2"
`
)

// TestMounts lays ours over the machine's with real mounts, shared as systemd
// has them, and does so twice: the machine's must not be written to then.
func TestMounts(t *testing.T) {
	m := newMachine(t)
	testcores.Tools(t, m.path("tools"), "unshare", "mount")
	if _, msg, status := m.sh("unshare -m sh -c :"); status != 0 {
		if os.Getenv("VMCSNOTE_CLIENTS") == "required" {
			t.Fatal(msg)
		}
		t.Skip("no mounts here: ", msg)
	}
	m.remove("run/vmcsnote")
	m.bin("mount", "umount", "timeout")
	out, msg, status := m.sh(`exec unshare -m --propagation private sh -c '
		mount --bind "$VMCSNOTE_ROOT" "$VMCSNOTE_ROOT" && mount --make-shared "$VMCSNOTE_ROOT" && cd "$VMCSNOTE_ROOT" &&
		usr/libexec/vmcsnote/capture && usr/libexec/vmcsnote/capture && makedumpfile -F -c -d 31 /proc/vmcore'`)
	if status != 0 || !m.hasNote(out) {
		t.Errorf("exit status %d: %s", status, msg)
	}
	if m.text("usr/bin/makedumpfile") != stub {
		t.Error("the machine's makedumpfile has changed")
	}
}

// TestCapture boots the capture kernel in every state that the machine can be
// in. In each there is a makedumpfile that works, if there was one.
func TestCapture(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*machine)
		over   bool // ours lies over the machine's
	}{
		{"all is well", func(*machine) {}, true},
		{"it is no capture kernel", func(m *machine) { m.remove("proc/vmcore") }, false},
		{"the last crash left no dump", func(m *machine) { m.replace("proc/vmcore", "") }, false},
		{"the real one cannot be kept", func(m *machine) { m.write("fails", m.path("usr/bin/makedumpfile")+"\n") }, false},
		{"ours cannot be laid over", func(m *machine) { m.write("fails", m.path("usr/libexec/vmcsnote/makedumpfile")+"\n") }, false},
		{"/run cannot be written", func(m *machine) { m.replace("run", "a file") }, false},
		{"ours is missing", func(m *machine) { m.remove("usr/libexec/vmcsnote/makedumpfile") }, false},
		{"ours does not run", func(m *machine) { m.replace("usr/libexec/vmcsnote/makedumpfile", "#!/nowhere\n") }, false},
		{"the kept one becomes ours", func(m *machine) {
			m.replace("bin/umount", umountStub+"cp -p \"$2\" \"$VMCSNOTE_ROOT/run/vmcsnote/makedumpfile\"\n")
			m.replace("bin/mount", mountStub+"[ \"$3\" = \"$VMCSNOTE_ROOT/run/vmcsnote/makedumpfile\" ] || cp -p \"$2\" \"$VMCSNOTE_ROOT/run/vmcsnote/makedumpfile\"\n")
		}, false},
		{"ours hangs", func(m *machine) {
			m.replace("usr/libexec/vmcsnote/makedumpfile", "#!/bin/sh\nsleep 600\n")
			m.replace("bin/timeout", "#!/bin/sh\nexit 124\n")
		}, false},
		{"ours is empty", func(m *machine) { m.replace("usr/libexec/vmcsnote/makedumpfile", "#!/bin/sh\nexit 1\n") }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			m.remove("run/vmcsnote")
			m.bin("timeout")
			m.write("bin/mount", mountStub)
			m.write("bin/umount", umountStub)
			row.change(m)
			_, msg, status := m.sh(`"$VMCSNOTE_ROOT/usr/libexec/vmcsnote/capture"`)
			lies := m.text("usr/bin/makedumpfile") != stub
			if lies != row.over {
				t.Errorf("ours lies over the machine's: %v, exit status %d: %s", lies, status, msg)
			}
			if row.over && (status != 0 || msg != "" || m.text("run/vmcsnote/makedumpfile") != stub) {
				t.Errorf("exit status %d: %s", status, msg)
			}
			out, msg, status := m.sh(`makedumpfile -F -c -d 31 /proc/vmcore`)
			if status != 0 || m.hasNote(out) != row.over {
				t.Errorf("the dump: exit status %d, with the note: %v: %s", status, m.hasNote(out), msg)
			}
		})
	}
}

// TestCaptureWithout has no makedumpfile installed: kdump-tools takes cp then.
func TestCaptureWithout(t *testing.T) {
	m := newMachine(t)
	m.remove("run/vmcsnote")
	m.remove("usr/bin/makedumpfile")
	m.bin("mount", "umount", "timeout")
	if _, msg, status := m.sh(`"$VMCSNOTE_ROOT/usr/libexec/vmcsnote/capture"`); status != 0 || msg != "" {
		t.Errorf("exit status %d: %s", status, msg)
	}
	if _, err := os.Lstat(m.path("usr/bin/makedumpfile")); err == nil {
		t.Error("there is a makedumpfile now")
	}
}

// bin returns the machine what its scripts look for in its own /bin, and these
// programs of this machine.
func (m *machine) bin(programs ...string) {
	m.t.Helper()
	testcores.Tools(m.t, m.path("bin"), append(programs, "sh", "mkdir", "cp", "mv", "grep")...)
}

func (m *machine) text(name string) string {
	b, _ := os.ReadFile(m.path(name))
	return string(b)
}
