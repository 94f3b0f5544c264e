// Svmcheck compares what vmcsnote and QEMU tell about a guest.
//
//	svmcheck registers REPORT GUEST TRUTH    REPORT is of guests --json, TRUTH of "info registers -a"
//	svmcheck process REPORT NAME TRUTH       TRUTH is lines of pid N, cgroup PATH, thread TID NAME
//	svmcheck memory CORE MEMORY              CORE is of extract, MEMORY of pmemsave from 0 on
//
// It prints what differs, and its exit status is 1 if anything does. The guest
// must be paused for all of it to be the same.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/internal/qemuregs"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "svmcheck: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "registers":
		return registers(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "process":
		return process(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "memory":
		return memory(args[1], args[2])
	}
	return errors.New("usage: svmcheck registers REPORT GUEST TRUTH | process REPORT NAME TRUTH | memory CORE MEMORY")
}

// readBoth reads the JSON that guests printed into r, and returns the text that
// it is compared with.
func readBoth(report string, r any, truth string) ([]byte, error) {
	b, err := os.ReadFile(report)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, errors.WithMessage(err, report)
	}
	return os.ReadFile(truth)
}

// A vcpu is one of guests --json.
type vcpu struct {
	Registers map[string]struct{ Value string }
	Segments  []struct{ Name, Selector, Base, Limit, Rights string }
	Fields    map[string]string
}

// registers compares all of a guest's registers that QEMU prints.
func registers(report, guest, truth string) error {
	var r struct {
		Guests []struct {
			Guest string
			VCPUs []vcpu
		}
	}
	b, err := readBoth(report, &r, truth)
	if err != nil {
		return err
	}
	cpus, err := qemuregs.Parse(string(b))
	if err != nil {
		return errors.WithMessage(err, truth)
	}
	for _, g := range r.Guests {
		if g.Guest != guest {
			continue
		}
		if len(g.VCPUs) != len(cpus) {
			return errors.Errorf("guest %s has %d vCPUs, QEMU %d", guest, len(g.VCPUs), len(cpus))
		}
		wrong := 0
		for i, v := range g.VCPUs {
			wrong += v.differs(cpus[i])
		}
		if wrong > 0 {
			return errors.Errorf("%d registers differ", wrong)
		}
		return nil
	}
	return errors.Errorf("%s has no guest %s", report, guest)
}

// differs prints the registers that differ, and counts them.
func (v *vcpu) differs(want qemuregs.CPU) (wrong int) {
	compare := func(name, got string, want uint64) {
		if x, err := strconv.ParseUint(got, 0, 64); err != nil || x != want {
			fmt.Printf("%s is %q, QEMU has %#x\n", name, got, want)
			wrong++
		}
	}
	for name, x := range want.Registers {
		compare(name, v.Registers[name].Value, x)
	}
	for _, s := range v.Segments {
		w := want.Segments[s.Name]
		compare(s.Name, s.Selector, w.Selector)
		compare(s.Name+".BASE", s.Base, w.Base)
		compare(s.Name+".LIMIT", s.Limit, w.Limit)
		rights, _ := strconv.ParseUint(s.Rights, 0, 64)
		const unusable = 1 << 16
		flags := rights & 0xf0ff << 8
		if rights&unusable != 0 {
			flags = 0
		}
		compare(s.Name+".RIGHTS", fmt.Sprint(flags), w.Flags)
	}
	if len(v.Segments) != 8 {
		fmt.Printf("%d segments, expected 8\n", len(v.Segments))
		wrong++
	}
	for _, table := range []string{"gdtr", "idtr"} {
		w := want.Segments[strings.ToUpper(table)]
		compare(table+".base", v.Fields["save."+table+".base"], w.Base)
		compare(table+".limit", v.Fields["save."+table+".limit"], w.Limit)
	}
	return wrong
}
