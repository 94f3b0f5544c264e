// Pages makes kdump-compressed dumps to measure vmcsnote on, and inflates their
// pages and nothing else, for vmcsnote to be compared with; and dumps of KVM
// hosts; and flattens dumps:
//
//	pages make raw|zlib|zstd N HOLE HEAD BLOB OUT
//	pages inflate DUMP ROUNDS
//	pages host|crowd N HOST OUT
//	pages machines N VCPUS HOST OUT
//	pages flatten DUMP OUT
//
// It is a program of its own because it takes memory: what the kernel reports
// as a process's peak memory is at least that of the process that started it.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/pkg/errors"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "pages: error: %v\n", err)
		os.Exit(1)
	}
}

// numbers reads arguments that are numbers.
func numbers(args []string) (all []int64, err error) {
	for _, a := range args {
		n, err := strconv.ParseInt(a, 10, 32)
		if err != nil {
			return nil, errors.WithStack(err)
		}
		all = append(all, n)
	}
	return all, nil
}

func run(args []string) error {
	switch {
	case len(args) == 7 && args[0] == "make":
		n, err := numbers(args[2:4])
		if err != nil {
			return err
		}
		s := spec{method: args[1], pages: n[0], hole: n[1]}
		if s.head, err = os.ReadFile(args[4]); err != nil {
			return errors.WithStack(err)
		}
		if s.note, err = os.ReadFile(args[5]); err != nil {
			return errors.WithStack(err)
		}
		return s.make(args[6])
	case len(args) == 4 && (args[0] == "host" || args[0] == "crowd"):
		n, err := numbers(args[1:2])
		if err != nil {
			return err
		}
		return hostSpec{args[2], n[0], args[0] == "crowd"}.make(args[3])
	case len(args) == 5 && args[0] == "machines":
		n, err := numbers(args[1:3])
		if err != nil {
			return err
		}
		return makeMachines(args[3], n[0], n[1], args[4])
	case len(args) == 3 && args[0] == "flatten":
		return flatten(args[1], args[2])
	case len(args) == 3 && args[0] == "inflate":
		rounds, err := strconv.Atoi(args[2])
		if err != nil {
			return errors.WithStack(err)
		}
		d, err := load(args[1])
		if err != nil {
			return errors.Wrap(err, args[1])
		}
		took, err := d.inflate(rounds)
		if err != nil {
			return errors.Wrap(err, args[1])
		}
		_, err = fmt.Println(took)
		return errors.WithStack(err)
	}
	return errors.New("usage: pages make raw|zlib|zstd N HOLE HEAD BLOB OUT, pages inflate DUMP ROUNDS, pages host|crowd N HOST OUT, pages machines N VCPUS HOST OUT, or pages flatten DUMP OUT")
}
