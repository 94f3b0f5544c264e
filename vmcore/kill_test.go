package vmcore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestCancel: a signal before the core has changed leaves it as it was.
func TestCancel(t *testing.T) {
	for _, name := range []string{"kernel-slack", "kernel-full"} {
		t.Run(name, func(t *testing.T) {
			path := testcores.Open(t, name)
			f := mustOpen(t, path, OpenFileRW)
			p, err := f.Plan(f.Notes().Insert(testdumps.Note(t, name)), f.Notes().Append(testdumps.Note(t, name)), "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := p.Do(ctx, nil); err == nil {
				t.Error("no error")
			}
			testcores.Same(t, path, name)
		})
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("VMCORE_TEST_INJECT"); path != "" {
		os.Exit(injectForever(path))
	}
	testcores.InMemory()
	os.Exit(m.Run())
}

// killedNote is what the process that gets killed adds and takes out.
var killedNote = elfnote.Note{Name: elfnote.VMCSInfo, Desc: make([]byte, 3000)}

// injectForever is that process: it changes the core at path back and forth, in
// each way in turn, until it is killed.
func injectForever(path string) int {
	for i := 0; ; i++ {
		if err := toggle(path, []Placement{Slack, Evict, Copy}[i%3]); err != nil {
			fmt.Println(err)
			return 1
		}
		if i == 0 {
			fmt.Println("at work")
		}
	}
}

// toggle adds the note if it is not there, and else removes it.
func toggle(path string, pl Placement) error {
	f, err := OpenFileRW(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := f.Notes()
	sp, alt := s.Insert(killedNote), s.Append(killedNote)
	if i, ok := s.Find(killedNote.Name, 0); ok {
		sp = s.Remove(i)
		alt = sp
	}
	p, err := f.Plan(sp, alt, pl)
	if err != nil {
		if p, err = f.Plan(sp, alt, ""); err != nil {
			return err
		}
	}
	return p.Do(context.Background(), nil)
}

// TestKill kills a real process at random moments: what it leaves must be the
// old core or the new one. CI kills 200; where a developer waits, a few do.
func TestKill(t *testing.T) {
	kills := 20
	if os.Getenv("VMCSNOTE_CLIENTS") == "required" && !testing.Short() {
		kills = 200
	}
	name := "cloud-c1.elf31"
	path := testcores.Open(t, name)
	f := mustOpen(t, path, OpenFile)
	old := testdumps.Summarize(t, elfOf(f), "")
	f.Close()
	found := map[bool]int{}
	for i := range kills {
		kill(t, path, time.Duration(rand.IntN(20_000))*time.Microsecond)
		f := mustOpen(t, path, OpenFile)
		if err := testdumps.Summarize(t, elfOf(f), killedNote.Name).Diff(old); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		j, there := f.Notes().Find(killedNote.Name, 0)
		if n := len(f.Notes().Notes); there && j != n-1 {
			t.Fatalf("kill %d: the note is number %d of %d", i, j, n)
		}
		found[there]++
		if f.PlainSize() > 256<<20 { // each eviction makes the file longer
			path = testcores.Open(t, name)
		}
		f.Close()
	}
	t.Logf("%d kills left the note out, %d left it in", found[false], found[true])
	if kills > 100 && (found[true] == 0 || found[false] == 0) {
		t.Error("expected to find both")
	}
}

// kill starts the process on the core, waits until it is at work and then for
// a moment, and kills it.
func kill(t *testing.T, path string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "VMCORE_TEST_INJECT="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, len("at work\n"))
	if _, err := out.Read(word); err != nil || string(word) != "at work\n" {
		rest := make([]byte, 500)
		n, _ := out.Read(rest)
		t.Fatalf("%s%s (%v)", word, rest[:n], err)
	}
	time.Sleep(after)
	cmd.Process.Kill()
	cmd.Wait()
}
