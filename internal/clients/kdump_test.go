package clients

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// kdumps are dumps by makedumpfile 1.7.9.
var kdumps = []string{"cloud-c1.kdump-zlib", "cloud-c1.kdump-lzo", "cloud-c1.kdump-snappy", "cloud-c1.kdump-zstd", "deb-t1.kdump-lzo", "deb-t1.kdump-zstd"}

// injectKDump adds the kernel's own note, and returns the note and the result.
func injectKDump(t *testing.T, name string, pl vmcore.Placement) (elfnote.Note, string) {
	t.Helper()
	n, err := elfnote.FromBlob(testcores.Blob(t, name), elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	path := testcores.Open(t, "kdump/"+name)
	f, err := vmcore.OpenFileRW(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pl == vmcore.Copy {
		out := path + ".copy"
		if _, err := f.CopyTo(t.Context(), out, f.Notes().Insert(n), vmcore.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		return n, out
	}
	p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), pl)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return n, path
}

// TestKDumpClients adds the note in each way and lets real readers read the
// result: as much as they read of the original.
func TestKDumpClients(t *testing.T) {
	for _, name := range kdumps {
		for _, pl := range []vmcore.Placement{vmcore.Slack, vmcore.End, vmcore.Copy} {
			if pl == vmcore.Slack && strings.HasPrefix(name, "cloud-c1") {
				continue // its sub header has no room
			}
			t.Run(name+"/"+string(pl), func(t *testing.T) {
				before := testcores.Open(t, "kdump/"+name)
				n, after := injectKDump(t, name, pl)
				for _, cl := range []struct {
					name, tool string
					read       func(*testing.T, string) (string, error)
				}{
					{"crash --osrelease", "crash", release},
					{"makedumpfile --dump-dmesg", "makedumpfile", kdumpDmesg},
					{"drgn", "drgn", drgnRelease},
				} {
					if cl.tool == "makedumpfile" && !makedumpfileReads(name) {
						continue
					}
					t.Run(cl.name, func(t *testing.T) {
						testcores.Tool(t, cl.tool)
						want, err := cl.read(t, before)
						if err != nil || strings.TrimSpace(want) == "" || strings.Contains(want, "unknown") {
							t.Fatalf("it does not read the original: %v\n%s", err, want)
						}
						got, err := cl.read(t, after)
						if got = strings.ReplaceAll(got, after, before); err != nil || got != want {
							t.Errorf("%v: it reads\n%.2000s\nand of the original\n%.2000s", err, got, want)
						}
					})
				}
				if !makedumpfileReads(name) {
					return
				}
				t.Run("makedumpfile -c -d 31", func(t *testing.T) {
					testcores.Tool(t, "makedumpfile")
					refilterKDump(t, n, after)
				})
			})
		}
	}
}

// makedumpfileReads: Debian builds it without snappy and zstd.
func makedumpfileReads(name string) bool {
	return strings.HasSuffix(name, "zlib") || strings.HasSuffix(name, "lzo")
}

func release(t *testing.T, core string) (string, error) {
	return run(t, "crash", "--osrelease", core)
}

func kdumpDmesg(t *testing.T, core string) (string, error) {
	text, _, err := dmesg(t, core)
	return text, err
}

// drgnRelease reads through libkdumpfile.
func drgnRelease(t *testing.T, core string) (string, error) {
	script := filepath.Join(t.TempDir(), "probe.py")
	if err := os.WriteFile(script, []byte(`
import drgn, sys
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
print(prog.flags, prog.platform)
`), 0o600); err != nil {
		return "", err
	}
	return run(t, "/usr/bin/python3", script, core)
}

// refilterKDump makes a dump out of the dump: the note must be in there, and
// VMCOREINFO where the sub header says.
func refilterKDump(t *testing.T, n elfnote.Note, core string) {
	dump := filepath.Join(t.TempDir(), "dump")
	if out, err := run(t, "makedumpfile", "--message-level", "4", "-c", "-d", "31", "-f", core, dump); err != nil {
		t.Fatalf("it does not filter it again: %v\n%s", err, out)
	}
	b, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, n.Encode(binary.LittleEndian)) {
		t.Error("the note is gone")
	}
	c, err := vmcore.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range vmcore.VerifyDeep(t.Context(), c) {
		t.Errorf("verify finds %q in what comes of it", f.Text)
	}
}
