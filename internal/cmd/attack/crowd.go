//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/errors"
)

// crowd runs two injectors, a remover, a copier and a verifier on one dump at
// once, stops and kills some of them, and checks what is left. Meanwhile it
// reads the dump slowly, as an upload does: that must read a whole dump, the
// old one or a new one.
func crowd(ctx context.Context, program, below string, rounds int, seed uint64) error {
	a, err := newAttacker(program, below)
	if err != nil {
		return err
	}
	defer a.close()
	r := rand.New(rand.NewPCG(seed, 1))
	tally := map[string]int{}
	for _, t := range trials {
		if t.out || t.prepare != nil || strings.Contains(t.name, "clone") {
			continue
		}
		if a.original, err = bytesOf(t.core); err != nil {
			return err
		}
		if err := a.fresh(false); err != nil {
			return err
		}
		if a.before, err = digestFile(a.core); err != nil {
			return err
		}
		for i := range rounds {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := a.round(t, r, tally); err != nil {
				return errors.Wrapf(err, "%s, round %d of seed %d", t.name, i, seed)
			}
		}
	}
	fmt.Printf("%d rounds on %s: %d dumps left with the note, %d without; %d uploads, none harmed\n",
		tally["with"]+tally["without"], below, tally["with"], tally["without"], tally["uploads"])
	if tally["with"] == 0 || tally["without"] == 0 {
		return errors.New("the commands never got into each other's way")
	}
	return nil
}

// round is one crowd.
func (a *attacker) round(t trial, r *rand.Rand, tally map[string]int) error {
	if err := a.fresh(false); err != nil {
		return err
	}
	commands := [][]string{
		a.argv(t.args), a.argv(t.args), a.argv([]string{"remove", "@"}),
		a.argv([]string{"inject", "--blob", "BLOB", "-o", "OUT", "@"}), a.argv([]string{"verify", "@"}),
	}
	delay := time.Duration(r.IntN(30)) * time.Millisecond
	r.Shuffle(len(commands), func(i, j int) { commands[i], commands[j] = commands[j], commands[i] })
	uploaded := make(chan upload, 1)
	go func() {
		time.Sleep(delay)
		uploaded <- a.upload()
	}()
	var running []*exec.Cmd
	for _, argv := range commands {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stderr = &bytes.Buffer{}
		if err := cmd.Start(); err != nil {
			return errors.WithStack(err)
		}
		running = append(running, cmd)
		time.Sleep(time.Duration(r.IntN(8000)) * time.Microsecond)
	}
	if r.IntN(2) == 0 {
		p := running[r.IntN(len(running))].Process
		p.Signal(syscall.SIGSTOP)
		time.Sleep(20 * time.Millisecond)
		p.Signal(syscall.SIGCONT)
	}
	if r.IntN(4) == 0 {
		running[r.IntN(len(running))].Process.Signal([]os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP}[r.IntN(3)])
	}
	for i, cmd := range running {
		cmd.Wait() // some fail: the dump is busy, or has the note
		if text := cmd.Stderr.(*bytes.Buffer).String(); strings.Contains(text, "goroutine ") {
			return errors.Errorf("%v: panic: %s", commands[i], text)
		}
	}
	now, err := digestFile(a.core)
	if err != nil {
		return errors.Wrap(err, "the dump")
	}
	if !now.same(a.before) {
		return errors.New("the dump is not what it was")
	}
	if now.note {
		tally["with"]++
	} else {
		tally["without"]++
	}
	if out, err := digestFile(a.out); err == nil && !out.same(a.before) {
		return errors.New("the output is another dump")
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Wrap(err, "the output")
	}
	u := <-uploaded
	if u.err != nil {
		return errors.Wrap(u.err, "reading the dump")
	}
	tally["uploads"]++
	if got, err := digestOf(bytes.NewReader(u.b), int64(len(u.b))); err != nil || !got.same(a.before) {
		return errors.Errorf("an upload got neither the old dump nor a new one (%v)", err)
	}
	return nil
}

// An upload is what a slow reader got.
type upload struct {
	b   []byte
	err error
}

// upload reads the dump as a program that sends it elsewhere: by one
// descriptor, from the first byte to the last, slowly.
func (a *attacker) upload() (u upload) {
	f, err := os.Open(a.core)
	if err != nil {
		return upload{err: errors.WithStack(err)}
	}
	defer f.Close()
	piece := make([]byte, len(a.original)/16+1)
	for {
		n, err := f.Read(piece)
		u.b = append(u.b, piece[:n]...)
		if err == io.EOF {
			return u
		}
		if err != nil {
			return upload{err: errors.WithStack(err)}
		}
		time.Sleep(4 * time.Millisecond)
	}
}
