package cli_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/errors"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// patience is how long a process may wait for others, and how much processor
// time it may take, once it has its signal. On a busy machine it may wait for a
// processor as long as it must.
const patience = 5 * time.Second

func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 4, 99)
	size, err := strconv.ParseInt(args[2], 0, 64)
	ts.Check(err)
	src, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer src.Close()
	was := stateOf(ts)
	cmd, _, stderr := command(ts, args[3:])
	in, feed, err := os.Pipe()
	ts.Check(err)
	defer feed.Close()
	cmd.Stdin = in
	_, err = cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	in.Close()
	_, err = io.CopyN(feed, src, size)
	ts.Check(err)
	for { // until it has taken it all
		left, err := unix.IoctlGetInt(int(feed.Fd()), unix.TIOCINQ)
		ts.Check(err)
		if idle(cmd.Process.Pid, 100*time.Millisecond) && left == 0 {
			break // and has come to where it waits
		}
	}
	err = end(ts, cmd, wait(cmd), args[0])
	ts.Stderr().Write(stderr.Bytes())
	checkStatus(ts, err, 1)
	checkMessages(ts, stderr.String(), true)
	was.check(ts)
}

func midway(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 99)
	path := ts.MkAbs(args[1])
	old, err := os.ReadFile(path)
	ts.Check(err)
	was := stateOf(ts)
	cmd, _, stderr := command(ts, args[2:])
	done := grows(ts, cmd, path, int64(len(old)))
	for tries := 20; len(done) != 0; tries-- {
		// On a busy machine it can be over before this process looks again.
		if err := <-done; err != nil || tries == 0 {
			ts.Fatalf("ended before %s was seen to grow: %v", args[1], err)
		}
		ts.Check(os.WriteFile(path, old, 0o600))
		cmd, _, stderr = command(ts, args[2:])
		done = grows(ts, cmd, path, int64(len(old)))
	}
	if err = end(ts, cmd, done, args[0]); err == nil {
		return
	}
	// A signal that comes when all is done, and no longer awaited, kills.
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && strings.Contains(stderr.String(), ": VMCSINFO added") {
		return
	}
	ts.Stderr().Write(stderr.Bytes())
	checkStatus(ts, err, 1)
	checkMessages(ts, stderr.String(), true)
	was.check(ts)
}

// grows starts the command and waits until the file grows, or the command ends.
func grows(ts *testscript.TestScript, cmd *exec.Cmd, path string, size int64) <-chan error {
	ts.Check(cmd.Start())
	done := wait(cmd)
	for len(done) == 0 {
		now, err := os.Stat(path)
		ts.Check(err)
		if now.Size() != size {
			break
		}
	}
	return done
}

// wait returns how the process ends.
func wait(cmd *exec.Cmd) <-chan error {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return done
}

// end sends the process a signal and waits for it.
func end(ts *testscript.TestScript, cmd *exec.Cmd, done <-chan error, name string) error {
	sig := unix.SignalNum("SIG" + name)
	if sig == 0 {
		ts.Fatalf("unknown signal %s", name)
	}
	pid := cmd.Process.Pid
	before := cpuTime(pid)
	if err := cmd.Process.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
	const tick = 50 * time.Millisecond
	for waited := time.Duration(0); waited < patience && cpuTime(pid)-before < patience; {
		if len(done) != 0 {
			return <-done
		}
		if idle(pid, tick) {
			waited += tick
		}
	}
	cmd.Process.Kill()
	<-done
	ts.Fatalf("still there %v after SIG%s", patience, name)
	return nil
}

// idle reports whether for d each thread of the process only waited.
func idle(pid int, d time.Duration) bool {
	before := sleeps(pid)
	time.Sleep(d)
	return before != "" && before == sleeps(pid)
}

// sleeps returns how often each thread of the process has gone to sleep, or ""
// if one of them is at work.
func sleeps(pid int) string {
	var b strings.Builder
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range threads {
		status, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(status), "\nState:\tS") {
			return ""
		}
		_, switches, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches")
		b.WriteString(file + switches)
	}
	return b.String()
}

// cpuTime returns the processor time that the process has used, 0 if it ended.
func cpuTime(pid int) time.Duration {
	var t unix.Timespec
	// The clock's number, as clock_getcpuclockid(3) makes it.
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
