package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

func TestRatioOf(t *testing.T) {
	tests := []struct {
		name   string
		ratios []float64
		want   ratio
	}{
		{"one", []float64{2}, ratio{2, 2, 2}},
		{"even number", []float64{4, 1, 3, 2}, ratio{1, 2.5, 4}},
		{"outlier", []float64{1, 1.1, 100, 0.9, 1.2}, ratio{1, 1.1, 1.2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ratioOf(tt.ratios); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPairsTakesTurns(t *testing.T) {
	var order strings.Builder
	side := func(name string, took time.Duration) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			order.WriteString(name)
			return took, nil
		}
	}
	r, err := pairs(3, side("a", 30), side("b", 20))
	if err != nil {
		t.Fatal(err)
	}
	if want := (ratio{1.5, 1.5, 1.5}); r != want || order.String() != "abbaab" {
		t.Errorf("%v in the order %s, want %v in the order abbaab", r, &order, want)
	}
}

func TestTable(t *testing.T) {
	var tab table
	tab.ratioAtMost("time", ratio{1, 1.2, 2}, 1.2)
	tab.skip("XFS", "only root can mount")
	var b strings.Builder
	if ok, err := tab.write(&b); err != nil || !ok {
		t.Errorf("all bounds kept: %v, %v", ok, err)
	}
	tab.ratioAtLeast("throughput", ratio{0.7, 0.79, 0.9}, 0.8)
	b.Reset()
	if ok, err := tab.write(&b); err != nil || ok {
		t.Errorf("a bound failed: %v, %v", ok, err)
	}
	want := `
| case       | figure              | bound  |         |
| ---------- | ------------------- | ------ | ------- |
| time       | 1.20 [1.00, 2.00]   | ≤ 1.20 | ok      |
| XFS        | only root can mount |        | skipped |
| throughput | 0.79 [0.70, 0.90]   | ≥ 0.80 | FAIL    |
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got%swant%s", got, want)
	}
}

func TestDataRuns(t *testing.T) {
	for _, share := range []float64{0, 0.33, 1} {
		const n = 100_000
		var sum, end int64
		for first, run := range dataRuns(rand.NewPCG(1, 2), n, share) {
			if first < end || run < 1 || run > maxRun || first+run > n {
				t.Fatalf("run of %d blocks at %d after %d", run, first, end)
			}
			end = first + run
			sum += run
		}
		if got := float64(sum) / n; got < share-0.02 || got > share+0.02 {
			t.Errorf("%.3f of the blocks, want %.3f", got, share)
		}
	}
}

func TestGrow(t *testing.T) {
	path := testcores.Open(t, "deb-t1.thin")
	before, err := loads(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := grow(path, largeSize); err != nil {
		t.Fatal(err)
	}
	after, err := loads(path)
	if err != nil {
		t.Fatal(err)
	}
	last := len(before) - 1
	want := before[last]
	want.Filesz, want.Memsz = largeSize-want.Off, largeSize-want.Off
	before[last] = want
	for i, p := range after {
		if p != before[i] {
			t.Errorf("PT_LOAD %d is %+v, want %+v", i, p, before[i])
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != largeSize {
		t.Errorf("%d bytes, %v, want %d", info.Size(), err, int64(largeSize))
	}
}

func TestLoadsRefuses(t *testing.T) {
	path := testcores.Open(t, "no-load")
	if ps, err := loads(path); err == nil {
		t.Errorf("no error for a core without memory, but %v", ps)
	}
	if _, err := loads(os.DevNull); err == nil {
		var format *elf.FormatError
		t.Errorf("no error for an empty file, want one like %T", format)
	}
}

func TestPipeline(t *testing.T) {
	sh := func(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }
	if _, err := pipeline(sh("echo x"), sh("cat"), sh("read a && test $a = x")); err != nil {
		t.Error(err)
	}
	_, err := pipeline(sh("echo x"), sh("read a; echo 'tool: error: no room' >&2; echo 'tool: hint: make some' >&2; exit 3"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "sh: no room: exit status 3") {
		t.Errorf("error %v", err)
	}
	if _, err := pipeline(sh("true"), exec.Command("/nonexistent/tool")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want one that no such file is there", err)
	}
}

func TestWiden(t *testing.T) {
	path := testcores.Open(t, "linux-host/intel-6.1-d31")
	open := func() (*vmcore.File, []physmem.Range) {
		f, err := vmcore.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, slices.Collect(f.Ranges())
	}
	small, before := open()
	if err := widen(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	large, after := open()
	if !slices.Equal(before, after) {
		t.Errorf("%d ranges, %d before", len(after), len(before))
	}
	last := before[len(before)-1]
	a, b := make([]byte, last.Size), make([]byte, last.Size)
	if _, err := small.ReadPhys(a, last.Addr); err != nil {
		t.Fatal(err)
	}
	if _, err := large.ReadPhys(b, last.Addr); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the last pages differ, error %v", err)
	}
}
