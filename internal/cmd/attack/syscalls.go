//go:build linux && amd64

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// A trial is one command on one golden core, of which every system call fails
// in turn. In its arguments @ is the core, OUT another file.
type trial struct {
	name, core string
	args       []string
	prepare    []string // arguments of a command before it
	out        bool     // it writes OUT, and the core stays as it is
	precious   bool     // OUT is there already
}

// The command of a trial is chosen so that each way to change a dump occurs, in
// each container that has it.
var trials = []trial{
	{name: "slack", core: "kernel-slack", args: inject("--placement", "slack", "@")},
	{name: "evict", core: "cloud-c1.elf31", args: inject("--placement", "evict", "@")},
	{name: "copy", core: "cloud-c1.elf31", args: inject("--placement", "copy", "@")},
	{name: "clone", core: "cloud-c1.elf31", args: inject("--placement", "clone", "@")},
	{name: "kdump-end", core: "kdump/cloud-c1.kdump-zlib", args: inject("@")},
	{name: "kdump-copy", core: "kdump/cloud-c1.kdump-lzo", args: inject("--placement", "copy", "@")},
	{name: "kdump-clone", core: "kdump/cloud-c1.kdump-zlib", args: inject("--placement", "clone", "@")},
	{name: "flat-evict", core: "flat/cloud-c1.flat-elf31", args: inject("--placement", "evict", "@")},
	{name: "flat-end", core: "flat/cloud-c1.flat-zlib", args: inject("--placement", "end", "@")},
	{name: "flat-copy", core: "flat/cloud-c1.flat-zlib", args: inject("--placement", "copy", "@")},
	{name: "output", core: "cloud-c1.elf31", args: inject("-o", "OUT", "@"), out: true},
	{name: "output-force", core: "cloud-c1.elf31", args: inject("--force", "-o", "OUT", "@"), out: true, precious: true},
	{name: "output-flat", core: "flat/cloud-c1.flat-zlib", args: inject("-o", "OUT", "@"), out: true},
	{name: "remove-evict", core: "cloud-c1.elf31", prepare: inject("--placement", "evict", "@"), args: []string{"remove", "@"}},
	{name: "remove-copy", core: "cloud-c1.elf31", prepare: inject("--placement", "copy", "@"), args: []string{"remove", "@"}},
	{name: "remove-end", core: "kdump/cloud-c1.kdump-zlib", prepare: inject("--placement", "end", "@"), args: []string{"remove", "@"}},
	{name: "remove-flat", core: "flat/cloud-c1.flat-elf31", prepare: inject("--placement", "evict", "@"), args: []string{"remove", "@"}},
}

func inject(args ...string) []string {
	return append([]string{"inject", "--blob", "BLOB"}, args...)
}

var faults = []fault{
	{kind: fails, err: unix.EIO}, {kind: fails, err: unix.ENOSPC}, {kind: dead, err: unix.EIO}, {kind: dead, err: unix.ENOSPC},
	{kind: cut, err: unix.ENOSPC}, {kind: nothing}, {kind: killsBefore}, {kind: killsAfter}, {kind: terminates},
}

const precious = "somebody's only copy\n"

// An attacker runs trials in a directory of its own.
type attacker struct {
	program, dir       string
	core, out, blob    string
	original           []byte
	before, after      digest // of what the command works on, without a fault
	runs, clean, found int
}

// newAttacker makes the directory, with the note in it.
func newAttacker(program, below string) (*attacker, error) {
	dir, err := os.MkdirTemp(below, "attack")
	if err != nil {
		return nil, errors.WithStack(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, errors.WithStack(err)
	}
	a := &attacker{program: program, dir: dir, blob: filepath.Join(dir, "blob")}
	work := filepath.Join(dir, "work")
	a.core, a.out = filepath.Join(work, "core"), filepath.Join(work, "out")
	text := "REVISION_ID=2b\nFIELD(GUEST_RIP)=3f0\n" + strings.Repeat("FIELD(HOST_RIP)=3f8\n", 60)
	return a, errors.WithStack(os.WriteFile(a.blob, []byte(text), 0o600))
}

func (a *attacker) close() { os.RemoveAll(a.dir) }

// fresh makes the trial's directory anew, with a precious file OUT if withOut
// is true.
func (a *attacker) fresh(withOut bool) error {
	work := filepath.Dir(a.core)
	if err := os.RemoveAll(work); err != nil {
		return errors.WithStack(err)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return errors.WithStack(err)
	}
	if withOut {
		if err := os.WriteFile(a.out, []byte(precious), 0o600); err != nil {
			return errors.WithStack(err)
		}
	}
	return errors.WithStack(os.WriteFile(a.core, a.original, 0o600))
}

// argv is a trial's command with its files.
func (a *attacker) argv(args []string) []string {
	files := map[string]string{"@": a.core, "OUT": a.out, "BLOB": a.blob}
	argv := []string{a.program}
	for _, arg := range args {
		if file, ok := files[arg]; ok {
			arg = file
		}
		argv = append(argv, arg)
	}
	return argv
}

// run runs the command with a fault. It fails if the command hangs.
func (a *attacker) run(ctx context.Context, args []string, f fault) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	t := &tracer{dir: filepath.Dir(a.core), fault: f}
	res, err := t.run(ctx, a.argv(args)...)
	if err == nil && ctx.Err() != nil {
		err = errors.Wrapf(ctx.Err(), "call %d %v", f.call, f)
	}
	return res, err
}

// syscalls tries all trials, or those named.
func syscalls(ctx context.Context, program, below string, every int, names []string) error {
	a, err := newAttacker(program, below)
	if err != nil {
		return err
	}
	defer a.close()
	for _, t := range trials {
		if len(names) > 0 && !slices.Contains(names, t.name) {
			continue
		}
		if err := a.try(ctx, t, every); err != nil {
			return errors.Wrap(err, t.name)
		}
	}
	fmt.Printf("%d faults injected: %d commands reported an error or were killed, %d did their work all the same; %d dumps harmed\n",
		a.runs, a.runs-a.clean, a.clean, a.found)
	if a.found > 0 {
		return errors.New("a dump was harmed")
	}
	if a.runs == 0 {
		return errors.New("no fault was injected")
	}
	return nil
}

// try runs a trial once without a fault, and then once for each call and fault.
func (a *attacker) try(ctx context.Context, t trial, every int) error {
	var err error
	if a.original, err = bytesOf(t.core); err != nil {
		return err
	}
	if err := a.fresh(t.precious); err != nil {
		return err
	}
	if t.prepare != nil {
		if res, err := a.run(ctx, t.prepare, fault{}); err != nil || res.status != 0 {
			return errors.Errorf("prepare: status %d: %s (%v)", res.status, res.stderr, err)
		}
		if a.original, err = os.ReadFile(a.core); err != nil {
			return errors.WithStack(err)
		}
	}
	if a.before, err = digestFile(a.core); err != nil {
		return err
	}
	plain, err := a.run(ctx, t.args, fault{})
	if err != nil {
		return err
	}
	if plain.status != 0 {
		if strings.Contains(plain.stderr, "clone") {
			fmt.Printf("%-14s not tried: this file system cannot share blocks\n", t.name)
			return nil
		}
		return errors.Errorf("without a fault: status %d: %s", plain.status, plain.stderr)
	}
	if a.after, err = digestFile(a.target(t)); err != nil {
		return err
	}
	if !a.after.same(a.before) || a.after.note == a.before.note {
		return errors.New("without a fault: the dump is not what it should be")
	}
	if len(plain.seen) < 10 {
		return errors.Errorf("only %d system calls seen: the trial tries nothing", len(plain.seen))
	}
	runs := a.runs
	for _, f := range faults {
		for f.call = 1; f.call <= len(plain.seen); f.call += every {
			if err := a.one(ctx, t, f); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%-14s %4d system calls, %5d faults\n", t.name, len(plain.seen), a.runs-runs)
	return nil
}

// target is the file that the trial writes.
func (a *attacker) target(t trial) string {
	if t.out {
		return a.out
	}
	return a.core
}

// one injects one fault and judges what is left.
func (a *attacker) one(ctx context.Context, t trial, f fault) error {
	if err := a.fresh(t.precious); err != nil {
		return err
	}
	res, err := a.run(ctx, t.args, f)
	if err != nil {
		return err
	}
	a.runs++
	if res.status == 0 {
		a.clean++
	}
	var bad []string
	complain := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	if t.out {
		if b, err := os.ReadFile(a.core); err != nil || string(b) != string(a.original) {
			complain("the input changed (%v)", err)
		}
	}
	a.judge(t, res, complain)
	killed := f.kind == killsBefore || f.kind == killsAfter
	if entries, err := os.ReadDir(filepath.Dir(a.core)); err != nil {
		return errors.WithStack(err)
	} else if !killed && f.kind != dead && !strings.HasPrefix(last(res.seen, f.call), "unlinkat") {
		for _, e := range entries {
			if name := e.Name(); name != "core" && name != "out" {
				complain("left %s", name)
			}
		}
	}
	if strings.Contains(res.stderr, "goroutine ") {
		complain("panic")
	}
	if len(bad) > 0 {
		a.found++
		fmt.Printf("HARM %s: call %d (%s) %v, status %d: %s\n%s", t.name, f.call, last(res.seen, f.call), f, res.status,
			strings.Join(bad, "; "), res.stderr)
	}
	return nil
}

// last returns the call that the fault was for.
func last(seen []string, call int) string {
	if call < 1 || call > len(seen) {
		return "not reached"
	}
	return seen[call-1]
}

// judge compares what the command left with what was there.
func (a *attacker) judge(t trial, res result, complain func(string, ...any)) {
	got, err := digestFile(a.target(t))
	switch {
	case t.out && errors.Is(err, os.ErrNotExist):
		if res.status == 0 {
			complain("status 0, but there is no output")
		}
		return
	case t.precious:
		if b, _ := os.ReadFile(a.out); string(b) == precious {
			if res.status == 0 {
				complain("status 0, but the output is the old file")
			}
			return
		}
	}
	switch {
	case err != nil:
		complain("it does not open: %v", err)
	case !got.same(a.before):
		complain("notes or memory are not what they were")
	case res.status == 0 && got.note != a.after.note:
		complain("status 0, but the change is not made")
	case t.out && got.note != a.after.note:
		complain("the output lacks the change")
	}
}
