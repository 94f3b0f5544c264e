// Package kdumptools tests the scripts that stand in kdump-tools' capture
// kernel, below a directory that plays the root.
package kdumptools

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli"
	"vmcsnote/internal/testcores"
	"vmcsnote/record"
	"vmcsnote/sysfs"
	"vmcsnote/vmcore"
)

// TestMain makes the test binary the tool itself where it is called by that
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

// stub is a makedumpfile that has the dump in a file already. It writes what
// the test says of it, fails as the test says, and keeps its words.
const stub = `#!/bin/sh
for last; do :; done
case $last in
-v) exit 0 ;;
*/proc/vmcore) head -c "${CUT:-99999999}" "$CORE" ;;
*) cp "$CORE" "$last" ;;
esac
echo "$*" >"$CORE.words"
exit "${STATUS:-0}"
`

// A machine is a root directory in which a capture kernel's user space stands.
type machine struct {
	t    testing.TB
	root string
	core string // what makedumpfile saves
	env  []string
}

// newMachine returns one as kdump-tools boots it. Its makedumpfile is not laid
// over yet, and it has a record of the kernel that crashed.
func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), core: testcores.Open(t, "flat/cloud-c1.flat-zlib")}
	testcores.Tools(t, m.path("tools"), "sh", "cat", "cp", "head", "ls", "timeout")
	for _, name := range []string{"makedumpfile", "capture", "../kdump-utils/vmcsnote-collector"} {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m.write("usr/libexec/vmcsnote/"+filepath.Base(name), string(script))
	}
	m.write("usr/bin/makedumpfile", stub)
	m.write("run/vmcsnote/makedumpfile", stub)
	m.write("proc/vmcore", "not empty")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, m.path("usr/bin/vmcsnote")); err != nil {
		t.Fatal(err)
	}
	m.record("6.1.0-56-cloud-amd64")
	m.env = append(os.Environ(), fastExit, "VMCSNOTE_ROOT="+m.root, "CORE="+m.core, "PATH="+m.path("usr/bin")+":"+m.path("tools"))
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

// write makes an executable file below the root.
func (m *machine) write(name, text string) {
	m.t.Helper()
	path := m.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// replace puts a script in a file's or link's place.
func (m *machine) replace(name, text string) {
	m.t.Helper()
	m.remove(name)
	m.write(name, text)
}

func (m *machine) chmod(name string, mode os.FileMode) {
	m.t.Helper()
	if err := os.Chmod(m.path(name), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) remove(name string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

// record keeps the note of a kernel of that release.
func (m *machine) record(release string) {
	m.t.Helper()
	m.write("etc/vmcsnote/record", "")
	err := record.WriteFile(m.path("etc/vmcsnote/record"), record.Record{
		Pair:    sysfs.Pair{Addr: 0x1000, Size: 0x1000},
		Release: release,
		BootID:  "5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1",
		Time:    time.Unix(0, 0).UTC(),
		Note:    note(m.t).Encode(binary.LittleEndian),
	}, false)
	if err != nil {
		m.t.Fatal(err)
	}
}

func note(t testing.TB) elfnote.Note {
	t.Helper()
	n, err := elfnote.FromBlob(testcores.Blob(t, "cloud-c1"), elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sh runs a script in the machine and returns its output, its messages and its
// exit status.
func (m *machine) sh(script string) (stdout []byte, stderr string, status int) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "sh", "-c", script)
	cmd.Dir, cmd.Env = m.root, m.env
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return out.Bytes(), msg.String(), cmd.ProcessState.ExitCode()
}

// saved returns what makedumpfile was asked to save.
func (m *machine) saved() []byte {
	m.t.Helper()
	b, err := os.ReadFile(m.core)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// hasNote reports whether a dump holds the note, and all else that was saved.
func (m *machine) hasNote(dump []byte) bool {
	m.t.Helper()
	c, err := vmcore.Open(bytes.NewReader(dump), int64(len(dump)))
	if err != nil {
		m.t.Fatalf("the dump cannot be read: %v", err)
	}
	was, err := vmcore.Open(bytes.NewReader(m.saved()), int64(len(m.saved())))
	if err != nil {
		m.t.Fatal(err)
	}
	want, got := make([]byte, 4096), make([]byte, 4096)
	for _, addr := range []uint64{0x1000000, 0x2000000, 0x3000000} {
		n, _ := was.ReadPhys(want, addr)
		k, _ := c.ReadPhys(got, addr)
		if !bytes.Equal(want[:n], got[:k]) {
			m.t.Errorf("the memory at %#x has changed", addr)
		}
	}
	i, ok := c.Notes().Find(elfnote.VMCSInfo, 0)
	if !ok {
		return false
	}
	n, err := c.Notes().Note(i, elfnote.MaxBlob)
	return err == nil && n.Equal(note(m.t)) && len(c.Notes().Notes) == len(was.Notes().Notes)+1
}

// mentions reports whether a command was given a word.
func (m *machine) mentions(word string) bool {
	words, _ := os.ReadFile(m.core + ".words")
	return strings.Contains(string(words), word)
}
