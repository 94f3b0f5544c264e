// Package qemuregs reads what QEMU's monitor prints for "info registers": the
// truth that tests compare registers with.
package qemuregs

import (
	"bufio"
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// A CPU is the state of a virtual CPU in long mode, as QEMU prints it.
type CPU struct {
	// Registers are RAX to R15, RIP, RFLAGS, CR0, CR2, CR3, CR4 and EFER by
	// their names.
	Registers map[string]uint64
	// Segments are ES to GS, LDTR, TR, GDTR and IDTR by their names.
	Segments map[string]SegmentState
}

// A SegmentState is a segment register. Flags are the upper half of a segment
// descriptor without its base and limit, 0 for one that is not usable.
type SegmentState struct {
	Selector, Base, Limit, Flags uint64
}

// names are the registers' names by QEMU's abbreviations.
var names = map[string]string{"RFL": "RFLAGS", "LDT": "LDTR", "GDT": "GDTR", "IDT": "IDTR"}

var (
	register = regexp.MustCompile(`\b(R[A-Z0-9]{1,2}|CR[0234]|EFER|RFL) *=([0-9a-f]+)`)
	segment  = regexp.MustCompile(`^([A-Z]{2,3}) *=(?:([0-9a-f]{4}) | +)([0-9a-f]{8,16}) ([0-9a-f]{8})(?: ([0-9a-f]{8}))?`)
)

// Parse returns the CPUs in the text.
func Parse(text string) ([]CPU, error) {
	var all []CPU
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "CPU#") {
			all = append(all, CPU{map[string]uint64{}, map[string]SegmentState{}})
			continue
		}
		if len(all) == 0 {
			continue
		}
		c := &all[len(all)-1]
		if m := segment.FindStringSubmatch(line); m != nil && slices.Contains([]string{"ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR", "GDT", "IDT"}, m[1]) {
			c.Segments[cmp.Or(names[m[1]], m[1])] = SegmentState{hex(m[2]), hex(m[3]), hex(m[4]), hex(m[5])}
			continue
		}
		for _, m := range register.FindAllStringSubmatch(line, -1) {
			c.Registers[cmp.Or(names[m[1]], m[1])] = hex(m[2])
		}
	}
	for i, c := range all {
		if len(c.Registers) != 23 || len(c.Segments) != 10 {
			return nil, errors.Errorf("CPU %d: %d registers, %d segments, expected 23 and 10", i, len(c.Registers), len(c.Segments))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no CPU")
	}
	return all, nil
}

func hex(s string) uint64 {
	v, _ := strconv.ParseUint(s, 16, 64)
	return v
}
