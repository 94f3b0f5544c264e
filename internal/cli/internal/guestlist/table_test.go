package guestlist

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"vmcsnote/guest"
)

// TestPrintList: on a terminal long names are cut until lines fit, but
// something of them stays; elsewhere only what is longer than any name is cut.
func TestPrintList(t *testing.T) {
	machine := func(name string) *Host {
		v := &guest.VCPU{HostCPU: 12, TID: 4711, State: "halted", Regs: &guest.Registers{}}
		return &Host{Host: &guest.Host{Machines: []*guest.Machine{{Name: name, PID: 4700, VCPUs: []*guest.VCPU{v}}}}}
	}
	long := strings.Repeat("дом-", 30)
	for _, tt := range []struct {
		name, machine string
		width         int
		want          string // the name as it is printed
		most          int    // columns of the longest line; 0 for any
	}{
		{"a short name", "web01", 80, "web01", 80},
		{"a pipe", long, 0, long, 0},
		{"a pipe, a forged name", strings.Repeat("x", 128<<10), 0, strings.Repeat("x", longName-1) + "…", 0},
		{"a terminal", long, 80, "дом-дом-до…", 80},
		{"a wide terminal", long, 300, long, 300},
		{"a narrow terminal", long, 20, "дом-дом…", 0},
		{"a narrow terminal, a short name", "web01", 20, "web01", 0},
		{"control characters", "a\x1b[2Jb", 80, `a\x1b[2Jb`, 80},
		{"no name", "", 80, "-", 80},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			machine(tt.machine).printList(&b, tt.width)
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if len(lines) != 2 || strings.Fields(lines[1])[1] != tt.want {
				t.Errorf("%s, expected the name %q", &b, tt.want)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); tt.most != 0 && n > tt.most {
					t.Errorf("%d columns: %q", n, line)
				}
			}
		})
	}
}

// TestPrintListOfMany: every machine has a line, even without a vCPU.
func TestPrintListOfMany(t *testing.T) {
	h := &Host{Host: new(guest.Host)}
	for i := range 8192 {
		h.Machines = append(h.Machines, &guest.Machine{Number: i, Name: fmt.Sprint("vm", i), PID: 100 + i})
	}
	var b strings.Builder
	h.printList(&b, 80)
	if n := strings.Count(b.String(), "\n"); n != 8193 {
		t.Errorf("%d lines", n)
	}
}
