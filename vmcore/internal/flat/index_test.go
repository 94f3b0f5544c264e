package flat_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestOverlaps: whatever the records, it reads as they overwrite one another.
func TestOverlaps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var records []testdumps.Record
		off := 0
		for range 1 + rng.IntN(12) {
			if rng.IntN(3) == 0 {
				off = rng.IntN(60)
			}
			body := bytes.Repeat([]byte{byte('a' + len(records))}, 1+rng.IntN(2)*rng.IntN(20))
			records = append(records, testdumps.At(int64(off), body))
			off += len(body)
		}
		b := testdumps.Flat(records...)
		f, err := flat.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := plainOf(t, f), testdumps.Rearranged(t, b); !bytes.Equal(got, want) {
			t.Fatalf("it reads\n%q, want\n%q, of %v", got, want, records)
		}
		holders := make([]int, f.View.Size)
		for _, r := range records {
			for i := range r.Body {
				holders[r.Off+int64(i)]++
			}
		}
		for off, n := range holders {
			if got := slices.ContainsFunc(f.View.Shared, plan.Extent{Off: uint64(off), Size: 1}.Overlaps); got != (n > 1) {
				t.Fatalf("%d records hold offset %d, shared: %v, of %v", n, off, got, records)
			}
			if _, _, held := flat.FindRun(f.View.Runs, int64(off)); held != (n > 0) {
				t.Fatalf("%d records hold offset %d, held: %v, of %v", n, off, held, records)
			}
		}
	}
}

// TestMemory: an index stays small, and is bounded where it cannot be.
func TestMemory(t *testing.T) {
	const n = 1 << 20
	plain := make([]byte, 4*n)
	for _, tc := range []struct {
		name string
		make func(yield func(off, size int64))
		runs int
		most uint64
	}{
		{"a million small records in order", func(yield func(int64, int64)) {
			for i := range int64(n) {
				yield(4*i, 4)
			}
		}, 1, 1 << 20},
		{"a million bytes, with a hole between any two", func(yield func(int64, int64)) {
			for i := range int64(n) {
				yield(4*i, 1)
			}
		}, n, 24 * n * 6},
		{"a million bytes over one another", func(yield func(int64, int64)) {
			for i := range int64(n) {
				yield(n-i, 1+i%3)
			}
		}, n / 3, 24 * n * 12},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := flat.Header()
			tc.make(func(off, size int64) {
				b = append(append(b, testdumps.RecordHeader(off, size)...), plain[:size]...)
			})
			b = append(b, flat.EndMarker...)
			before := testdumps.Allocated()
			f, err := flat.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if got := testdumps.Allocated() - before; got > tc.most {
				t.Errorf("%d bytes allocated", got)
			}
			if got := len(f.View.Runs); got < tc.runs || got > tc.runs*3/2+2 {
				t.Errorf("%d runs, want about %d", got, tc.runs)
			}
		})
	}
	t.Run("too many", func(t *testing.T) {
		b := flat.Header()
		for i := range int64(flat.MaxRuns + 1) {
			b = append(append(b, testdumps.RecordHeader(2*i, 1)...), 'x')
		}
		b = append(b, flat.EndMarker...)
		if _, err := flat.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, flat.ErrTooManyRecords) {
			t.Errorf("got %v", err)
		}
	})
}

// TestHuge looks at records and holes of sizes that no test can hold.
func TestHuge(t *testing.T) {
	var runs []flat.Run
	pos := int64(flat.HeaderSize + flat.RecordHeader)
	for _, r := range []struct{ off, size int64 }{{0, 5 << 30}, {5 << 30, 64 << 10}, {5<<30 + 64<<10, 64 << 10}, {1 << 40, 3}} {
		runs = flat.AppendRecord(runs, r.off, pos, r.size)
		pos += r.size + flat.RecordHeader
	}
	held, shared, err := flat.Resolve(runs)
	if err != nil || len(shared) > 0 || len(held) != 7 {
		t.Fatalf("%v, %v, %v", held, shared, err)
	}
	const second = flat.HeaderSize + 2*flat.RecordHeader + 5<<30
	for _, tc := range []struct {
		off, pos, n int64
		held        bool
	}{
		{0, flat.HeaderSize + flat.RecordHeader, 1 << 30, true},
		{5<<30 - 1, second - flat.RecordHeader - 1, 1, true},
		{5 << 30, second, 64 << 10, true},
		{5<<30 + 64<<10 + 1, second + flat.RecordHeader + 64<<10 + 1, 64<<10 - 1, true},
		{5<<30 + 128<<10, 0, 1<<40 - 5<<30 - 128<<10, false},
		{1<<40 + 2, pos - flat.RecordHeader - 1, 1, true},
		{1<<40 + 3, 0, math.MaxInt64 - 1<<40 - 3, false},
	} {
		if pos, n, held := flat.FindRun(held, tc.off); pos != tc.pos || n != tc.n || held != tc.held {
			t.Errorf("at %#x: %#x, %#x, %v; want %#x, %#x, %v", tc.off, pos, n, held, tc.pos, tc.n, tc.held)
		}
	}
}
