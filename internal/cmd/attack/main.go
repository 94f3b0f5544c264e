//go:build linux && amd64

// Command attack tries to make vmcsnote lose a dump. It is for developers;
// scripts/attack builds it and runs it, and doc/reliability.md has what it
// found.
//
//	attack mutate [--runs N] [--seed S]
//	attack syscalls --program VMCSNOTE --dir DIR [--every N] [CASE...]
//	attack crowd --program VMCSNOTE --dir DIR [--rounds N] [--seed S]
//
// mutate changes header fields of golden cores and lets the library read and
// change the result. syscalls fails every system call of a change in turn.
// crowd runs several commands on one dump at once. All of them apply the same
// rule: notes and memory of a dump are what they were before, with or without
// VMCSINFO, and without it the command must report an error.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	flags := pflag.NewFlagSet("attack", pflag.ContinueOnError)
	var (
		program = flags.String("program", "", "the vmcsnote to attack")
		dir     = flags.String("dir", os.TempDir(), "work below this directory: its file system is tried")
		runs    = flags.Int("runs", 2000, "mutate: number of mutated dumps")
		rounds  = flags.Int("rounds", 20, "crowd: rounds per placement")
		seed    = flags.Uint64("seed", 1, "seed of all random choices")
		every   = flags.Int("every", 1, "syscalls: fail every Nth call only")
	)
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	var err error
	switch flags.Arg(0) {
	case "mutate":
		err = mutate(ctx, *dir, *runs, *seed)
	case "syscalls":
		err = syscalls(ctx, *program, *dir, *every, flags.Args()[1:])
	case "crowd":
		err = crowd(ctx, *program, *dir, *rounds, *seed)
	default:
		fmt.Fprintln(os.Stderr, "attack: expected mutate, syscalls or crowd")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "attack: %v\n", err)
		os.Exit(1)
	}
}
