// Package crashkit tests how scripts/crashkit waits for virtual machines.
package crashkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// TestAwaits waits for processes that stand in for virtual machines. The limit
// is 3 seconds.
func TestAwaits(t *testing.T) {
	for _, tt := range []struct {
		name, machine, until string
		want                 string // the exit status of awaits, and whether the machine still runs
	}{
		{"ends", "sleep 0.3", "", "0 ended"},
		{"ends after some time with words in between", "for i in 1 2 3 4; do sleep 1; echo $i; done", "", "0 ended"},
		{"spins, with words in between", "for i in 1 2 3 4; do n=0; while [ $n -lt 60000 ]; do n=$((n + 1)); done; echo $i; done", "", "0 ended"},
		{"idles", "sleep 60", "", "1 runs"},
		{"spins", "while :; do :; done", "", "1 runs"},
		{"spins after its last word", "echo panic; while :; do :; done", "", "1 runs"},
		{"says what is awaited", "echo done; sleep 60", "grep -q done console", "0 runs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range []string{"bash", "grep"} {
				testcores.Tool(t, tool)
			}
			script, err := filepath.Abs("progress.sh")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("bash", "-c", `. "$1"; bash -c "$2" >console & machine=$!
status=0; awaits $machine console 3 $3 || status=$?
kill -9 $machine 2>/dev/null && echo $status runs || echo $status ended`, "bash", script, tt.machine, tt.until)
			cmd.Dir, cmd.Stderr = t.TempDir(), os.Stderr
			out, err := cmd.Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestAwaitsSlow stops a machine for longer than the limit in all: it makes
// progress all the same.
func TestAwaitsSlow(t *testing.T) {
	testcores.Tool(t, "bash")
	script, err := filepath.Abs("progress.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `. "$1"; bash -c 'n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); done' >console & machine=$!
(while kill -STOP $machine 2>/dev/null; do sleep 0.2; kill -CONT $machine; sleep 0.2; done) 2>/dev/null &
awaits $machine console 3 && echo well`, "bash", script)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "well\n" {
		t.Errorf("%s, %v", out, err)
	}
}
