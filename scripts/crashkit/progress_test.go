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

// TestAwaits waits for processes that stand in for virtual machines, all at the
// same time. The limit is 2 seconds.
func TestAwaits(t *testing.T) {
	script := progress(t)
	for _, tt := range []struct {
		name, machine, until string
		want                 string // the exit status of awaits, and whether the machine still runs
	}{
		{"ends", "sleep 0.3", "", "0 ended"},
		{"ends after some time with words in between", "for i in 1 2 3 4 5 6; do sleep 0.5; echo $i; done", "", "0 ended"},
		{"spins, with words in between", "for i in 1 2 3 4; do n=0; while [ $n -lt 60000 ]; do n=$((n + 1)); done; echo $i; done", "", "0 ended"},
		{"idles", "sleep 60", "", "1 runs"},
		{"spins", "while :; do :; done", "", "1 runs"},
		{"spins after its last word", "echo panic; while :; do :; done", "", "1 runs"},
		{"says what is awaited", "echo done; sleep 60", "grep -q done console", "0 runs"},
	} {
		cmd := exec.Command("bash", "-c", `. "$1"; bash -c "$2" >console & machine=$!
status=0; awaits $machine console 2 $3 || status=$?
kill -9 $machine 2>/dev/null && echo $status runs || echo $status ended`, "bash", script, tt.machine, tt.until)
		var out strings.Builder
		cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// When all have started.
		defer t.Run(tt.name, func(t *testing.T) {
			err := cmd.Wait()
			if got := strings.TrimSpace(out.String()); err != nil || got != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// progress returns the script's path, if what it needs is installed.
func progress(t *testing.T) string {
	for _, tool := range []string{"bash", "grep"} {
		testcores.Tool(t, tool)
	}
	script, err := filepath.Abs("progress.sh")
	if err != nil {
		t.Fatal(err)
	}
	return script
}

// TestAwaitsSlow looks at a machine once in each second of a clock of the
// test's own. A busy computer gives it little time, for longer than the limit.
func TestAwaitsSlow(t *testing.T) {
	script := progress(t)
	for _, tt := range []struct {
		name  string
		ticks string // 1/100 s of processor time that it uses in a second
		want  string
	}{
		{"makes progress", "5", "0 at 30"},
		{"makes too little", "1", "1 at 3"},
		{"spins without a word", "60", "1 at 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("bash", "-c", `. "$1"
unset SECONDS # once unset it is a variable like any other
looks=0 SECONDS=0
kill() { [ $looks -lt 30 ]; }
sleep() { looks=$((looks + 1)) SECONDS=$looks; }
ticks=$2
cpuTime() { echo $((looks * ticks)); }
awaits 1 console 3 && status=0 || status=$?
echo "$status at $looks"`, "bash", script, tt.ticks)
			cmd.Dir = t.TempDir()
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != tt.want {
				t.Errorf("%s, %v, want %s", out, err, tt.want)
			}
		})
	}
}
