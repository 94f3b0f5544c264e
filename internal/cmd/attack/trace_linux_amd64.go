package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// A fault says what happens to one system call.
type fault struct {
	call int // its number, from 1; 0 for none
	kind kind
	err  unix.Errno // for fails and cut
}

type kind int

const (
	fails       kind = iota // it is not made, and returns the error
	dead                    // the disk fails: this call and all that write after it
	cut                     // it gets half of its bytes; the next of its number fails
	nothing                 // it reads or writes 0 bytes
	killsBefore             // SIGKILL in its place
	killsAfter              // SIGKILL when it has been made
	terminates              // SIGTERM in its place, which vmcsnote handles
)

var kindNames = [...]string{"fails", "and all after it fail", "cut", "moves 0 bytes", "killed before", "killed after", "terminated before"}

// String returns the fault in words.
func (f fault) String() string {
	if f.kind > cut {
		return kindNames[f.kind]
	}
	return fmt.Sprintf("%s (%s)", kindNames[f.kind], unix.ErrnoName(f.err))
}

// A call describes a system call that can be tried: which argument is its file,
// as a descriptor or as a path with its directory, and which is the number of
// bytes.
type call struct {
	name             string
	fd, dir, path, n int // argument numbers; -1 for none
	writes           bool
}

var calls = map[uint64]call{
	unix.SYS_READ:            {"read", 0, -1, -1, 2, false},
	unix.SYS_PREAD64:         {"pread64", 0, -1, -1, 2, false},
	unix.SYS_WRITE:           {"write", 0, -1, -1, 2, true},
	unix.SYS_PWRITE64:        {"pwrite64", 0, -1, -1, 2, true},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", 2, -1, -1, 4, true},
	unix.SYS_FALLOCATE:       {"fallocate", 0, -1, -1, -1, true},
	unix.SYS_FTRUNCATE:       {"ftruncate", 0, -1, -1, -1, true},
	unix.SYS_FSYNC:           {"fsync", 0, -1, -1, -1, true},
	unix.SYS_FDATASYNC:       {"fdatasync", 0, -1, -1, -1, true},
	unix.SYS_SYNC_FILE_RANGE: {"sync_file_range", 0, -1, -1, -1, true},
	unix.SYS_IOCTL:           {"ioctl", 0, -1, -1, -1, true},
	unix.SYS_FCHOWN:          {"fchown", 0, -1, -1, -1, true},
	unix.SYS_FCHMOD:          {"fchmod", 0, -1, -1, -1, true},
	unix.SYS_FSETXATTR:       {"fsetxattr", 0, -1, -1, -1, true},
	unix.SYS_FGETXATTR:       {"fgetxattr", 0, -1, -1, -1, false},
	unix.SYS_FLISTXATTR:      {"flistxattr", 0, -1, -1, -1, false},
	unix.SYS_FSTAT:           {"fstat", 0, -1, -1, -1, false},
	unix.SYS_FSTATFS:         {"fstatfs", 0, -1, -1, -1, false},
	unix.SYS_FLOCK:           {"flock", 0, -1, -1, -1, false},
	unix.SYS_FCNTL:           {"fcntl", 0, -1, -1, -1, false},
	unix.SYS_LSEEK:           {"lseek", 0, -1, -1, -1, false},
	unix.SYS_UTIMENSAT:       {"utimensat", -1, 0, 1, -1, true},
	unix.SYS_OPENAT:          {"openat", -1, 0, 1, -1, false},
	unix.SYS_NEWFSTATAT:      {"newfstatat", -1, 0, 1, -1, false},
	unix.SYS_STATX:           {"statx", -1, 0, 1, -1, false},
	unix.SYS_LINKAT:          {"linkat", -1, 2, 3, -1, true},
	unix.SYS_RENAMEAT:        {"renameat", -1, 0, 1, -1, true},
	unix.SYS_RENAMEAT2:       {"renameat2", -1, 0, 1, -1, true},
	unix.SYS_UNLINKAT:        {"unlinkat", -1, 0, 1, -1, true},
}

// A tracer runs a program and counts its system calls on files below dir.
type tracer struct {
	dir   string
	fault fault

	seen    []string // the calls counted
	sticky  bool     // dead has begun
	cutNext uint64   // the next call of this number fails
	inside  map[int]*entry
}

// An entry says what to do when a thread's system call returns.
type entry struct {
	replace bool
	result  uint64
	kill    bool
}

// A result is the outcome of a run.
type result struct {
	status int // exit status, or 128 + the signal that ended it
	stderr string
	seen   []string
}

// run starts the program and lets the fault happen. All of it is done by one
// thread, as ptrace demands.
func (t *tracer) run(ctx context.Context, argv ...string) (result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return result{}, errors.WithStack(err)
	}
	t.inside = map[int]*entry{}
	status, err := t.follow(cmd.Process.Pid)
	cmd.Wait() // its status went to follow; this waits for stderr
	return result{status, stderr.String(), t.seen}, err
}

// follow waits for the process and its threads, and returns its status.
func (t *tracer) follow(pid int) (int, error) {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return 0, errors.WithStack(err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return 0, errors.WithStack(err)
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return 0, errors.WithStack(err)
	}
	for {
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, errors.WithStack(err)
		case ws.Exited() && tid == pid:
			return ws.ExitStatus(), nil
		case ws.Signaled() && tid == pid:
			return 128 + int(ws.Signal()), nil
		case !ws.Stopped():
			continue
		}
		sig := 0
		switch stop := ws.StopSignal(); {
		case stop == unix.SIGTRAP|0x80:
			t.syscall(pid, tid)
		case stop == unix.SIGTRAP, stop == unix.SIGSTOP: // a new thread
		default:
			sig = int(stop)
		}
		unix.PtraceSyscall(tid, sig) // fails for a thread that was killed meanwhile
	}
}

// syscall is called as a thread enters a system call, and as it leaves it.
func (t *tracer) syscall(pid, tid int) {
	var r unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &r) != nil {
		return
	}
	e := t.inside[tid]
	if e == nil {
		t.inside[tid] = t.enter(pid, tid, &r)
		return
	}
	delete(t.inside, tid)
	if e.replace {
		r.Rax = e.result
		unix.PtraceSetRegs(tid, &r)
	}
	if e.kill {
		unix.Kill(pid, unix.SIGKILL)
	}
}

// enter counts the call, and begins what is to happen to it.
func (t *tracer) enter(pid, tid int, r *unix.PtraceRegs) *entry {
	e := &entry{}
	c, ok := calls[r.Orig_rax]
	if !ok {
		return e
	}
	args := []uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}
	where, ok := t.file(pid, c, args)
	if !ok {
		return e
	}
	t.seen = append(t.seen, c.name+" "+where)
	refuse := func(result uint64) {
		r.Orig_rax = ^uint64(0) // no such call: the kernel does nothing
		unix.PtraceSetRegs(tid, r)
		e.replace, e.result = true, result
	}
	failure := uint64(-int64(t.fault.err))
	switch {
	case t.sticky && c.writes, t.cutNext != 0 && t.cutNext == r.Orig_rax:
		t.cutNext = 0
		refuse(failure)
	case len(t.seen) != t.fault.call:
	case t.fault.kind == fails:
		refuse(failure)
	case t.fault.kind == dead:
		t.sticky = true
		refuse(failure)
	case t.fault.kind == nothing && c.n >= 0:
		refuse(0)
	case t.fault.kind == killsBefore:
		refuse(0)
		unix.Kill(pid, unix.SIGKILL)
	case t.fault.kind == killsAfter:
		e.kill = true
	case t.fault.kind == terminates:
		unix.Kill(pid, unix.SIGTERM)
	case t.fault.kind == cut && c.n >= 0 && args[c.n] > 1:
		n := args[c.n] / 2
		if c.n == 2 {
			r.Rdx = n
		} else {
			r.R8 = n
		}
		t.cutNext = r.Orig_rax
		unix.PtraceSetRegs(tid, r)
	}
	return e
}

// file returns the file that a call is about, if it is below the directory.
func (t *tracer) file(pid int, c call, args []uint64) (string, bool) {
	if c.fd >= 0 {
		return t.below(link(pid, args[c.fd]))
	}
	path := text(pid, args[c.path])
	if !filepath.IsAbs(path) {
		path = filepath.Join(link(pid, args[c.dir]), path)
	}
	return t.below(path)
}

// below returns the path relative to the directory.
func (t *tracer) below(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, t.dir+"/")
	return rest, ok
}

// link returns the file of a descriptor of the process.
func link(pid int, fd uint64) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(fd)))
	return path
}

// text reads a path in the memory of the process.
func text(pid int, addr uint64) string {
	b := make([]byte, 4096)
	// Up to the end of the page: the next one may not be mapped.
	n := min(len(b), 4096-int(addr%4096))
	got := 0
	for got < len(b) {
		local := []unix.Iovec{{Base: &b[got], Len: uint64(n)}}
		remote := []unix.RemoteIovec{{Base: uintptr(addr) + uintptr(got), Len: n}}
		k, err := unix.ProcessVMReadv(pid, local, remote, 0)
		got += max(k, 0)
		if err != nil || bytes.IndexByte(b[:got], 0) >= 0 {
			break
		}
		n = min(4096, len(b)-got)
	}
	path, _, _ := bytes.Cut(b[:got], []byte{0})
	return string(path)
}
