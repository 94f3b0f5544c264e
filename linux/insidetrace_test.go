package linux_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmcsnote/linux"
)

// backtraces returns the backtraces of the vCPUs of one of the golden guests.
func backtraces(t *testing.T, name string) (all [][]linux.Frame) {
	t.Helper()
	g := openInside(t, name)
	for _, v := range g.look(g.k).VCPUs {
		all = append(all, v.Backtrace)
	}
	return all
}

// TestInsideCrash compares backtraces with those of crash, which had the
// kernel's debug information (testdata/cores/linux-inside/NAME.bt). crash adds
// functions that returned before, as it goes by the sizes of frames and guesses
// where it loses the thread.
func TestInsideCrash(t *testing.T) {
	for _, test := range []struct {
		name  string
		vcpu  int
		more  int      // frames that only crash has
		lacks []string // frames that crash lacks
	}{
		{"6.1", 0, 11, nil},
		{"6.1", 2, 0, nil},
		{"6.1-panic", 0, 7, []string{"delay_tsc+0x33"}}, // crash begins at panic
		{"6.1-panic", 1, 0, nil},
		{"6.1-panic", 2, 2, []string{"stop_this_cpu+0x6b", "asm_sysvec_reboot+0x16"}}, // an interrupt's stack between
	} {
		t.Run(fmt.Sprintf("%s vCPU %d", test.name, test.vcpu), func(t *testing.T) {
			theirs := crashFrames(t, said(t, test.name, "bt"), test.vcpu)
			more, next := 0, 0
			var lacks []string
			for _, f := range backtraces(t, test.name)[test.vcpu] {
				line := fmt.Sprintf("%s at %x", f.Symbol.Name, f.Addr)
				at := slices.Index(theirs[next:], line)
				if at < 0 {
					lacks = append(lacks, f.Symbol.String())
					continue
				}
				more += at
				next += at + 1
				if f.Found != linux.ByORC {
					t.Errorf("%s by %s", line, f.Found)
				}
			}
			if more += len(theirs) - next; more != test.more || !slices.Equal(lacks, test.lacks) || next == 0 {
				t.Errorf("crash has %d frames more, want %d; it lacks %q, want %q", more, test.more, lacks, test.lacks)
			}
		})
	}
}

var (
	crashFrame = regexp.MustCompile(`^ *#\d+ \[[0-9a-f]+\] (.* at [0-9a-f]+)`)
	crashStart = regexp.MustCompile(`^ *\[exception RIP: (\w+)`)
	crashRIP   = regexp.MustCompile(`^ *RIP: ([0-9a-f]+) `)
)

// crashFrames returns the frames of a vCPU out of what bt -a prints: "NAME at
// ADDRESS". The first is where it was interrupted, if crash knows.
func crashFrames(t *testing.T, text string, vcpu int) (all []string) {
	t.Helper()
	_, text, found := strings.Cut(text, fmt.Sprintf("  CPU: %d  ", vcpu))
	if !found {
		t.Fatalf("crash has no CPU %d", vcpu)
	}
	text, _, _ = strings.Cut(text, "\n\n")
	start := ""
	for line := range strings.Lines(text) {
		if m := crashStart.FindStringSubmatch(line); m != nil {
			start = m[1]
		} else if m := crashRIP.FindStringSubmatch(line); m != nil && start != "" {
			if start != "unknown" {
				all = append(all, start+" at "+m[1])
			}
			start = ""
		} else if m := crashFrame.FindStringSubmatch(line); m != nil {
			all = append(all, m[1])
		}
	}
	return all
}

// TestInsideCallTrace compares the stack of a kernel that panicked with what
// the kernel printed of it.
func TestInsideCallTrace(t *testing.T) {
	entry := regexp.MustCompile(`^\[ *\d+\.\d+\]  ((\w|\.)+\+0x[0-9a-f]+)/0x[0-9a-f]+$`)
	for _, name := range insides {
		if !strings.HasSuffix(name, "-panic") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			_, trace, _ := strings.Cut(said(t, name, "console"), "Call Trace:\n")
			trace, _, _ = strings.Cut(trace, "RIP: ")
			var want []string // without those that the kernel is not sure of, which have a question mark
			for line := range strings.Lines(trace) {
				if m := entry.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
					want = append(want, m[1])
				}
			}
			var got []string
			for _, f := range backtraces(t, name)[0] {
				got = append(got, f.Symbol.String())
			}
			from := slices.IndexFunc(want, func(s string) bool { return strings.HasPrefix(s, "sysrq_handle_crash") })
			if from < 1 || len(want)-from < 6 || len(got) < len(want)-from || !slices.Equal(got[len(got)-len(want)+from:], want[from:]) {
				t.Errorf("got %s\nthe kernel printed %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
