package cli_test

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/pkg/errors"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// patience is how long a process may take to end once it has its signal.
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
	if size == 0 {
		time.Sleep(500 * time.Millisecond) // for it to start at all
	}
	for range 100 { // until it has taken it all
		left, err := unix.IoctlGetInt(int(feed.Fd()), unix.TIOCINQ)
		ts.Check(err)
		time.Sleep(50 * time.Millisecond) // and has come to where it waits
		if left == 0 {
			break
		}
	}
	err = end(ts, cmd, args[0])
	ts.Stderr().Write(stderr.Bytes())
	checkStatus(ts, err, 1)
	checkMessages(ts, stderr.String(), true)
	was.check(ts)
}

func midway(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 99)
	path := ts.MkAbs(args[1])
	info, err := os.Stat(path)
	ts.Check(err)
	was := stateOf(ts)
	cmd, _, stderr := command(ts, args[2:])
	ts.Check(cmd.Start())
	for start := time.Now(); time.Since(start) < patience; {
		now, err := os.Stat(path)
		ts.Check(err)
		if now.Size() != info.Size() {
			break
		}
	}
	if err = end(ts, cmd, args[0]); err == nil {
		return
	}
	ts.Stderr().Write(stderr.Bytes())
	checkStatus(ts, err, 1)
	checkMessages(ts, stderr.String(), true)
	was.check(ts)
}

// end sends the process a signal and waits for it.
func end(ts *testscript.TestScript, cmd *exec.Cmd, name string) error {
	sig := unix.SignalNum("SIG" + name)
	if sig == 0 {
		ts.Fatalf("unknown signal %s", name)
	}
	if err := cmd.Process.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		cmd.Process.Kill()
		<-done
		ts.Fatalf("still there %v after SIG%s", patience, name)
		return nil
	}
}
